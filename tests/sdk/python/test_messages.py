"""The shapes a message may have."""

import pytest

from echo import answer, prompt_tokens
from expected import user

PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IMAGE = {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
FILE = {"type": "file", "file": {"filename": "note.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}}


def text(value):
    return {"type": "text", "text": value}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([text("one")], "one"),
        ([text("one "), text("two")], "one two"),
        ([text("see "), IMAGE, text(" here")], "see [image_url] here"),
        ([AUDIO, FILE], "[input_audio][file]"),
    ],
    ids=["one text", "two texts", "image between texts", "audio and file"],
)
def test_content_parts(chat, parts, expected):
    assert chat(messages=[user(parts)]).choices[0].message.content == answer(expected)


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize("content", ["Be brief.", [text("Be brief.")]], ids=["string", "parts"])
def test_instructions(chat, role, content):
    completion = chat(messages=[{"role": role, "content": content}, user("hi")])
    assert completion.choices[0].message.content == answer("hi")
    assert completion.usage.prompt_tokens > prompt_tokens(user("hi"))


def test_names(chat):
    assert chat(messages=[{**user("hi"), "name": "ada"}]).choices[0].message.content == answer("hi")


@pytest.mark.parametrize("result", ["22 degrees", [text("22 "), text("degrees")]], ids=["string", "parts"])
def test_a_tool_call_and_its_result(chat, result):
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
    messages = [
        user("weather in Oslo?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    ]
    assert chat(messages=messages).choices[0].message.content == answer("weather in Oslo?")


def test_an_assistant_message_may_leave_its_content_out(chat):
    call = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    messages = [
        user("what time is it?"),
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "noon"},
        user("thanks"),
    ]
    assert chat(messages=messages).choices[0].message.content == answer("thanks")


def test_the_function_role_of_old_clients(chat):
    messages = [
        user("what time is it?"),
        {"role": "assistant", "content": None, "function_call": {"name": "now", "arguments": "{}"}},
        {"role": "function", "name": "now", "content": "noon"},
    ]
    assert chat(messages=messages).choices[0].message.content == answer("what time is it?")
