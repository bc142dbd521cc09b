"""Measures sconce beside the FastAPI reference, in turns, and prints Markdown."""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import servers
import streams
from servers import API_KEY, MODEL, PATH, Server, note

SERVER_CPU, LOAD_CPU = 0, 1
CONNECTIONS = 32
# The same cut as sconce's, see src/backend/echo/tokens.rs.
TOKEN = re.compile(r"[\x00-\x7f][\x00-\x08\x0b-\x1f!-\x7f]{0,3}|[^\x00-\x7f]")
# With `Echo from gpt-oss-20b:` before it, an answer of 20 tokens.
TWENTY = "one two six ten the cat saw its own red hat and ran"
# The streams that are to be open all at once say 9 tokens, one in two seconds.
HELLO, DELAY_MS = "Hello!", 2000
FLOOR = "nginx, a file whatever is asked"
PLAIN = "FastAPI, `pip install uvicorn`"
MODULES = ["fastapi", "starlette", "pydantic", "uvicorn", "uvloop", "httptools"]


@dataclass
class Case:
    name: str
    message: str
    stream: bool = False

    def body(self) -> bytes:
        request = {"model": MODEL, "messages": [{"role": "user", "content": self.message}]}
        return json.dumps(request | ({"stream": True} if self.stream else {})).encode()

    def answer(self) -> str:
        return f"Echo from {MODEL}: {self.message}"


CASES = [
    Case("small chat", "Hello!"),
    Case("20-event stream", TWENTY, stream=True),
    Case("100 KB chat", ("The quick brown fox jumps over the lazy dog. " * 2300)[:100_000]),
]


def same(value: object) -> object:
    """What of an answer has to be equal: not its id and its time, not the counts, and not whether null is written."""
    if isinstance(value, dict):
        left_out = ("id", "created", "usage", "system_fingerprint")
        return {key: same(item) for key, item in value.items() if key not in left_out and item is not None}
    return [same(item) for item in value] if isinstance(value, list) else value


def chunks(answer: bytes) -> list[object]:
    events = [event.removeprefix("data: ") for event in answer.decode().removesuffix("\n\n").split("\n\n")]
    if events.pop() != "[DONE]":
        raise RuntimeError("a stream without [DONE]")
    return [same(json.loads(event)) for event in events]


def verify(case: Case, candidates: dict[str, Server]) -> bytes:
    """Every server answers the same, and what it should; returns the first one's answer."""
    answers = {name: server.post(case.body()) for name, server in candidates.items()}
    read = chunks if case.stream else lambda answer: same(json.loads(answer))
    (first, expected), *others = ((name, read(answer)) for name, answer in answers.items())
    for name, answer in others:
        if answer != expected:
            raise RuntimeError(f"{case.name}: {name} answers {answer}, {first} {expected}")
    if case.stream:
        said = [chunk["choices"][0]["delta"].get("content") for chunk in expected]
        right = said == [None, *TOKEN.findall(case.answer()), None]
    else:
        right = expected["choices"][0]["message"]["content"] == case.answer()
    if not right:
        raise RuntimeError(f"{case.name}: wrong answer {expected}")
    return next(iter(answers.values()))


@dataclass
class Turn:
    cpu_us: float
    per_second: float


def turn(server: Server, body: Path, seconds: float) -> Turn:
    """One turn of load. The CPU time is that of the whole turn, over the requests that were answered in it."""
    command = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s"]
    command += ["--timeout", "30s", "--script", str(servers.HERE / "load.lua")]
    command += [f"http://127.0.0.1:{server.port}{PATH}"]
    environment = {**os.environ, "BODY": str(body), "API_KEY": API_KEY}
    before = server.cpu_seconds()
    output = subprocess.run(
        servers.pinned(command, LOAD_CPU), env=environment, capture_output=True, text=True, check=True
    ).stdout
    cpu = server.cpu_seconds() - before
    result = json.loads(output.splitlines()[-1])
    if result["failed"] or not result["requests"]:
        raise RuntimeError(f"requests failed: {output}")
    return Turn(cpu * 1e6 / result["requests"], result["requests"] / result["seconds"])


