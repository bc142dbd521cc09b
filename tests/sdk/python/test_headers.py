"""The headers of answers that clients read."""

import openai
import pytest

from expected import user
from served import MODEL, expected

REQUEST = {"model": MODEL, "messages": [user("hi")]}


def test_raw_response(client):
    response = client.call(lambda api: api.chat.completions.with_raw_response.create(**REQUEST))
    assert response.status_code == 200
    assert response.headers["content-type"].split(";")[0] == "application/json"
    assert response.headers["openai-processing-ms"].isdigit()
    assert response.headers["openai-version"]
    assert response.request_id
    # LegacyAPIResponse.parse is a plain call on the synchronous client and awaited nowhere on the other.
    assert response.parse().choices[0].message.content == expected("hi").text


def test_request_ids_differ(chat):
    first, second = chat()._request_id, chat()._request_id
    assert first and second
    assert first != second


def test_a_request_id_that_was_sent_comes_back(chat):
    assert chat(extra_headers={"x-request-id": "outside-in-17"})._request_id == "outside-in-17"


def test_a_stream_has_them_too(client):
    request = {**REQUEST, "stream": True, "extra_headers": {"x-request-id": "outside-in-18"}}
    response = client.call(lambda api: api.chat.completions.with_raw_response.create(**request))
    assert response.headers["x-request-id"] == "outside-in-18"
    assert response.headers["openai-version"]
    client.collect(lambda _: response.parse())


def test_an_error_has_them_too(chat):
    with pytest.raises(openai.NotFoundError) as caught:
        chat(model="nobody", extra_headers={"x-request-id": "outside-in-19"})
    assert caught.value.request_id == "outside-in-19"
