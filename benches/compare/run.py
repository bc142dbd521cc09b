#!/usr/bin/env python3
"""sconce beside llama.cpp on the CPU, in turns, on the same files: both engines alone, and both servers. Prints Markdown.

    benches/compare/llama_cpp.sh LLAMA && benches/compare/models.py MODELS --quantize LLAMA/build/bin/llama-quantize
    cargo build --release && benches/compare/run.py MODELS LLAMA/build/bin [--rounds N] [--models …] [--types …] [--parts …]

`--kernels` takes the program that `cargo bench --bench kernels --no-run` names, to read the memory's speed in the same run.

Needs Python alone. Figures are medians over the rounds; a ratio is the median of the rounds' own ratios, sconce's over
llama.cpp's.
"""

import argparse
import contextlib
import datetime
import http.client
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from figures import number

ROOT = Path(__file__).resolve().parents[2]
SHAPES = {"135M": "smollm2-135m", "0.5B": "qwen2.5-0.5b", "1.1B": "tinyllama-1.1b"}
TYPES = ["BF16", "Q8_0", "Q4_K_M"]
STREAMS = [1, 4, 16]
PROMPT, ANSWER = 160, 64
# A token that is text of its own.
VISIBLE = 1000
# For two requests that begin alike.
SHARED = 700
# Names of the figures, whether more is better.
FIGURES = {
    "decode, alone": True,
    "prefill 512": True,
    "batched decode, 16": True,
    **{f"server, tokens/s, {streams} streams": True for streams in STREAMS},
    **{f"server, first token, {streams} streams, s": False for streams in STREAMS},
    "server, first token of 700 and 4, s": False,
    "server, first token where the 700 are known, s": False,
    "server, start to ready, s": False,
    "server, resident, MB": False,
}


def note(text):
    print(text, file=sys.stderr, flush=True)


