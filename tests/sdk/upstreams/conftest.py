"""The server of another project that this run is about, and two clients: one asks it, one asks the proxy before it."""

import contextlib
import os

import httpx
import openai
import pytest

import servers

UPSTREAM = os.environ["UPSTREAM"]
# What each of them has, by its path below /v1; `parts`: messages whose content is a list.
HAS = {
    "vllm": {"parts", "chat/completions", "completions", "responses", "messages", "tokenize", "detokenize"},
    "vllm_pooling": {"embeddings", "rerank", "score", "tokenize", "detokenize"},
    "transformers": {"parts", "chat/completions", "completions", "responses"},
    "llama_cpp": {"chat/completions", "completions"},
}[UPSTREAM]
# What the server never answers, and nothing after it.
HANGS_AT = {"transformers": ("temperature", "too many")}.get(UPSTREAM, ())


def pytest_collection_modifyitems(config, items):
    """Leaves out what the server does not have."""
    needs = {item: {mark.args[0] for mark in item.iter_markers("needs")} for item in items}
    hangs = {f"test_errors[{wrong}]" for wrong in HANGS_AT}
    left = [item for item in items if not needs[item] <= HAS or item.name in hangs]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(path): the server must have it")


@pytest.fixture(scope="session")
def upstream():
    """Where the server is, and what it calls its model."""
    if url := os.environ.get("UPSTREAM_URL"):
        yield url, os.environ["UPSTREAM_MODEL"]
        return
    with getattr(servers, UPSTREAM)(os.environ["MODEL"]) as started:
        yield started


@pytest.fixture(scope="session")
def proxied(upstream):
    """`tiny` is its model, `ghost` one that it does not have, `gone` one of a server that is not there."""
    url, model = upstream
    settings = [f"proxy.base_url={url}/v1", "models.tiny.backend=proxy", f"models.tiny.proxy.model={model}"]
    settings += ["models.ghost.backend=proxy", "models.ghost.proxy.model=ghost"]
    settings += ["models.gone.backend=proxy", f"models.gone.proxy.base_url=http://127.0.0.1:{servers.free_port()}/v1"]
    with servers.sconce(*settings, "models.gone.required=false") as through:
        yield through


class Client:
    """A client of openai-python, and what the model is called where it asks."""

    def __init__(self, url, model, at_root):
        self.url, self.model, self.at_root = url, model, at_root
        self.openai = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600)

    def post(self, path, body):
        """For operations that this SDK has no method for."""
        url = f"{self.url}/{path}" if path in self.at_root else f"{self.url}/v1/{path}"
        return httpx.post(url, json={"model": self.model, **body}, timeout=600)


@pytest.fixture(scope="session")
def clients(upstream, proxied):
    """Direct and through."""
    url, model = upstream
    with contextlib.ExitStack() as stack:
        both = Client(url, model, {"tokenize", "detokenize"}), Client(proxied, "tiny", set())
        for client in both:
            stack.callback(client.openai.close)
        yield both
