"""`response_format`, and `.parse()` which builds on it."""

import enum
import json

import openai
import pytest
from pydantic import BaseModel, Field

from echo import MODEL, answer
from expected import user


class Colour(enum.Enum):
    red = "red"
    green = "green"


class Point(BaseModel):
    x: float
    y: float


class Answer(BaseModel):
    title: str
    score: int = Field(ge=3, le=9)
    colour: Colour
    done: bool
    tags: list[str]
    origin: Point


def parse(client, **parameters):
    request = {"model": MODEL, "messages": [user("hi")], **parameters}
    return client.call(lambda api: api.chat.completions.parse(**request))


def test_json_object(chat):
    completion = chat("an empty object of JSON, please", response_format={"type": "json_object"})
    assert json.loads(completion.choices[0].message.content) == {}


def test_text(chat):
    assert chat(response_format={"type": "text"}).choices[0].message.content == answer("hi")


def test_json_schema(chat):
    schema = {
        "type": "object",
        "properties": {
            "word": {"type": "string", "minLength": 2},
            "list": {"type": "array", "items": {"type": "integer", "minimum": 7}, "minItems": 2},
            "kind": {"enum": ["b", "a"]},
            "not_required": {"type": "string"},
        },
        "required": ["word", "list", "kind"],
        "additionalProperties": False,
    }
    named = {"name": "thing", "schema": schema, "strict": True}
    completion = chat(response_format={"type": "json_schema", "json_schema": named})
    found = json.loads(completion.choices[0].message.content)
    assert len(found.pop("word")) == 2
    assert found == {"list": [7, 7], "kind": "b"}
    assert completion.choices[0].finish_reason == "stop"


def test_parse(client):
    message = parse(client, response_format=Answer).choices[0].message
    assert message.refusal is None
    assert message.parsed == Answer(
        title="", score=3, colour=Colour.red, done=False, tags=[], origin=Point(x=0, y=0)
    )


def test_parse_with_strict_tools(client):
    tools = [openai.pydantic_function_tool(Point), openai.pydantic_function_tool(Answer)]
    choice = {"type": "function", "function": {"name": "Answer"}}
    completion = parse(client, tools=tools, tool_choice=choice)
    [call] = completion.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Answer)
    assert completion.choices[0].finish_reason == "tool_calls"


def test_a_cut_answer_is_said_to_be_cut(client):
    with pytest.raises(openai.LengthFinishReasonError):
        parse(client, response_format=Answer, max_tokens=2)
