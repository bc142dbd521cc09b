#!/usr/bin/env python3
"""Random-weight models of real shapes: a directory in Hugging Face's layout (bfloat16) and GGUF files (BF16, Q8_0) of each.

    models.py DIRECTORY [NAME ...] [--quantize LLAMA_QUANTIZE]

Speed does not depend on the weights' values. The tokenizer is a byte-level BPE trained on the Python library's own sources,
filled up with unused tokens to the vocabulary's real size. llama.cpp's own program makes Q4_K_M of the BF16 file where it
is named. Needs numpy, gguf, safetensors and tokenizers (PyPI).
"""

import argparse
import glob
import json
import os
import subprocess

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

# Layers, hidden, heads, key-value heads, inner, vocabulary, rotary base; from the models' published config.json.
SHAPES = {
    "smollm2-135m": ("llama", 30, 576, 9, 3, 1536, 49152, 100000.0),
    "qwen2.5-0.5b": ("qwen2", 24, 896, 14, 2, 4864, 151936, 1000000.0),
    "tinyllama-1.1b": ("llama", 22, 2048, 32, 4, 5632, 32000, 10000.0),
}
TIED = {"smollm2-135m", "qwen2.5-0.5b"}
CONTEXT = 8192
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def corpus(limit=20_000_000):
    size = 0
    for path in sorted(glob.glob(os.path.dirname(os.__file__) + "/**/*.py", recursive=True)):
        try:
            text = open(path, encoding="utf-8").read()
        except (OSError, UnicodeDecodeError):
            continue
        size += len(text)
        yield text
        if size > limit:
            return


def tokenizer(directory, vocabulary):
    base = os.path.join(directory, "tokenizer-base.json")
    if not os.path.exists(base):
        made = Tokenizer(models.BPE(unk_token=None))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=30000,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        made.train_from_iterator(corpus(), trainer)
        made.save(base)
    made = Tokenizer.from_file(base)
    have = made.get_vocab_size()
    fill = [AddedToken(f"<|unused_{i}|>", special=False, normalized=False) for i in range(vocabulary - have)]
    made.add_tokens(fill)
    return made


def weights(name, seed):
    """Hugging Face's names and f32 tensors, one at a time."""
    kind, layers, hidden, heads, kv_heads, inner, vocabulary, _ = SHAPES[name]
    draw = np.random.default_rng(seed)
    width = hidden // heads

    def normal(*shape):
        return draw.standard_normal(shape, dtype=np.float32) * np.float32(0.02)

    yield "model.embed_tokens.weight", normal(vocabulary, hidden)
    if name not in TIED:
        yield "lm_head.weight", normal(vocabulary, hidden)
    for layer in range(layers):
        at = f"model.layers.{layer}."
        yield at + "self_attn.q_proj.weight", normal(heads * width, hidden)
        yield at + "self_attn.k_proj.weight", normal(kv_heads * width, hidden)
        yield at + "self_attn.v_proj.weight", normal(kv_heads * width, hidden)
        if kind == "qwen2":
            yield at + "self_attn.q_proj.bias", normal(heads * width)
            yield at + "self_attn.k_proj.bias", normal(kv_heads * width)
            yield at + "self_attn.v_proj.bias", normal(kv_heads * width)
        yield at + "self_attn.o_proj.weight", normal(hidden, heads * width)
        yield at + "mlp.gate_proj.weight", normal(inner, hidden)
        yield at + "mlp.up_proj.weight", normal(inner, hidden)
        yield at + "mlp.down_proj.weight", normal(hidden, inner)
        yield at + "input_layernorm.weight", np.ones(hidden, np.float32)
        yield at + "post_attention_layernorm.weight", np.ones(hidden, np.float32)
    yield "model.norm.weight", np.ones(hidden, np.float32)


def bf16(values):
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_safetensors(path, tensors):
    header, offset, data = {}, 0, []
    for name, values in tensors:
        raw = bf16(values).tobytes()
        header[name] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [offset, offset + len(raw)]}
        offset += len(raw)
        data.append(raw)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for raw in data:
            file.write(raw)


def write_directory(directory, name, made):
    kind, layers, hidden, heads, kv_heads, inner, vocabulary, base = SHAPES[name]
    path = os.path.join(directory, name)
    os.makedirs(path, exist_ok=True)
    config = {
        "architectures": ["LlamaForCausalLM" if kind == "llama" else "Qwen2ForCausalLM"],
        "model_type": kind,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "rms_norm_eps": 1e-5 if kind == "llama" else 1e-6,
        "rope_theta": base,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": name in TIED,
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    json.dump(config, open(f"{path}/config.json", "w"), indent=1)
    json.dump({"bos_token_id": 0, "eos_token_id": 2, "do_sample": False}, open(f"{path}/generation_config.json", "w"))
    made.save(f"{path}/tokenizer.json")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[2],
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    json.dump(settings, open(f"{path}/tokenizer_config.json", "w"), indent=1)
    write_safetensors(f"{path}/model.safetensors", weights(name, 0))


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "lm_head": "output",
    "model.norm": "output_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name):
    stem, ending = name.rsplit(".", 1)
    layer = ""
    if stem.startswith("model.layers."):
        number, stem = stem.removeprefix("model.layers.").split(".", 1)
        layer = f"blk.{number}."
    return f"{layer}{GGUF_NAMES[stem]}.{ending}"


def write_gguf(directory, name, made, label, quantization):
    kind, layers, hidden, heads, kv_heads, inner, vocabulary, base = SHAPES[name]
    writer = gguf.GGUFWriter(os.path.join(directory, f"{name}-{label}.gguf"), kind)
    writer.add_name(name)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_freq_base(base)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_layer_norm_rms_eps(1e-5 if kind == "llama" else 1e-6)
    writer.add_vocab_size(vocabulary)
    file_type = {"BF16": gguf.LlamaFileType.MOSTLY_BF16, "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
    writer.add_file_type(file_type[label])
    ids = made.get_vocab()
    tokens = [token for token, _ in sorted(ids.items(), key=lambda item: item[1])]
    merges = [" ".join(merge) for merge in json.loads(made.to_str())["model"]["merges"]]
    types = [gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens]
    types = [gguf.TokenType.UNUSED if "<|unused_" in token else kind for token, kind in zip(tokens, types)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for tensor, values in weights(name, 0):
        if values.ndim == 1:
            writer.add_tensor(gguf_name(tensor), values)
            continue
        data = gguf.quants.quantize(values, quantization)
        writer.add_tensor(gguf_name(tensor), data, raw_dtype=quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("names", nargs="*", default=list(SHAPES))
    parser.add_argument("--quantize", metavar="LLAMA_QUANTIZE")
    options = parser.parse_args()
    directory = options.directory
    os.makedirs(directory, exist_ok=True)
    for name in options.names:
        made = tokenizer(directory, SHAPES[name][6])
        write_directory(directory, name, made)
        write_gguf(directory, name, made, "BF16", Kind.BF16)
        write_gguf(directory, name, made, "Q8_0", Kind.Q8_0)
        if options.quantize:
            files = (os.path.join(directory, f"{name}-{label}.gguf") for label in ("BF16", "Q4_K_M"))
            subprocess.run([options.quantize, *files, "Q4_K_M"], check=True, stdout=subprocess.DEVNULL)
        print(name, "made")


if __name__ == "__main__":
    main()
