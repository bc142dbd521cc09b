"""Streamed chat completions, chunk by chunk as they arrive."""

import pytest

from expected import user
from served import MODEL, expected


def contents(chunks):
    return [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]


def test_the_pieces_make_the_answer(chat_stream):
    chunks = chat_stream("grüße 世界")
    pieces = contents(chunks)
    assert len(pieces) > 1
    assert "".join(pieces) == expected("grüße 世界").text


def test_the_head_is_equal_in_all_chunks(chat_stream):
    chunks = chat_stream()
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk.model for chunk in chunks} == {MODEL}
    for field in ("id", "created", "system_fingerprint"):
        assert len({getattr(chunk, field) for chunk in chunks}) == 1, field


def test_the_role_stands_in_the_first_chunk_only(chat_stream):
    roles = [chunk.choices[0].delta.role for chunk in chat_stream()]
    assert roles[0] == "assistant"
    assert not any(roles[1:])


def test_the_finish_reason_stands_in_the_last_chunk_only(chat_stream):
    chunks = chat_stream()
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons[-1] == "stop"
    assert not any(reasons[:-1])
    assert not chunks[-1].choices[0].delta.content


def test_no_usage_unless_asked(chat_stream):
    for parameters in ({}, {"stream_options": {"include_usage": False}}):
        chunks = chat_stream(**parameters)
        assert all("usage" not in chunk.model_fields_set for chunk in chunks)
        assert all(chunk.choices for chunk in chunks)


def test_usage_stands_in_one_last_chunk_without_choices(chat_stream):
    *chunks, last = chat_stream("hello", stream_options={"include_usage": True})
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)
    assert last.choices == []
    assert last.usage.prompt_tokens == expected("hello").prompt_tokens
    assert last.usage.completion_tokens == expected("hello").completion_tokens
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens
    assert last.id == chunks[0].id


def test_each_choice_has_its_own_head_and_end(chat_stream):
    chunks = chat_stream("hi", n=3)
    for index in range(3):
        choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert choices[0].delta.role == "assistant"
        assert not any(choice.delta.role for choice in choices[1:])
        assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
        assert choices[-1].finish_reason == "stop"
        assert "".join(choice.delta.content or "" for choice in choices) == expected("hi").text


@pytest.mark.echo
def test_a_streamed_tool_call(chat_stream):
    schema = {"type": "object", "properties": {"city": {"type": "string", "minLength": 3}}, "required": ["city"]}
    tool = {"type": "function", "function": {"name": "weather", "parameters": schema}}
    chunks = chat_stream(tools=[tool], tool_choice="required")
    first, *others = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert (first.index, first.type, first.function.name) == (0, "function", "weather")
    assert first.id
    assert all(call.index == 0 for call in others)
    assert not any(call.id or call.type or call.function.name for call in others)
    arguments = "".join(call.function.arguments or "" for call in [first, *others])
    assert '"city"' in arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_the_events_on_the_wire(raw):
    request = {"model": MODEL, "messages": [user("hi")], "stream": True}
    # Streaming is decided by the body: openai-python asks for application/json also then.
    response = raw.post("/v1/chat/completions", json=request, headers={"accept": "application/json"})
    assert response.headers["content-type"].split(";")[0] == "text/event-stream"
    assert "no-cache" in response.headers["cache-control"]
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in response.headers
    events = response.text.split("\n\n")
    assert events.pop() == ""
    assert events.pop() == "data: [DONE]"
    assert len(events) > 2
    assert all(event.startswith("data: {") and "\n" not in event for event in events if not event.startswith(":"))
