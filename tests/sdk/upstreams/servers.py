"""What is started: a server that we did not write, and sconce in front of it; both end by their process id."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

# A busy machine takes minutes to load some of them.
STARTUP_SECONDS = 900
BIN = Path(sys.executable).parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(command, **variables):
    """The process, and the file that all it says goes to."""
    with tempfile.NamedTemporaryFile("r", suffix=".log", prefix="upstreams-") as log:
        environment = {**os.environ, **variables}
        with open(log.name, "w") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)
        try:
            yield process, log
        except BaseException:
            print(Path(log.name).read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def await_200(url, process):
    until = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).status_code == 200:
                return
        time.sleep(0.2)
    raise RuntimeError(f"{url} does not answer")


@contextlib.contextmanager
def vllm(model, *more, dtype="bfloat16"):
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--served-model-name", "tiny"]
    # What was computed before would be added up otherwise than what is computed now.
    command += ["--dtype", dtype, "--enforce-eager", "--no-enable-prefix-caching", "--host", "127.0.0.1", "--port", str(port), *more]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    # Others use this machine as well.
    environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    with running(command, **environment) as (process, _):
        await_200(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}", "tiny"


@contextlib.contextmanager
def vllm_pooling(model):
    # In bfloat16 its worker ends with an illegal instruction here (0.32.0).
    with vllm(model, "--runner", "pooling", "--convert", "embed", dtype="float32") as started:
        yield started


@contextlib.contextmanager
def transformers(model):
    port = free_port()
    command = [BIN / "transformers", "serve", model, "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    with tempfile.TemporaryDirectory() as cache:
        # Its list of models is made of this folder.
        with running(command, HF_HUB_OFFLINE="1", HF_HUB_CACHE=cache) as (process, _):
            await_200(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}", model


@contextlib.contextmanager
def llama_cpp(model):
    port = free_port()
    command = [sys.executable, "-m", "llama_cpp.server", "--model", model, "--model_alias", "tiny"]
    # Else a new request ends the one before.
    command += ["--interrupt_requests", "false"]
    command += ["--n_ctx", "2048", "--seed", "1", "--host", "127.0.0.1", "--port", str(port)]
    with running(command) as (process, _):
        await_200(f"http://127.0.0.1:{port}/v1/models", process)
        yield f"http://127.0.0.1:{port}", "tiny"


@contextlib.contextmanager
def sconce(*settings):
    command = [os.environ["SERVER_UNDER_TEST"], "--listen", "127.0.0.1:0", "--set", "log.format=json"]
    with running([*command, *(part for setting in settings for part in ("--set", setting))]) as (process, log):
        until = time.monotonic() + STARTUP_SECONDS
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", Path(log.name).read_text())):
            if time.monotonic() > until or process.poll() is not None:
                raise RuntimeError("the server did not say where it listens")
            time.sleep(0.05)
        await_200(f"{found[0]}/health", process)
        yield found[0]
