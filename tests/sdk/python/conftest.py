"""Servers and clients for the tests. A server with the defaults is shared; one with settings belongs to its test file."""

import contextlib

import httpx
import pytest

from api import AsyncApi, Bound, SyncApi
from expected import user
from served import ARGUMENTS, DEMO, MODEL
from server import Server

# Whole files of what one of the two has alone, or brings itself.
OF_ECHO = {f"test_{name}" for name in ("busy", "embeddings", "gone", "messages", "structured", "tools")}
OF_DEMO = {"test_demo", "test_reasoning"}


def pytest_collection_modifyitems(config, items):
    """Leaves out what is about the other; tests marked `echo` are about the echo backend, its texts or its abilities."""

    def is_of_the_other(item):
        if DEMO:
            return item.path.stem in OF_ECHO or item.get_closest_marker("echo")
        return item.path.stem in OF_DEMO

    left = [item for item in items if is_of_the_other(item)]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


@pytest.fixture(scope="session")
def url():
    with Server(*ARGUMENTS) as server:
        yield server.url


@pytest.fixture(params=[SyncApi, AsyncApi], ids=lambda api: api.name)
def connect(request):
    """`connect(url, **options)` makes a client; each test that asks for it runs once for each kind of client."""
    with contextlib.ExitStack() as stack:
        api = request.param()
        stack.callback(api.close)

        def make(url, **options):
            bound = Bound(api, url, **options)
            stack.callback(bound.close)
            return bound

        yield make


@pytest.fixture
def client(connect, url):
    # No retries: a test that needs a second attempt to pass has found something.
    return connect(url, max_retries=0)


@pytest.fixture
def chat(client):
    """`chat("hi", n=2)`: one answer to one message of the user, or to `messages`."""

    def ask(text="hi", **parameters):
        request = {"model": MODEL, "messages": [user(text)], **parameters}
        return client.call(lambda api: api.chat.completions.create(**request))

    return ask


@pytest.fixture
def chat_stream(client):
    """The chunks of a streamed answer."""

    def ask(text="hi", **parameters):
        request = {"model": MODEL, "messages": [user(text)], "stream": True, **parameters}
        return client.collect(lambda api: api.chat.completions.create(**request))

    return ask


@pytest.fixture(scope="session")
def raw(url):
    """HTTP without an SDK, for what no SDK would send."""
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture
def ids(raw):
    """The token ids of a text."""

    def ask(text):
        return raw.post("/v1/tokenize", json={"model": MODEL, "prompt": text}).raise_for_status().json()["tokens"]

    return ask
