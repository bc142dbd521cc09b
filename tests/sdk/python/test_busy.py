"""A full server: 429 with `retry-after`, and clients that come back when it says."""

import threading
import time

import anyio
import openai
import pytest

from slow import LONG, SHORT, slow_server


@pytest.fixture
def busy():
    """A server whose only place is taken, and the function that gives it back."""
    with slow_server() as server:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as holder:
            stream = holder.chat.completions.create(**LONG, stream=True)
            next(iter(stream))
            yield server.url, stream.close
            stream.close()


@pytest.fixture
def sleeps(monkeypatch):
    """The waits between attempts; `sleeps.before(n)` may act at one of them."""

    class Sleeps(list):
        act = staticmethod(lambda: None)

    found = Sleeps()
    sleep, asleep = time.sleep, anyio.sleep
    main = threading.current_thread()

    def record(seconds):
        if threading.current_thread() is main:
            found.append(seconds)
            found.act()
        sleep(seconds)

    async def arecord(seconds):
        found.append(seconds)
        found.act()
        await asleep(seconds)

    monkeypatch.setattr("openai._base_client.time.sleep", record)
    monkeypatch.setattr("openai._base_client.anyio.sleep", arecord)
    return found


def short(client):
    return client.call(lambda api: api.chat.completions.create(**SHORT))


def test_full(connect, busy):
    url, _ = busy
    with pytest.raises(openai.RateLimitError) as caught:
        short(connect(url, max_retries=0))
    assert set(caught.value.body) == {"message", "type", "param", "code"}
    assert int(caught.value.response.headers["retry-after"]) >= 1


def test_full_for_all_attempts(connect, busy, sleeps):
    url, _ = busy
    with pytest.raises(openai.RateLimitError) as caught:
        short(connect(url, max_retries=2))
    # The client says in its last request how often it had tried before.
    assert caught.value.request.headers["x-stainless-retry-count"] == "2"
    # Left to itself the client waits a random part of a second: whole seconds are the server's word.
    retry_after = float(caught.value.response.headers["retry-after"])
    assert len(sleeps) == 2
    assert sleeps[-1] == pytest.approx(retry_after, abs=2)
    assert all(seconds == int(seconds) for seconds in sleeps)


def test_a_place_that_becomes_free(connect, busy, sleeps):
    url, free = busy
    sleeps.act = free
    assert short(connect(url, max_retries=5)).choices[0].finish_reason == "length"
    assert sleeps


def test_others_are_answered_while_it_is_full(connect, busy):
    url, _ = busy
    client = connect(url, max_retries=0)
    assert client.collect(lambda api: api.models.list())
