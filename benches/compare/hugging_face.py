#!/usr/bin/env python3
"""sconce beside Hugging Face transformers in bfloat16 on the CPU, in turns, on the same directories. Prints Markdown.

    python3 -m venv VENV && VENV/bin/pip install torch transformers
    cargo build --release && VENV/bin/python benches/compare/hugging_face.py MODELS [--rounds N] [--models …]

MODELS is what `models.py` made. Both take 512 tokens in one pass and then 32 one by one, and keep keys and values. Figures
are medians over the rounds; a ratio is the median of the rounds' own.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

import torch
import transformers

from figures import number

ROOT = Path(__file__).resolve().parents[2]
SHAPES = {"135M": "smollm2-135m", "0.5B": "qwen2.5-0.5b", "1.1B": "tinyllama-1.1b"}
PROMPT, ANSWER = 512, 32


@torch.inference_mode()
def theirs(model):
    tokens = torch.arange(PROMPT)[None] * 37 % 10_000
    started = time.perf_counter()
    step = model(tokens, use_cache=True, logits_to_keep=1)
    prefill = time.perf_counter() - started
    started = time.perf_counter()
    for token in range(ANSWER):
        step = model(torch.tensor([[token]]), past_key_values=step.past_key_values, use_cache=True)
    return PROMPT / prefill, ANSWER / (time.perf_counter() - started)


def ours(program, directory, threads):
    command = [program, "bench", directory, "--threads", str(threads), "--prompt", str(PROMPT)]
    command += ["--generate", str(ANSWER), "--rounds", "1", "--json"]
    tests = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["tests"]
    return tests[0]["median"], tests[1]["median"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--sconce", default=ROOT / "target/release/sconce", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--models", default=",".join(SHAPES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"- {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {options.rounds} rounds, {options.threads} threads")
    print(f"- torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"- load average before: {os.getloadavg()[0]:.2f}\n")
    print("| model, BF16 | figure | sconce | transformers | ratio |\n| --- | --- | ---: | ---: | ---: |", flush=True)
    for shape in options.models.split(","):
        directory = options.directory / SHAPES[shape]
        model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16).eval()
        theirs(model)
        rounds = [(ours(options.sconce, directory, options.threads), theirs(model)) for _ in range(options.rounds)]
        for place, figure in enumerate([f"prefill {PROMPT}", "decode, alone"]):
            own, other = ([figures[side][place] for figures in rounds] for side in (0, 1))
            ratios = [a / b for a, b in zip(own, other)]
            print(f"| {shape} | {figure} | {number(own)} | {number(other)} | {statistics.median(ratios):.2f} |", flush=True)


if __name__ == "__main__":
    main()
