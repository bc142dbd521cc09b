"""The servers under test as child processes, and what the kernel says of them."""

import http.client
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
MODEL = "gpt-oss-20b"
API_KEY = "sk-compare"
PATH = "/v1/chat/completions"
HEADERS = {"content-type": "application/json", "authorization": f"Bearer {API_KEY}"}
TICKS = os.sysconf("SC_CLK_TCK")


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass
class Server:
    process: subprocess.Popen
    port: int

    def cpu_seconds(self) -> float:
        """User and system time of all its threads."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss(self) -> int:
        """Resident bytes: the heap, the stacks and the parts of files, its own code above all, that are mapped in."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("the server has ended")

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def post(self, body: bytes) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", PATH, body, HEADERS)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {answer[:500]!r}")
        return answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pinned(command: list[str], cpu: int | None) -> list[str]:
    return command if cpu is None else ["taskset", "--cpu-list", str(cpu), *command]


@contextmanager
def sconce(program: str, keys_file: Path, cpu: int | None, settings: dict[str, object] | None = None):
    """sconce on a free port. Its log goes to /dev/null: written, by default a line a request, and not kept."""
    settings = {"auth.keys_file": keys_file, **(settings or {})}
    command = [program, "--listen", "127.0.0.1:0"]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SCONCE")}
    process = subprocess.Popen(
        pinned(command, cpu),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd="/",
        text=True,
    )
    with ended(process):
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            raise RuntimeError(f"{program} does not start; without its log this is all it said: {line!r}")
        yield Server(process, int(line.rpartition(":")[2]))


@contextmanager
def fastapi(cpu: int | None, *, plain: bool = False, access_log: bool = False, delay_ms: int = 0):
    """The reference under uvicorn, one worker: at its best with uvloop and httptools, or `plain`, as it runs where neither is
    installed. The access log goes to /dev/null."""
    # Not a socket of ours: uvicorn takes an inherited one for a Unix socket, and then TCP_NODELAY is never set.
    command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--host", "127.0.0.1", "--port", "0"]
    command += ["--loop", "asyncio", "--http", "h11"] if plain else ["--loop", "uvloop", "--http", "httptools"]
    command += ["--workers", "1"]
    command += ["--access-log" if access_log else "--no-access-log", "--no-use-colors"]
    environment = {**os.environ, "API_KEY": API_KEY, "MODEL_ID": MODEL, "ECHO_DELAY_MS": str(delay_ms)}
    process = subprocess.Popen(
        pinned(command, cpu),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=HERE,
        text=True,
    )
    with ended(process):
        said = ""
        for line in process.stderr:
            said += line
            if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                # It complains of what wrk leaves half sent, and would wait for a reader when the pipe is full.
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield Server(process, int(found[1]))
                return
        raise RuntimeError(f"uvicorn does not start: {said}")


@contextmanager
def constant(answer: bytes, scratch: Path, cpu: int | None):
    """nginx that reads a request, looks at none of it and answers from a file in the page cache: what is left is the
    kernel's part of a request and little else."""
    port = free_port()
    scratch.mkdir()
    (scratch / "answer").write_bytes(answer)
    config = scratch / "nginx.conf"
    config.write_text(f"""
        daemon off; master_process off; pid {scratch}/pid; error_log /dev/null;
        events {{ worker_connections 1024; }}
        http {{
          access_log off; keepalive_requests 100000000; sendfile on; tcp_nopush on; open_file_cache max=10;
          client_body_temp_path {scratch}/body; client_body_buffer_size 1m; proxy_temp_path {scratch}/proxy;
          fastcgi_temp_path {scratch}/f; uwsgi_temp_path {scratch}/u; scgi_temp_path {scratch}/s;
          server {{
            listen 127.0.0.1:{port};
            # Files are not for POST; its refusal is answered with the file.
            location / {{ error_page 405 =200 /answer; return 405; }}
            location = /answer {{ root {scratch}; default_type application/json; error_page 405 =200 $uri; }}
          }}
        }}
    """)
    command = ["nginx", "-c", str(config), "-e", "/dev/null"]
    process = subprocess.Popen(pinned(command, cpu), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    with ended(process):
        server, until = Server(process, port), time.monotonic() + 10
        while True:
            try:
                given = server.post(b"{}")
                break
            except OSError:
                if time.monotonic() > until or process.poll() is not None:
                    raise
                time.sleep(0.1)
        if given != answer:
            raise RuntimeError(f"nginx answers {given[:200]!r}")
        yield server


@contextmanager
def ended(process: subprocess.Popen):
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
