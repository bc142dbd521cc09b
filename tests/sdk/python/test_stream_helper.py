"""`client.chat.completions.stream()`, which folds the chunks and names what happened."""

import json

import openai
import pytest
from pydantic import BaseModel

from expected import user
from served import MODEL, expected


class City(BaseModel):
    name: str
    inhabitants: int


def stream(client, text="hi", **parameters):
    request = {"model": MODEL, "messages": [user(text)], **parameters}
    return client.events(lambda api: api.chat.completions.stream(**request))


def of_kind(events, kind):
    return [event for event in events if event.type == kind]


def test_content(client):
    events, final = stream(client, "hello world")
    assert {event.type for event in events} == {"chunk", "content.delta", "content.done"}
    deltas = of_kind(events, "content.delta")
    assert "".join(event.delta for event in deltas) == expected("hello world").text
    assert deltas[-1].snapshot == expected("hello world").text
    [done] = of_kind(events, "content.done")
    assert done.content == expected("hello world").text
    assert final.choices[0].message.role == "assistant"
    assert final.choices[0].message.content == expected("hello world").text
    assert final.choices[0].finish_reason == "stop"


def test_usage(client):
    _, final = stream(client, stream_options={"include_usage": True})
    assert final.usage.prompt_tokens == expected("hi").prompt_tokens
    assert final.usage.completion_tokens == expected("hi").completion_tokens


@pytest.mark.echo
def test_structured_content(client):
    events, final = stream(client, response_format=City)
    [done] = of_kind(events, "content.done")
    assert done.parsed == City(name="", inhabitants=0)
    assert final.choices[0].message.parsed == City(name="", inhabitants=0)


@pytest.mark.echo
def test_tool_calls(client):
    tool = openai.pydantic_function_tool(City, name="remember_city")
    events, final = stream(client, tools=[tool], tool_choice="required")
    deltas = of_kind(events, "tool_calls.function.arguments.delta")
    assert deltas
    assert {event.name for event in deltas} == {"remember_city"}
    [done] = of_kind(events, "tool_calls.function.arguments.done")
    assert json.loads(done.arguments) == {"name": "", "inhabitants": 0}
    assert done.parsed_arguments == City(name="", inhabitants=0)
    assert deltas[-1].arguments == done.arguments
    [call] = final.choices[0].message.tool_calls
    assert call.function.parsed_arguments == City(name="", inhabitants=0)
    assert final.choices[0].finish_reason == "tool_calls"


def test_logprobs(client):
    events, final = stream(client, "hello", logprobs=True, top_logprobs=2)
    assert of_kind(events, "logprobs.content.delta")
    [done] = of_kind(events, "logprobs.content.done")
    assert "".join(token.token for token in done.content) == expected("hello").text
    assert [token.token for token in final.choices[0].logprobs.content] == expected("hello").tokens
