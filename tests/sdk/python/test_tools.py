"""Tools, and who decides whether one is called."""

import json

import pytest

from echo import answer

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                "days": {"type": "integer", "minimum": 1},
                "note": {"type": "string"},
            },
            "required": ["city", "unit", "days"],
        },
    },
}
NOW = {"type": "function", "function": {"name": "now"}}


def only_call(completion):
    [choice] = completion.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    [call] = choice.message.tool_calls
    assert call.type == "function"
    assert call.id
    return call.function.name, json.loads(call.function.arguments)


@pytest.mark.parametrize("parameters", [{}, {"tool_choice": "auto"}, {"tool_choice": "none"}], ids=str)
def test_plain_text_where_no_call_is_asked_for(chat, parameters):
    [choice] = chat("hello", tools=[WEATHER], **parameters).choices
    assert choice.message.content == answer("hello")
    assert not choice.message.tool_calls
    assert choice.finish_reason == "stop"


def test_required_calls_the_first_tool(chat):
    name, arguments = only_call(chat(tools=[WEATHER, NOW], tool_choice="required"))
    assert name == "weather"
    assert arguments == {"city": "", "unit": "celsius", "days": 1}


def test_a_named_tool_is_called(chat):
    choice = {"type": "function", "function": {"name": "now"}}
    assert only_call(chat(tools=[WEATHER, NOW], tool_choice=choice)) == ("now", {})


def test_ids_of_calls_differ(chat):
    completion = chat(tools=[NOW], tool_choice="required", n=2)
    first, second = [choice.message.tool_calls[0].id for choice in completion.choices]
    assert first != second
