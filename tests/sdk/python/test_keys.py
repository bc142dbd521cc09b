"""A server with keys."""

import httpx
import openai
import pytest

from expected import user
from served import ARGUMENTS, MODEL, expected
from server import Server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("alice:key-of-alice\nbob:key-of-bob\n")
    file.chmod(0o600)
    with Server(*ARGUMENTS, "--api-key-file", str(file)) as server:
        yield server.url


def hello(api):
    return api.chat.completions.create(model=MODEL, messages=[user("hi")])


@pytest.mark.parametrize("key", ["key-of-alice", "key-of-bob"])
def test_each_key_opens(connect, guarded, key):
    client = connect(guarded, api_key=key, max_retries=0)
    assert client.call(hello).choices[0].message.content == expected("hi").text
    assert [model.id for model in client.collect(lambda api: api.models.list())] == [MODEL]


@pytest.mark.parametrize("key", ["wrong", "alice", "key-of-alice2", "key-of-alic", "alice:key-of-alice"])
def test_other_keys_do_not(connect, guarded, key):
    client = connect(guarded, api_key=key, max_retries=0)
    with pytest.raises(openai.AuthenticationError) as caught:
        client.call(hello)
    assert set(caught.value.body) == {"message", "type", "param", "code"}
    assert caught.value.code == "invalid_api_key"
    assert caught.value.response.headers["www-authenticate"].startswith("Bearer")


def test_every_operation_is_guarded(guarded):
    requests = [("GET", "/v1/models"), ("GET", f"/v1/models/{MODEL}")]
    names = ("chat/completions", "completions", "embeddings", "tokenize", "detokenize")
    requests += [("POST", f"/v1/{name}") for name in names]
    for method, path in requests:
        # The body is no JSON: the key is looked at first.
        response = httpx.request(method, guarded + path, content="{" if method == "POST" else None)
        assert response.status_code == 401, path
        assert response.json()["error"]["code"] == "invalid_api_key", path
