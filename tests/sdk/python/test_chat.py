"""Chat completions, answered as a whole."""

from echo import MODEL, answer, prompt_tokens, tokens, user


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
    assert choice.message.content == answer("hello world")
    assert not choice.message.tool_calls


def test_usage_counts_the_documented_tokens(chat):
    messages = [{"role": "system", "content": "Be brief."}, user("grüße, 世界\n\tnow")]
    usage = chat(messages=messages).usage
    assert usage.prompt_tokens == prompt_tokens(*messages)
    assert usage.completion_tokens == len(tokens(answer("grüße, 世界\n\tnow")))
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_text_survives_as_it_is(chat):
    text = ' "quotes" \\ \t\r\n\x00 é 世界 👩‍👩‍👧 <script> data: [DONE]\n\n'
    assert chat(text).choices[0].message.content == answer(text)


def test_the_last_user_message_is_answered(chat):
    messages = [user("first"), {"role": "assistant", "content": "a reply"}, user("second")]
    assert chat(messages=messages).choices[0].message.content == answer("second")


def test_ids_differ(chat):
    assert chat().id != chat().id


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
    assert completion.choices[0].message.content == answer("hi")


def test_unknown_fields_are_accepted(chat):
    extensions = {"repetition_penalty": 1.1, "chat_template_kwargs": {"enable_thinking": False}, "no_such_field": [1]}
    assert chat(extra_body=extensions).choices[0].message.content == answer("hi")