def requests(arguments: argparse.Namespace, keys: Path, scratch: Path) -> None:
    also = dict(item.split("=", 1) for item in arguments.also)
    with ExitStack() as stack:
        quiet = {"log.level": "warn"}
        candidates = {
            "sconce": stack.enter_context(servers.sconce(arguments.sconce, keys, SERVER_CPU)),
            "sconce, `log.level=warn`": stack.enter_context(
                servers.sconce(arguments.sconce, keys, SERVER_CPU, quiet)
            ),
        }
        for name, program in also.items():
            candidates[name] = stack.enter_context(servers.sconce(program, keys, SERVER_CPU))
        candidates["FastAPI"] = stack.enter_context(servers.fastapi(SERVER_CPU))
        candidates["FastAPI, access log"] = stack.enter_context(servers.fastapi(SERVER_CPU, access_log=True))
        candidates[PLAIN] = stack.enter_context(servers.fastapi(SERVER_CPU, plain=True, access_log=True))
        turns: dict[tuple[str, str], list[Turn]] = {}
        bodies = {}
        contestants = {}
        for number, case in enumerate(CASES):
            answer = verify(case, candidates)
            floor = stack.enter_context(servers.constant(answer, scratch / f"constant-{number}", SERVER_CPU))
            contestants[case.name] = candidates | {FLOOR: floor}
            bodies[case.name] = scratch / f"{case.name}.json"
            bodies[case.name].write_bytes(case.body())
        note("every server answers the same; warming up")
        for case in CASES:
            for server in contestants[case.name].values():
                turn(server, bodies[case.name], 1)
        for number in range(arguments.rounds):
            for case in CASES:
                for name, server in contestants[case.name].items():
                    result = turn(server, bodies[case.name], arguments.seconds)
                    turns.setdefault((case.name, name), []).append(result)
                    note(
                        f"round {number + 1}, {case.name}, {name}: "
                        f"{result.cpu_us:.1f} µs, {result.per_second:.0f}/s"
                    )
        time.sleep(3)
        after = {name: server.rss() for name, server in candidates.items()}

    print("| case | server | CPU µs a request | lowest–highest | requests/s | FastAPI's over this | with `pip install uvicorn` |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for case in CASES:
        for name in contestants[case.name]:
            own = turns[case.name, name]
            cpu = [turn.cpu_us for turn in own]
            rate = median(turn.per_second for turn in own)
            cells = [case.name, name, f"{median(cpu):.1f}", f"{min(cpu):.1f}–{max(cpu):.1f}", f"{rate:,.0f}"]
            for base in ["FastAPI", PLAIN]:
                # What else runs on the machine changes within seconds: a turn is compared with the one of its round.
                theirs = [turn.cpu_us for turn in turns[case.name, base]]
                ratio = median(other / mine for other, mine in zip(theirs, cpu, strict=True))
                cells.append("" if name.startswith("FastAPI") else f"{ratio:.1f}")
            print(f"| {' | '.join(cells)} |")
    spread = max(
        (max(t.cpu_us for t in own) - min(t.cpu_us for t in own)) / median(t.cpu_us for t in own)
        for own in turns.values()
    )
    print(f"\nMedians of {arguments.rounds} rounds; largest spread of a row over its rounds: {spread:.0%} of its median.")
    quiet_rss = ", ".join(f"{name} {mb(rss)}" for name, rss in after.items())
    print(f"RSS 3 s after all of this load: {quiet_rss}.\n")


def mb(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


@dataclass
class Memory:
    idle: int
    full: int
    after: int
    threads: int
    whole: int
    cpu: float


def hold(server: Server, count: int) -> Memory:
    """Memory at rest and with `count` streams open, each of which has to come whole."""
    time.sleep(2)
    idle, threads, cpu = server.rss(), server.threads(), server.cpu_seconds()
    samples: list[int] = []
    answers = streams.run(server.port, count, HELLO, lambda: samples.append(server.rss()), patience=300)
    cpu = server.cpu_seconds() - cpu
    if not samples:
        raise RuntimeError(f"there was no moment at which all {count} streams were open")
    expected = TOKEN.findall(f"Echo from {MODEL}: {HELLO}")
    whole = 0
    for answer in answers:
        try:
            streams.check(answer, expected)
            whole += 1
        except (streams.Lost, ValueError, LookupError) as lost:
            note(f"lost: {lost}")
    time.sleep(5)
    return Memory(idle, max(samples), server.rss(), threads, whole, cpu)


def memory(arguments: argparse.Namespace, keys: Path) -> bool:
    count = arguments.streams
    also = dict(item.split("=", 1) for item in arguments.also)
    settings = {"echo.delay_ms": DELAY_MS, "limits.max_concurrent_requests": max(count, 1024)}
    starts = {
        name: (lambda program=program: servers.sconce(program, keys, None, settings))
        for name, program in ({"sconce": arguments.sconce} | also).items()
    }
    starts["FastAPI"] = lambda: servers.fastapi(None, delay_ms=DELAY_MS)
    held = {}
    for name, start in starts.items():
        with start() as server:
            held[name] = hold(server, count)
        note(f"{count} streams, {name}: {held[name]}")

    rows = {
        "RSS 2 s after the start": lambda m: mb(m.idle),
        f"RSS, {count:,} streams open": lambda m: mb(m.full),
        "RSS an open stream": lambda m: f"{(m.full - m.idle) / count / 1e3:.1f} KB",
        "RSS 5 s after the last stream": lambda m: mb(m.after),
        "streams that came whole": lambda m: f"{m.whole:,} of {count:,}",
        "CPU, all streams": lambda m: f"{m.cpu:.2f} s",
        "threads": lambda m: str(m.threads),
    }
    print(f"| | {' | '.join(held)} |")
    print(f"| --- |{' ---: |' * len(held)}")
    for name, value in rows.items():
        print(f"| {name} | {' | '.join(value(m) for m in held.values())} |")
    return held["sconce"].whole == count


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def heading(repository: Path) -> None:
    def git(*arguments: str) -> str:
        return output("git", "-C", str(repository), *arguments)

    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    # Changes to anything but the words beside the numbers make them numbers of something else.
    changed = git("status", "--porcelain", "--", "Cargo.toml", "Cargo.lock", "src", "benches/compare")
    commit = git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")
    python = ".".join(map(str, sys.version_info[:3]))
    print(f"- {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, commit {commit}, {output('rustc', '--version')}")
    print(f"- {cpu[1] if cpu else 'unknown CPU'}, {os.cpu_count()} cores, Linux {os.uname().release}")
    print(f"- Python {python}, {', '.join(f'{module} {version(module)}' for module in MODULES)}")
    print(f"- load average before: {os.getloadavg()[0]:.2f}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sconce", required=True)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--streams", type=int, default=5000)
    parser.add_argument("--also", action="append", default=[], metavar="NAME=PROGRAM")
    arguments = parser.parse_args()
    heading(arguments.repository)
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        keys = scratch / "keys"
        keys.write_text(f"bench:{API_KEY}\n")
        if arguments.rounds:
            requests(arguments, keys, scratch)
        if arguments.streams and not memory(arguments, keys):
            sys.exit("streams were lost")


if __name__ == "__main__":
    main()
