"""Chat completions, answered as a whole."""

import pytest

from echo import answer
from expected import user
from served import MODEL, expected


def test_answer(chat):
    completion = chat("hello world")
    assert completion.object == "chat.completion"
    assert completion.model == MODEL
    assert completion.id
    assert completion.created > 1_600_000_000
    [choice] = completion.choices
    assert choice.index == 0
    assert choice.finish_reason == "stop"
    assert choice.message.role == "assistant"
    assert choice.message.content == expected("hello world").text
    assert not choice.message.tool_calls


@pytest.mark.parametrize("messages", [[{"role": "system", "content": "Be brief."}, user("hi")], [user("grüße 世界")]], ids=len)
def test_usage(chat, messages):
    usage = chat(messages=messages).usage
    assert usage.prompt_tokens == expected(*messages).prompt_tokens
    assert usage.completion_tokens == expected(*messages).completion_tokens
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


@pytest.mark.echo
def test_text_survives_as_it_is(chat):
    text = ' "quotes" \\ \t\r\n\x00 é 世界 👩‍👩‍👧 <script> data: [DONE]\n\n'
    assert chat(text).choices[0].message.content == answer(text)


@pytest.mark.echo
def test_the_last_user_message_is_answered(chat):
    messages = [user("first"), {"role": "assistant", "content": "a reply"}, user("second")]
    assert chat(messages=messages).choices[0].message.content == answer("second")


def test_ids_differ(chat):
    assert chat().id != chat().id


@pytest.mark.echo
def test_every_optional_field_may_be_null(chat):
    names = """audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens
        metadata modalities n parallel_tool_calls prediction presence_penalty prompt_cache_key reasoning_effort
        response_format safety_identifier seed service_tier stop store stream stream_options temperature tool_choice
        tools top_logprobs top_p user verbosity web_search_options""".split()
    completion = chat(extra_body=dict.fromkeys(names))
    assert completion.choices[0].message.content == answer("hi")


def test_fields_that_change_nothing_are_accepted(chat):
    completion = chat(
        metadata={"purpose": "test"},
        parallel_tool_calls=True,
        prompt_cache_key="key",
        safety_identifier="someone",
        service_tier="auto",
        store=False,
        user="someone",
    )
    assert completion.choices[0].message.content == expected("hi").text


def test_unknown_fields_are_accepted(chat):
    extensions = {"repetition_penalty": 1, "chat_template_kwargs": {"enable_thinking": False}, "no_such_field": [1]}
    assert chat(extra_body=extensions).choices[0].message.content == expected("hi").text
