"""LangChain's OpenAI classes: the calls its users make first."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field

from echo import DIMENSIONS, answer
from served import MODEL, TEXTS, expected


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


class Report(BaseModel):
    """A report."""

    title: str = Field(description="its title")
    pages: int


@pytest.fixture
def model(url):
    return ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key="any", max_retries=0)


def test_invoke(model):
    message = model.invoke([SystemMessage("Be brief."), HumanMessage("hi")])
    assert message.content == expected({"role": "system", "content": "Be brief."}, "hi").text
    assert message.response_metadata["finish_reason"] == "stop"
    assert message.usage_metadata["total_tokens"] > message.usage_metadata["output_tokens"] > 0


def test_stream(model):
    chunks = list(model.stream("hello world"))
    assert len(chunks) > 1
    whole = sum(chunks[1:], chunks[0])
    assert whole.content == expected("hello world").text
    assert whole.response_metadata["finish_reason"] == "stop"


def test_streamed_usage(model):
    chunks = list(model.stream("hello", stream_usage=True))
    whole = sum(chunks[1:], chunks[0])
    assert whole.usage_metadata == model.invoke("hello").usage_metadata


def test_batch(model):
    texts = TEXTS[:8]
    assert [message.content for message in model.batch(texts)] == [expected(text).text for text in texts]


async def test_async(model):
    assert (await model.ainvoke("hi")).content == expected("hi").text
    assert "".join([chunk.content async for chunk in model.astream("hi")]) == expected("hi").text


@pytest.mark.echo
@pytest.mark.parametrize("choice", ["weather", "required", "any", True], ids=str)
def test_bind_tools(model, choice):
    message = model.bind_tools([weather], tool_choice=choice).invoke("weather in Oslo?")
    [call] = message.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": ""})
    assert not message.invalid_tool_calls


@pytest.mark.echo
def test_streamed_tool_calls(model):
    chunks = list(model.bind_tools([weather], tool_choice="required").stream("weather in Oslo?"))
    whole = sum(chunks[1:], chunks[0])
    [call] = whole.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": ""})


@pytest.mark.echo
def test_a_tool_s_result_goes_back(model):
    asked = HumanMessage("weather in Oslo?")
    called = model.bind_tools([weather], tool_choice="required").invoke([asked])
    result = weather.invoke(called.tool_calls[0])
    assert isinstance(result, ToolMessage)
    last = model.bind_tools([weather]).invoke([asked, called, result])
    assert isinstance(last, AIMessage)
    assert last.content == answer("weather in Oslo?")
    assert not last.tool_calls


@pytest.mark.echo
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(model, method):
    assert model.with_structured_output(Report, method=method).invoke("hi") == Report(title="", pages=0)


@pytest.mark.echo
def test_embeddings(url):
    # Without a tokenizer of OpenAI's for this model the text itself is sent.
    embeddings = OpenAIEmbeddings(
        model=MODEL, base_url=f"{url}/v1", api_key="any", max_retries=0, check_embedding_ctx_length=False
    )
    one, two = embeddings.embed_documents(["one", "two"])
    assert len(one) == len(two) == DIMENSIONS
    assert one != two
    assert embeddings.embed_query("one") == pytest.approx(one, abs=1e-6)
