"""Tokenize and detokenize, which openai-python does not know: its generic `post` sends them."""

import pytest

from echo import tokens
from expected import user
from served import CONTEXT_LENGTH, DEMO, MODEL, expected

TEXTS = ["", "a", "Echo from", "grüße 世界", " \n\t x", "👩‍👩‍👧\x00 \r\n", "x" * 1000]


def post(client, path, **body):
    return client.call(lambda api: api.post(path, body={"model": MODEL, **body}, cast_to=object))


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_round_trip(client, text):
    found = post(client, "/tokenize", prompt=text)
    assert found["count"] == len(found["tokens"])
    assert DEMO or found["count"] == len(tokens(text))
    assert found["max_model_len"] == CONTEXT_LENGTH
    # The demo model's tokenizer puts a token of its own before a text.
    assert post(client, "/detokenize", tokens=found["tokens"]) == {"prompt": "<|text|>" * DEMO + text}


@pytest.mark.echo
def test_a_token_has_one_id(client):
    text = "one two one two"
    ids = post(client, "/tokenize", prompt=text)["tokens"]
    pairs = set(zip(tokens(text), ids, strict=True))
    assert len(pairs) == len(set(tokens(text))) == len(set(ids))


def test_messages_count_as_in_a_chat(client, chat):
    messages = [{"role": "system", "content": "Be brief."}, user("hi")]
    found = post(client, "/tokenize", messages=messages)
    assert found["count"] == expected(*messages).prompt_tokens == chat(messages=messages).usage.prompt_tokens
