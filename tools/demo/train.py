"""Trains sconce's demo model from scratch, on texts that `corpus` makes, and writes the files of assets/demo.

    python tools/demo/train.py --out assets/demo

Needs torch (2.9 or newer, for Muon), tokenizers, safetensors and numpy. Runs on the CPU.
"""

import argparse
import json
import pathlib
import tempfile
import time

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import distributed, multiprocessing, nn
from torch.nn import functional as F

import corpus

SEED = 20
VOCABULARY, HIDDEN, LAYERS, HEADS, KV_HEADS, INNER, CONTEXT = 2048, 192, 5, 6, 2, 512, 1024
ROPE_THETA, EPSILON = 10_000.0, 1e-5
TEXT, SYSTEM, USER, ASSISTANT, END = "<|text|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
# Of one process; a step is the mean over all of them.
BATCH_TOKENS = 3072
# Few shapes: the matrix library compiles its kernels for each shape anew.
LENGTHS = (32, 48, 64, 96, 128, 160, 192, 256, 384, 512, 768, 1024)

TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role not in ['system', 'user', 'assistant'] -%}
{{- raise_exception('The demo model knows the roles system, user and assistant.') -}}
{%- endif -%}
{{- '<|' + message.role + '|>' + message.content + '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


def train_tokenizer(rng):
    """Byte-level BPE; a digit is a token of its own, so that sums are learned on digits."""
    tokenizer = Tokenizer(models.BPE())
    words = Regex(r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(words, "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[TEXT, SYSTEM, USER, ASSISTANT, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    chats = (text for _ in range(40_000) for _, text in corpus.conversation(rng))
    tokenizer.train_from_iterator(chats, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{TEXT} $A", special_tokens=[(TEXT, tokenizer.token_to_id(TEXT))]
    )
    return tokenizer


class Examples:
    """Batches of token ids and of labels (-100 where nothing is learned), both of shape (rows, length)."""

    def __init__(self, tokenizer, rng):
        self.tokenizer, self.rng = tokenizer, rng
        self.role = {role: tokenizer.token_to_id(f"<|{role}|>") for role in ("system", "user", "assistant")}
        self.text, self.end = tokenizer.token_to_id(TEXT), tokenizer.token_to_id(END)

    def ids(self, texts):
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def some(self, count):
        """Examples as lists of (id, learned)."""
        drawn = [
            [("text", corpus.plain(self.rng))] if self.rng.random() < 0.03 else corpus.conversation(self.rng)
            for _ in range(count)
        ]
        pieces = iter(self.ids([text for chat in drawn for _, text in chat]))
        for chat in drawn:
            example = []
            for role, _ in chat:
                learned = role in ("assistant", "text")
                example.append((self.text if role == "text" else self.role[role], False))
                example += [(token, learned) for token in next(pieces)] + [(self.end, learned)]
            yield example[:CONTEXT]

    def batches(self):
        waiting = {length: [] for length in LENGTHS}
        while True:
            for example in self.some(256):
                length = next(length for length in LENGTHS if length >= len(example))
                waiting[length].append(example)
                if len(waiting[length]) == BATCH_TOKENS // length:
                    yield self.batch(waiting[length], length)
                    waiting[length] = []

    def batch(self, examples, length):
        ids = torch.full((len(examples), length), self.end)
        labels = torch.full((len(examples), length), -100)
        for row, example in enumerate(examples):
            tokens, learned = zip(*example)
            ids[row, : len(example)] = torch.tensor(tokens)
            labels[row, : len(example)] = torch.where(torch.tensor(learned), torch.tensor(tokens), -100)
        return ids, labels


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        linear = lambda inner, outer: nn.Linear(inner, outer, bias=False)
        head = HIDDEN // HEADS
        self.input_layernorm = nn.RMSNorm(HIDDEN, EPSILON)
        self.post_attention_layernorm = nn.RMSNorm(HIDDEN, EPSILON)
        self.self_attn = nn.ModuleDict({
            "q_proj": linear(HIDDEN, HIDDEN), "k_proj": linear(HIDDEN, KV_HEADS * head),
            "v_proj": linear(HIDDEN, KV_HEADS * head), "o_proj": linear(HIDDEN, HIDDEN),
        })
        self.mlp = nn.ModuleDict({"gate_proj": linear(HIDDEN, INNER), "up_proj": linear(HIDDEN, INNER), "down_proj": linear(INNER, HIDDEN)})

    def forward(self, x, cos, sin):
        rows, length, _ = x.shape
        normed = self.input_layernorm(x)
        heads = lambda name, count: self.self_attn[name](normed).view(rows, length, count, -1).transpose(1, 2)
        q, k, v = rotate(heads("q_proj", HEADS), cos, sin), rotate(heads("k_proj", KV_HEADS), cos, sin), heads("v_proj", KV_HEADS)
        k, v = (kv.repeat_interleave(HEADS // KV_HEADS, dim=1) for kv in (k, v))
        # Rows are filled up on the right, where causal attention does not look.
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.self_attn["o_proj"](attended.transpose(1, 2).reshape(rows, length, HIDDEN))
        normed = self.post_attention_layernorm(x)
        return x + self.mlp["down_proj"](F.silu(self.mlp["gate_proj"](normed)) * self.mlp["up_proj"](normed))


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return (x * cos + turned * sin).to(x.dtype)


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY, HIDDEN)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(HIDDEN, EPSILON)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                last = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * LAYERS) ** 0.5 if last else 0.02)
        head = HIDDEN // HEADS
        angles = torch.outer(torch.arange(CONTEXT), ROPE_THETA ** -(torch.arange(0, head, 2) / head))
        angles = torch.cat((angles, angles), dim=-1)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, ids, labels):
        """Mean loss over the learned tokens."""
        length = ids.shape[1]
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, self.cos[:length], self.sin[:length])
        logits = F.linear(self.norm(x), self.embed_tokens.weight)
        next_ids = F.pad(labels[:, 1:], (0, 1), value=-100)
        return F.cross_entropy(logits.float().flatten(0, 1), next_ids.flatten())


def write(model, tokenizer, out):
    """The model's files in Hugging Face's layout."""
    out.mkdir(parents=True, exist_ok=True)
    end, text = tokenizer.token_to_id(END), tokenizer.token_to_id(TEXT)
    as_json = lambda name, value: (out / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    as_json("config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "head_dim": HIDDEN // HEADS, "hidden_act": "silu", "max_position_embeddings": CONTEXT, "rms_norm_eps": EPSILON,
        "rope_theta": ROPE_THETA, "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True,
        "bos_token_id": text, "eos_token_id": end, "pad_token_id": end, "torch_dtype": "bfloat16",
    })
    as_json("generation_config.json", {"do_sample": True, "temperature": 0.7, "top_p": 0.95, "bos_token_id": text, "eos_token_id": end, "pad_token_id": end})
    as_json("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": TEXT, "eos_token": END, "pad_token": END, "model_max_length": CONTEXT, "clean_up_tokenization_spaces": False})
    (out / "chat_template.jinja").write_text(TEMPLATE)
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    weights = {f"model.{name}": weight.detach().to(torch.bfloat16).contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


def read(folder):
    """Tokenizer and model that `write` wrote."""
    model = Llama()
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict({name.removeprefix("model."): weight.float() for name, weight in weights.items()})
    return Tokenizer.from_file(str(folder / "tokenizer.json")), model


def train(rank, arguments):
    """One of the processes: each computes gradients on texts of its own, all take the same step with their mean."""
    distributed.init_process_group("gloo", init_method=f"file://{arguments.meeting}", rank=rank, world_size=arguments.processes)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    if arguments.begin is None:
        tokenizer, model = train_tokenizer(corpus.source(SEED)), Llama()
    else:
        tokenizer, model = read(arguments.begin)
    told = print if rank == 0 else lambda *_, **__: None
    told(sum(weight.numel() for weight in model.parameters()), "parameters", flush=True)
    weights = list(model.parameters())
    matrices = [weight for name, weight in model.named_parameters() if weight.dim() == 2 and "embed" not in name]
    others = [weight for name, weight in model.named_parameters() if weight.dim() != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=0.005, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.004, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    rate = lambda step: min(1.0, (step + 1) / 50, (arguments.steps - step) / (0.5 * arguments.steps))
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, rate) for optimizer in optimizers]
    begin, mean = time.monotonic(), None
    for step, (ids, labels) in enumerate(Examples(tokenizer, corpus.source(arguments.seed + rank)).batches(), 1):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(ids, labels)
        loss.backward()
        shared = torch.cat([weight.grad.flatten() for weight in weights] + [loss.detach().view(1)])
        distributed.all_reduce(shared)
        shared /= arguments.processes
        for weight, gradient in zip(weights, shared[:-1].split([weight.numel() for weight in weights]), strict=True):
            weight.grad.copy_(gradient.view_as(weight))
        nn.utils.clip_grad_norm_(weights, 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
        mean = shared[-1].item() if mean is None else 0.98 * mean + 0.02 * shared[-1].item()
        if step % 25 == 0:
            told(f"step {step}  loss {mean:.4f}  {time.monotonic() - begin:.0f} s", flush=True)
        if rank == 0 and (step % arguments.every == 0 or step == arguments.steps):
            write(model, tokenizer, arguments.out)
        if step == arguments.steps:
            break
    distributed.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the files")
    parser.add_argument("--begin", type=pathlib.Path, help="folder of a model to go on with")
    parser.add_argument("--seed", type=int, default=SEED + 1, help="of the texts")
    parser.add_argument("--steps", type=int, default=480)
    parser.add_argument("--processes", type=int, default=2, help="of one thread each; the model depends on it")
    parser.add_argument("--every", type=int, default=100, help="steps between two checkpoints")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arguments.meeting = pathlib.Path(folder) / "meeting"
        multiprocessing.spawn(train, (arguments,), arguments.processes)


if __name__ == "__main__":
    main()
