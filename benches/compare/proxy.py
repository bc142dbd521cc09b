#!/usr/bin/env python3
"""What it costs to stand in front of another server: sconce's proxy backend beside nginx and LiteLLM's proxy, all in
front of one and the same upstream. Prints Markdown; see README.md.

    cargo build --release && benches/compare/proxy.py [--litellm VENV] [--rounds N] [--seconds N] [--streams N]

It needs wrk, nginx and taskset (Debian packages), and for LiteLLM a virtual environment with `litellm[proxy]`.
"""

import argparse
import contextlib
import datetime
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "http"))

import streams  # noqa: E402
from servers import API_KEY, MODEL, PATH, TICKS, ended, free_port, note, pinned  # noqa: E402

# The proxy under test has a core of its own; the upstream and the load share the other one.
PROXY_CPU, OTHER_CPU = 0, 1
CONNECTIONS = 32
TWENTY = "one two six ten the cat saw its own red hat and ran"
CASES = {"small chat": ("Hello!", False), "20-event stream": (TWENTY, True)}
# Streams that are to be open all at once: 9 tokens, one in two seconds.
HELLO, DELAY_MS = "Hello!", 2000


@dataclass
class Server:
    """A process and its children."""

    process: subprocess.Popen
    port: int

    def tree(self) -> list[int]:
        found, new = [], [self.process.pid]
        while new:
            pid = new.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").iterdir():
                new += map(int, (task / "children").read_text().split())
        return found

    def cpu_seconds(self) -> float:
        total = 0
        for pid in self.tree():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def rss(self) -> int:
        lines = (line for pid in self.tree() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


@contextlib.contextmanager
def running(command: list[str], cpu: int, port: int, patience: float = 10, **more):
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(pinned(command, cpu), cwd="/", **quiet, **more)
    with ended(process):
        server = Server(process, port)
        until = time.monotonic() + patience
        while True:
            try:
                post(server, "hi", False)
                break
            except (OSError, http.client.HTTPException, RuntimeError):
                if time.monotonic() > until or process.poll() is not None:
                    raise
                time.sleep(0.2)
        yield server


def sconce(program: str, cpu: int, settings: dict[str, object]):
    port = free_port()
    command = [program, "--listen", f"127.0.0.1:{port}"]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    return running(command, cpu, port)


def proxy(program: str, keys: Path, upstream: Server, settings: dict[str, object] | None = None):
    url = f"http://127.0.0.1:{upstream.port}/v1"
    own = {"backend": "proxy", "proxy.base_url": url, "proxy.api_key_file": keys.with_name("upstream"), "auth.keys_file": keys}
    return sconce(program, PROXY_CPU, own | {"limits.max_concurrent_requests": 20_000} | (settings or {}))


def nginx(scratch: Path, upstream: Server, access_log: bool = False):
    """As lean as it can be told to; with `access_log` it writes a JSON line a request, of fields comparable to sconce's."""
    port = free_port()
    scratch = scratch / f"nginx-{port}"
    scratch.mkdir()
    config = scratch / "nginx.conf"
    fields = ["time_iso8601", "request_method", "uri", "status", "request_time", "upstream_header_time"]
    fields += ["upstream_addr", "request_id", "remote_addr", "body_bytes_sent"]
    line = ",".join(f'"{field}":"${field}"' for field in fields)
    config.write_text(f"""
        daemon off; worker_processes 1; pid {scratch}/nginx.pid; error_log /dev/null; worker_rlimit_nofile 65536;
        events {{ worker_connections 32768; }}
        http {{
          log_format line escape=json '{{{line}}}';
          access_log {"/dev/null line" if access_log else "off"}; client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy;
          fastcgi_temp_path {scratch}/f; uwsgi_temp_path {scratch}/u; scgi_temp_path {scratch}/s;
          keepalive_requests 100000000;
          upstream up {{ server 127.0.0.1:{upstream.port}; keepalive 64; keepalive_requests 100000000; }}
          server {{
            listen 127.0.0.1:{port} backlog=4096;
            location / {{
              proxy_pass http://up; proxy_http_version 1.1; proxy_buffering off;
              proxy_set_header connection ""; proxy_set_header authorization "Bearer {API_KEY}";
            }}
          }}
        }}
    """)
    return running(["nginx", "-c", str(config), "-e", "/dev/null"], PROXY_CPU, port)


def litellm(venv: Path, scratch: Path, upstream: Server):
    port = free_port()
    config = scratch / "litellm.json"
    parameters = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{upstream.port}/v1", "api_key": API_KEY}
    settings = {"model_list": [{"model_name": MODEL, "litellm_params": parameters}], "litellm_settings": {"telemetry": False}}
    config.write_text(json.dumps(settings))  # JSON is YAML
    command = [str(venv / "bin/litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "LITELLM_LOG": "ERROR", "LITELLM_MASTER_KEY": API_KEY}
    # No list of prices from elsewhere, and a key that is good enough here.
    environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    environment |= {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
    return running([*command, "--num_workers", "1"], PROXY_CPU, port, patience=180, env=environment)


def body(message: str, stream: bool) -> bytes:
    request = {"model": MODEL, "messages": [{"role": "user", "content": message}]}
    return json.dumps(request | ({"stream": True} if stream else {})).encode()


def post(server: Server, message: str, stream: bool) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {"content-type": "application/json", "authorization": f"Bearer {API_KEY}"}
    connection.request("POST", PATH, body(message, stream), headers)
    response = connection.getresponse()
    answer = response.read().decode()
    connection.close()
    if response.status != 200:
        raise RuntimeError(f"status {response.status}: {answer[:300]}")
    return answer


def said(answer: str, stream: bool) -> str:
    if not stream:
        return json.loads(answer)["choices"][0]["message"]["content"]
    events = [line.removeprefix("data: ") for line in answer.splitlines() if line.startswith("data: ")]
    if events.pop() != "[DONE]":
        raise RuntimeError("a stream without [DONE]")
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


@dataclass
class Turn:
    cpu_us: float
    per_second: float
    p50_us: float
    p99_us: float


def turn(server: Server, file: Path, seconds: int, connections: int) -> Turn:
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    command += ["--timeout", "60s", "--script", str(HERE / "http/load.lua"), f"http://127.0.0.1:{server.port}{PATH}"]
    environment = {**os.environ, "BODY": str(file), "API_KEY": API_KEY}
    before = server.cpu_seconds()
    run = subprocess.run(pinned(command, OTHER_CPU), env=environment, capture_output=True, text=True, check=True)
    cpu = server.cpu_seconds() - before
    result = json.loads(run.stdout.splitlines()[-1])
    if result["failed"] or not result["requests"]:
        raise RuntimeError(f"requests failed: {run.stdout}")
    rate = result["requests"] / result["seconds"]
    return Turn(cpu * 1e6 / result["requests"], rate, result["p50_us"], result["p99_us"])


def spread(values: list[float], digits: int) -> str:
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def load(arguments: argparse.Namespace, scratch: Path, keys: Path) -> None:
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        upstream = enter(sconce(arguments.sconce, OTHER_CPU, {"log.level": "off"}))
        servers = {
            "sconce": enter(proxy(arguments.sconce, keys, upstream)),
            "sconce, `log.level=warn`": enter(proxy(arguments.sconce, keys, upstream, {"log.level": "warn"})),
            "nginx": enter(nginx(scratch, upstream)),
            "nginx, access log": enter(nginx(scratch, upstream, access_log=True)),
        }
        if arguments.litellm:
            servers["LiteLLM"] = enter(litellm(arguments.litellm, scratch, upstream))
        files = {}
        for case, (message, stream) in CASES.items():
            files[case] = scratch / f"{case}.json"
            files[case].write_bytes(body(message, stream))
            for name, server in servers.items():
                heard = said(post(server, message, stream), stream)
                if heard != f"Echo from {MODEL}: {message}":
                    raise RuntimeError(f"{name} answers {heard!r}")
                for _ in range(5):
                    post(server, message, stream)
        turns: dict[tuple, list[Turn]] = {}
        for number in range(arguments.rounds):
            for case in CASES:
                for connections in (CONNECTIONS, 1):
                    for name, server in {"direct": upstream, **servers}.items():
                        # 32 of LiteLLM's streams may take longer than a turn of the others.
                        seconds = max(arguments.seconds, 8) if name == "LiteLLM" else arguments.seconds
                        result = turn(server, files[case], seconds, connections)
                        turns.setdefault((case, connections, name), []).append(result)
                        note(f"round {number + 1}, {case}, {connections} connections, {name}: {result}")

    bases = ["nginx", "nginx, access log"]
    over_all = " | ".join(f"CPU over that of {base}" for base in bases)
    print(f"| case | server | CPU µs a request, {CONNECTIONS} connections | requests/s | {over_all} |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for case in CASES:
        cpu = {name: [turn.cpu_us for turn in turns[case, CONNECTIONS, name]] for name in servers}
        for name in servers:
            # What else runs on the machine changes within seconds: each turn is compared with nginx's of its round.
            over = [[mine / theirs for mine, theirs in zip(cpu[name], cpu[base], strict=True)] for base in bases]
            rate = median(turn.per_second for turn in turns[case, CONNECTIONS, name])
            cells = [spread(cpu[name], 1), f"{rate:,.0f}", *(spread(one, 2) for one in over)]
            print(f"| {case} | {name} | {' | '.join(cells)} |")
    print("\n| case | server | p50 µs, one connection | added | p99 µs | added |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for case in CASES:
        at = {
            name: (median(t.p50_us for t in turns[case, 1, name]), median(t.p99_us for t in turns[case, 1, name]))
            for name in ["direct", *servers]
        }
        for name, (p50, p99) in at.items():
            added = [f"{mine - base:,.0f}" for mine, base in zip((p50, p99), at["direct"], strict=True)]
            if name == "direct":
                added = ["", ""]
            print(f"| {case} | {name} | {p50:,.0f} | {added[0]} | {p99:,.0f} | {added[1]} |")
    print()


def memory(arguments: argparse.Namespace, scratch: Path, keys: Path) -> None:
    count = arguments.streams
    settings = {"echo.delay_ms": DELAY_MS, "limits.max_concurrent_requests": 20_000, "log.level": "off"}
    print(f"| server | RSS at rest | with {count:,} streams open | an open stream | whole |")
    print("| --- | ---: | ---: | ---: | ---: |")
    with sconce(arguments.sconce, OTHER_CPU, settings) as upstream:
        makers = {"sconce": lambda: proxy(arguments.sconce, keys, upstream), "nginx": lambda: nginx(scratch, upstream)}
        for name, make in makers.items():
            with make() as server:
                time.sleep(2)
                rest = server.rss()
                seen: list[int] = []
                answers = streams.run(server.port, count, HELLO, lambda: seen.append(server.rss()), patience=300)
                whole = sum(answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") for answer in answers)
                each = (max(seen) - rest) / count / 1e3
                print(f"| {name} | {rest / 1e6:.1f} MB | {max(seen) / 1e6:.1f} MB | {each:.1f} KB | {whole:,} of {count:,} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sconce", default=str(HERE.parents[1] / "target/release/sconce"))
    parser.add_argument("--litellm", type=Path, metavar="VENV")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of a turn; LiteLLM has at least 8")
    parser.add_argument("--streams", type=int, default=2000)
    arguments = parser.parse_args()
    print(f"- {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {os.cpu_count()} cores, load before: {os.getloadavg()[0]:.2f}\n")
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        keys = scratch / "keys"
        keys.write_text(f"bench:{API_KEY}\n")
        keys.with_name("upstream").write_text(f"{API_KEY}\n")
        if arguments.rounds:
            load(arguments, scratch, keys)
        if arguments.streams:
            memory(arguments, scratch, keys)


if __name__ == "__main__":
    main()