def output(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


class Sconce:
    name = "sconce"

    def __init__(self, program, threads):
        self.program, self.threads = program, threads

    def engine(self, model):
        command = [self.program, "bench", model, "--threads", str(self.threads), "--sequences", "1,16"]
        report = json.loads(output([*command, "--rounds", "1", "--json"]))
        tests = {test["test"]: test["median"] for test in report["tests"]}
        return {
            "prefill 512": tests["pp512"],
            "decode, alone": tests["tg128"],
            "batched decode, 16": tests["tg128 x16"],
        }

    def server(self, model, port):
        settings = [f"candle.source={model}", f"candle.threads={self.threads}", "candle.kv_cache=512MiB", "log.level=warn"]
        command = [self.program, "--listen", f"127.0.0.1:{port}", "--backend", "candle", "--model-id", "model"]
        return [*command, *(part for setting in settings for part in ("--set", setting))]


class LlamaCpp:
    name = "llama.cpp"

    def __init__(self, directory, threads):
        self.directory, self.threads = directory, threads

    def engine(self, model):
        threads = ["-t", str(self.threads)]
        command = [self.directory / "llama-bench", "-m", model, *threads, "-p", "512", "-n", "128", "-r", "1", "-o", "json"]
        tests = json.loads(output(command))
        speed = {(test["n_prompt"], test["n_gen"]): test["avg_ts"] for test in tests}
        command = [self.directory / "llama-batched-bench", "-m", model, *threads, "-c", "4096", "-npp", "16"]
        lines = output([*command, "-ntg", "128", "-npl", "16", "--output-format", "jsonl"]).splitlines()
        batched = next(json.loads(line) for line in lines if line.startswith("{"))
        return {
            "prefill 512": speed[512, 0],
            "decode, alone": speed[0, 128],
            "batched decode, 16": batched["speed_tg"],
        }

    def server(self, model, port):
        command = [self.directory / "llama-server", "-m", model, "--host", "127.0.0.1", "--port", str(port)]
        return [*command, "-t", str(self.threads), "-c", "16384", "--parallel", "16", "--no-webui"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def served(command, port):
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = time.monotonic()
    process = subprocess.Popen(command, cwd="/", **quiet)
    try:
        while True:
            if process.poll() is not None or time.monotonic() > started + 300:
                sys.exit(f"{' '.join(map(str, command))} does not serve")
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    break
            time.sleep(0.01)
        yield process, time.monotonic() - started
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def resident(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1000


def ask(port, tokens, answers):
    """Streams a completion; notes the seconds to its first event and the tokens that it had."""
    request = {
        "model": "model",
        "prompt": tokens,
        "max_tokens": ANSWER,
        "temperature": 0,
        "ignore_eos": True,
        # Made-up weights may say tokens that have no text; then nobody sees when the first one came.
        "logit_bias": {str(VISIBLE): 100},
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    started = time.monotonic()
    connection.request("POST", "/v1/completions", json.dumps(request), {"content-type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(response.read()[:500])
    first, usage = None, None
    for line in response:
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            usage = event.get("usage") or usage
            if first is None and event["choices"] and event["choices"][0]["text"]:
                first = time.monotonic() - started
    if not usage or usage["completion_tokens"] != ANSWER or usage["prompt_tokens"] != len(tokens):
        raise RuntimeError(f"asked with {len(tokens)} tokens for {ANSWER}: {usage}")
    answers.append((first, usage["completion_tokens"]))


def together(port, prompts):
    answers = []
    threads = [threading.Thread(target=ask, args=(port, prompt, answers)) for prompt in prompts]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - started
    if len(answers) != len(prompts):
        sys.exit("a request failed")
    return seconds, answers


def server(contestant, model, dice):
    def prompt(tokens):
        return [dice.randrange(1000, 20000) for _ in range(tokens)]

    port, figures = free_port(), {}
    with served(contestant.server(model, port), port) as (process, ready):
        figures["server, start to ready, s"] = ready
        together(port, [prompt(PROMPT)])
        for streams in STREAMS:
            seconds, answers = together(port, [prompt(PROMPT) for _ in range(streams)])
            figures[f"server, tokens/s, {streams} streams"] = sum(tokens for _, tokens in answers) / seconds
            figures[f"server, first token, {streams} streams, s"] = statistics.median(first for first, _ in answers)
        beginning = prompt(SHARED)
        for figure in ("of 700 and 4", "where the 700 are known"):
            _, [(first, _)] = together(port, [beginning + prompt(4)])
            figures[f"server, first token {figure}, s"] = first
        figures["server, resident, MB"] = resident(process)
    return figures


def reading(kernels):
    """GB/s of all threads together."""
    report = output([kernels, "--bench", "machine/read"])
    return float(re.search(r"thrpt:\s+\[\S+ \S+ (\S+) GB/s", report)[1])


def table(rows, contestants, label):
    """`rows`: for each round the figures of each contestant."""
    for figure in FIGURES:
        if figure not in rows[0][contestants[0].name]:
            continue
        own, other = ([row[contestant.name][figure] for row in rows] for contestant in contestants)
        ratios = [a / b for a, b in zip(own, other)]
        print(f"| {label} | {figure} | {number(own)} | {number(other)} | {statistics.median(ratios):.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("llama_cpp", type=Path)
    parser.add_argument("--sconce", default=ROOT / "target/release/sconce", type=Path)
    parser.add_argument("--kernels", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--models", default=",".join(SHAPES))
    parser.add_argument("--types", default=",".join(TYPES))
    parser.add_argument("--parts", default="engine,server")
    options = parser.parse_args()
    contestants = [Sconce(options.sconce, options.threads), LlamaCpp(options.llama_cpp, options.threads)]
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"- {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, commit {commit}, {options.rounds} rounds, {options.threads} threads")
    print(f"- {cpu[1] if cpu else 'unknown CPU'}, {os.cpu_count()} cores, Linux {os.uname().release}")
    print(f"- load average before: {os.getloadavg()[0]:.2f}")
    if options.kernels:
        print(f"- memory read: {reading(options.kernels)} GB/s before")
    print()
    print("| model | figure | sconce | llama.cpp | ratio |\n| --- | --- | ---: | ---: | ---: |", flush=True)
    dice = random.Random(1)
    for shape in options.models.split(","):
        for kind in options.types.split(","):
            model = (options.directory / f"{SHAPES[shape]}-{kind}.gguf").resolve()
            # The first to load a file would have to fetch it for the other.
            with model.open("rb") as file:
                while file.read(1 << 24):
                    pass
            rows = []
            for turn in range(options.rounds):
                row = {contestant.name: {} for contestant in contestants}
                for contestant in contestants:
                    if "engine" in options.parts:
                        row[contestant.name] |= contestant.engine(model)
                    if "server" in options.parts:
                        row[contestant.name] |= server(contestant, model, dice)
                rows.append(row)
                note(f"{shape} {kind}, round {turn + 1}: {row}")
            table(rows, contestants, f"{shape} {kind}")
    if options.kernels:
        print(f"\nmemory read afterwards: {reading(options.kernels)} GB/s")


if __name__ == "__main__":
    main()
