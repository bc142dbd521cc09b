"""Tokenize and detokenize, which openai-python does not know: its generic `post` sends them."""

import pytest

from echo import CONTEXT_LENGTH, MODEL, prompt_tokens, tokens, user

TEXTS = ["", "a", "Echo from", "grüße 世界", " \n\t x", "👩‍👩‍👧\x00 \r\n", "x" * 1000]


def post(client, path, **body):
    return client.call(lambda api: api.post(path, body={"model": MODEL, **body}, cast_to=object))


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_round_trip(client, text):
    found = post(client, "/tokenize", prompt=text)
    assert found["count"] == len(found["tokens"]) == len(tokens(text))
    assert found["max_model_len"] == CONTEXT_LENGTH
    assert post(client, "/detokenize", tokens=found["tokens"]) == {"prompt": text}


def test_a_token_has_one_id(client):
    text = "one two one two"
    ids = post(client, "/tokenize", prompt=text)["tokens"]
    pairs = set(zip(tokens(text), ids, strict=True))
    assert len(pairs) == len(set(tokens(text))) == len(set(ids))


def test_messages_count_as_in_a_chat(client, chat):
    messages = [{"role": "system", "content": "Be brief."}, user("hi")]
    found = post(client, "/tokenize", messages=messages)
    assert found["count"] == prompt_tokens(*messages) == chat(messages=messages).usage.prompt_tokens
