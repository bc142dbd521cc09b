"""Writes a tiny llama with made-up weights: it says nothing of sense, always the same.

    model.py DIRECTORY
"""

import json
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

TOKENIZER = Path(__file__).resolve().parents[2] / "fixtures/tokenizers/byte_level.json"
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def main():
    directory = Path(sys.argv[1])
    tokenizer = json.loads(TOKENIZER.read_text())
    ids = [*tokenizer["model"]["vocab"].values(), *(token["id"] for token in tokenizer["added_tokens"])]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=max(ids) + 1,
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=2,
        # Heads of 32, the smallest that vLLM has kernels for.
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        # Far apart, so that the likeliest token is that whatever is added up first.
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
        dtype="bfloat16",
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
    directory.joinpath("tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE}
    directory.joinpath("tokenizer_config.json").write_text(json.dumps(settings))


main()
