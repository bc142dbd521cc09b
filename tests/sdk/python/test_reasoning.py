"""Reasoning and tool calls of local models, from models that recite them (tests/fixtures/reciting.py)."""

import json
import pathlib

import pytest
from langchain_openai import ChatOpenAI

from expected import user
from server import Server

RECITING = pathlib.Path(__file__).parents[2] / "fixtures" / "reciting"
RECITALS = json.loads((RECITING / "recitals.json").read_text())
MODELS = sorted({recital["model"] for recital in RECITALS})


def ids(recital):
    return f"{recital['model']}: {recital['name']}"


@pytest.fixture(scope="module", params=MODELS)
def served(request):
    source = f"candle.source={RECITING / request.param}"
    with Server("--backend", "candle", "--model-id", request.param, "--set", source) as server:
        yield request.param, server.url


@pytest.fixture
def client(connect, served):
    return connect(served[1], max_retries=0)


@pytest.fixture
def recitals(served):
    return [recital for recital in RECITALS if recital["model"] == served[0]]


def asking(recital):
    return {
        "model": recital["model"],
        "messages": [user(recital["text"])],
        "temperature": 0,
        **recital["request"],
    }


def calls(message):
    return [[call.function.name, call.function.arguments] for call in message.tool_calls or []]


def test_whole(client, recitals):
    for recital in recitals:
        completion = client.call(lambda api, recital=recital: api.chat.completions.create(**asking(recital)))
        [choice] = completion.choices
        # Fields that the SDK does not know are attributes where they were sent.
        assert getattr(choice.message, "reasoning_content", None) == recital["reasoning"], ids(recital)
        assert getattr(choice.message, "reasoning", None) == recital["reasoning"]
        assert choice.message.content == recital["content"]
        assert calls(choice.message) == recital["calls"]
        assert choice.finish_reason == recital["finish_reason"]
        assert completion.usage.completion_tokens_details.reasoning_tokens == recital["reasoning_tokens"]


def test_stream(client, recitals):
    for recital in recitals:
        chunks = client.collect(
            lambda api, recital=recital: api.chat.completions.create(**asking(recital), stream=True)
        )
        deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
        for name in ("reasoning_content", "reasoning"):
            pieces = [piece for delta in deltas if (piece := getattr(delta, name, None))]
            assert "".join(pieces) == (recital["reasoning"] or ""), ids(recital)
            assert len(pieces) > 1 or not recital["reasoning"], "it comes as it grows"
        assert "".join(delta.content or "" for delta in deltas) == (recital["content"] or "")


def test_stream_helper(client, recitals):
    for recital in recitals:
        events, final = client.events(lambda api, recital=recital: api.chat.completions.stream(**asking(recital)))
        [choice] = final.choices
        assert (choice.message.content or "") == (recital["content"] or ""), ids(recital)
        assert calls(choice.message) == recital["calls"]
        done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
        assert [[event.name, event.arguments] for event in done] == recital["calls"]
        pieces = [event for event in events if event.type == "tool_calls.function.arguments.delta"]
        assert "".join(event.arguments_delta for event in pieces) == "".join(call[1] for call in recital["calls"])


def test_an_answer_goes_back_as_it_came(client, recitals):
    for recital in recitals:
        completion = client.call(lambda api, recital=recital: api.chat.completions.create(**asking(recital)))
        message = completion.choices[0].message
        results = [{"role": "tool", "tool_call_id": call.id, "content": "{}"} for call in message.tool_calls or []]
        # A short question: the model recites nothing behind it, and need not.
        messages = [user("a"), message.model_dump(exclude_none=True), *results]
        again = client.call(
            lambda api, messages=messages, recital=recital: api.chat.completions.create(
                model=recital["model"], messages=messages, max_tokens=1, temperature=0
            )
        )
        assert again.usage.completion_tokens == 1


def test_langchain(served, recitals):
    model = ChatOpenAI(model=served[0], base_url=f"{served[1]}/v1", api_key="any", max_retries=0, temperature=0)
    recital = next(recital for recital in recitals if recital["calls"])
    bound = model.bind_tools(recital["request"]["tools"])
    expected = [[name, json.loads(arguments)] for name, arguments in recital["calls"]]
    message = bound.invoke(recital["text"])
    assert [[call["name"], call["args"]] for call in message.tool_calls] == expected
    assert message.usage_metadata["output_token_details"]["reasoning"] == recital["reasoning_tokens"]
    chunks = list(bound.stream(recital["text"]))
    whole = sum(chunks[1:], chunks[0])
    assert [[call["name"], call["args"]] for call in whole.tool_calls] == expected
