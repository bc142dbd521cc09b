"""A client that goes away gives its place back, streaming or not."""

import asyncio

import openai
import pytest

from slow import LONG, SHORT, slow_server

# The long answers take minutes: a place that comes back only at their end comes too late for this many attempts.
PATIENT = {"max_retries": 10}


@pytest.fixture
def url():
    with slow_server() as server:
        yield server.url


@pytest.fixture
def place_is_free(connect, url):
    def ask():
        client = connect(url, **PATIENT)
        completion = client.call(lambda api: api.chat.completions.create(**SHORT))
        assert completion.choices[0].finish_reason == "length"

    return ask


def test_a_stream_is_closed(url, place_is_free):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        with client.chat.completions.create(**LONG, stream=True) as stream:
            pieces = [chunk for chunk, _ in zip(stream, range(3), strict=False)]
        assert len(pieces) == 3
        place_is_free()


async def read(client, started):
    async for _ in await client.chat.completions.create(**LONG, stream=True):
        started.set()


async def test_a_task_is_cancelled(url):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        started = asyncio.Event()
        task = asyncio.create_task(read(client, started))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        completion = await client.with_options(**PATIENT).chat.completions.create(**SHORT)
        assert completion.choices[0].finish_reason == "length"


def test_a_timeout(connect, url, place_is_free):
    client = connect(url, max_retries=0, timeout=1)
    with pytest.raises(openai.APITimeoutError):
        client.call(lambda api: api.chat.completions.create(**LONG))
    place_is_free()
