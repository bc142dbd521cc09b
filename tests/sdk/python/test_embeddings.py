"""Embeddings. openai-python asks for base64 unless told otherwise, and decodes it."""

import base64
import math
import struct

import pytest

from echo import DIMENSIONS, MODEL, tokens


@pytest.fixture
def embed(client):
    def ask(text, **parameters):
        return client.call(lambda api: api.embeddings.create(model=MODEL, input=text, **parameters))

    return ask


def vectors(response):
    assert [row.index for row in response.data] == list(range(len(response.data)))
    assert {row.object for row in response.data} == {"embedding"}
    return [row.embedding for row in response.data]


def same(one, other):
    """Equal but for the digits that float32 and decimal notation lose."""
    return one == pytest.approx(other, abs=1e-6)


def test_a_unit_vector(embed):
    response = embed("hello world")
    assert response.object == "list"
    assert response.model == MODEL
    [vector] = vectors(response)
    assert len(vector) == DIMENSIONS
    assert math.hypot(*vector) == pytest.approx(1, abs=1e-4)
    assert response.usage.prompt_tokens == response.usage.total_tokens == len(tokens("hello world"))


def test_float_and_base64_say_the_same(embed):
    [asked_float] = vectors(embed("hello", encoding_format="float"))
    [by_default] = vectors(embed("hello"))
    assert same(asked_float, by_default)


def test_base64_is_little_endian_float32(raw):
    request = {"model": MODEL, "input": "hello"}
    plain = raw.post("/v1/embeddings", json=request).raise_for_status().json()
    encoded = raw.post("/v1/embeddings", json={**request, "encoding_format": "base64"}).raise_for_status().json()
    found = struct.unpack(f"<{DIMENSIONS}f", base64.b64decode(encoded["data"][0]["embedding"], validate=True))
    assert same(list(found), plain["data"][0]["embedding"])


def test_one_text_one_vector(embed):
    [one], [again], [other] = [vectors(embed(text)) for text in ("hello", "hello", "goodbye")]
    assert one == again
    assert not same(one, other)


@pytest.mark.parametrize("dimensions", [1, 8, 256, 1024])
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_dimensions(embed, dimensions, encoding):
    [vector] = vectors(embed("hello", dimensions=dimensions, encoding_format=encoding))
    if encoding == "base64":  # the SDK decodes only where it chose the encoding itself
        vector = struct.unpack(f"<{dimensions}f", base64.b64decode(vector, validate=True))
    assert len(vector) == dimensions
    assert math.hypot(*vector) == pytest.approx(1, abs=1e-4)


def test_the_four_shapes_of_input(embed, ids):
    [one] = vectors(embed("one"))
    [two] = vectors(embed("two"))
    assert all(map(same, vectors(embed(["one", "two"])), [one, two]))
    assert same(vectors(embed(ids("one")))[0], one)
    assert all(map(same, vectors(embed([ids("one"), ids("two")])), [one, two]))
