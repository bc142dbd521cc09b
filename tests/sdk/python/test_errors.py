"""What a client is told when a request is refused: the exception's class, and the four keys of its body."""

import openai
import pytest

from expected import user
from served import ARGUMENTS, BACKEND, MODEL
from server import Server

KEYS = {"message", "type", "param", "code"}


def refused(kind, chat, **parameters):
    with pytest.raises(openai.APIStatusError) as caught:
        chat(**parameters)
    error = caught.value
    assert type(error) is kind, f"{error.status_code}: {error.message}"
    assert set(error.body) == KEYS
    assert isinstance(error.body["message"], str) and error.body["message"]
    assert isinstance(error.body["type"], str) and error.body["type"]
    return error


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_unknown_model(chat, stream):
    error = refused(openai.NotFoundError, chat, model="nobody", stream=stream)
    assert error.code == "model_not_found"
    assert MODEL in error.message


def test_unknown_model_elsewhere(client):
    for request in (
        lambda api: api.models.retrieve("nobody"),
        lambda api: api.embeddings.create(model="nobody", input="hi"),
        lambda api: api.completions.create(model="nobody", prompt="hi"),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            client.call(request)
        assert set(caught.value.body) == KEYS
        assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"n": 0}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"tool_choice": "required", "tools": "none"}, "tools"),
        ({"stop": ["1", "2", "3", "4", "5"]}, "stop"),
        ({"response_format": {"type": "poem"}}, "response_format"),
    ],
    ids=str,
)
def test_bad_parameters(chat, parameters, param):
    error = refused(openai.BadRequestError, chat, **parameters)
    assert error.param.split(".")[0].split("[")[0] == param


@pytest.mark.parametrize(
    ("message", "inside"),
    [
        ({"role": "wizard", "content": "hi"}, "role"),
        ({"role": "user", "content": 5}, "content"),
        ({"role": "user", "content": [{"type": "smell"}]}, "content"),
    ],
    ids=["role", "content", "part"],
)
def test_the_param_points_into_the_messages(chat, message, inside):
    error = refused(openai.BadRequestError, chat, messages=[user("hi"), message])
    assert error.param.startswith("messages")
    assert "1" in error.param
    assert inside in error.param + error.message


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy", "format": "mp3"}}, "audio"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"extra_body": {"moderation": {"model": "omni-moderation-latest"}}}, "moderation"),
    ],
    ids=["modalities", "audio", "web_search_options", "moderation"],
)
def test_what_is_not_honoured_is_refused(chat, parameters, param):
    assert refused(openai.BadRequestError, chat, **parameters).param == param


def test_a_required_field_is_missing(raw):
    for path, request, param in [
        ("/v1/chat/completions", {"model": MODEL}, "messages"),
        ("/v1/chat/completions", {"messages": [user("hi")]}, "model"),
        ("/v1/embeddings", {"model": MODEL}, "input"),
        ("/v1/completions", {"model": MODEL}, "prompt"),
    ]:
        response = raw.post(path, json=request)
        error = response.json()["error"]
        assert response.status_code == 400, (path, error)
        assert set(error) == KEYS
        assert param in (error["param"] or "") + error["message"], (path, error)


@pytest.mark.parametrize("body", ["{", "", "[]", '"hi"', "null", "\x00"], ids=repr)
def test_a_body_that_is_no_request(raw, body):
    response = raw.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert set(response.json()["error"]) == KEYS


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", "/v1/chat/completions", 405), ("PUT", "/v1/models", 405)],
)
def test_urls_and_methods(raw, method, path, status):
    response = raw.request(method, path)
    assert response.status_code == status
    assert set(response.json()["error"]) == KEYS


@pytest.fixture(scope="module")
def small():
    with Server(*ARGUMENTS, "--set", f"{BACKEND}.context_length=64") as server:
        yield server.url


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_prompt_too_long(connect, small, stream):
    client = connect(small, max_retries=0)

    def chat(**parameters):
        request = {"model": MODEL, "messages": [user("word " * 100)], **parameters}
        return client.call(lambda api: api.chat.completions.create(**request))

    error = refused(openai.BadRequestError, chat, stream=stream)
    assert error.code == "context_length_exceeded"
    assert "64" in error.message


@pytest.mark.echo
def test_a_text_too_long_for_an_embedding_or_a_completion(connect, small):
    client = connect(small, max_retries=0)
    for request in (
        lambda api: api.embeddings.create(model=MODEL, input="word " * 100),
        lambda api: api.completions.create(model=MODEL, prompt="word " * 100),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            client.call(request)
        assert caught.value.code == "context_length_exceeded"
