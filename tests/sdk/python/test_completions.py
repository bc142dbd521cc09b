"""The older completions API."""

import pytest

from echo import answer
from served import MODEL, expected_completion


@pytest.fixture
def complete(client):
    def ask(prompt, **parameters):
        return client.call(lambda api: api.completions.create(model=MODEL, prompt=prompt, **parameters))

    return ask


def texts(completion):
    assert [choice.index for choice in completion.choices] == list(range(len(completion.choices)))
    return [choice.text for choice in completion.choices]


def test_a_string(complete):
    completion = complete("hello world")
    assert completion.object == "text_completion"
    assert completion.model == MODEL
    expected = expected_completion("hello world")
    assert texts(completion) == [expected.text]
    assert completion.choices[0].finish_reason == expected.finish_reason
    assert completion.usage.prompt_tokens == expected.prompt_tokens
    assert completion.usage.completion_tokens == expected.completion_tokens


def test_strings(complete):
    assert texts(complete(["one", "two"])) == [expected_completion(prompt).text for prompt in ("one", "two")]


def test_token_ids(complete, ids):
    assert texts(complete(ids("grüße 世界"))) == [expected_completion("grüße 世界").text]


def test_arrays_of_token_ids(complete, ids):
    assert texts(complete([ids("one"), ids("two")])) == [expected_completion(prompt).text for prompt in ("one", "two")]


def test_choices_of_each_prompt_stand_together(complete):
    assert texts(complete(["one", "two"], n=2)) == [expected_completion(prompt).text for prompt in ("one", "one", "two", "two")]


def test_echo(complete):
    assert texts(complete("one two", echo=True)) == ["one two" + expected_completion("one two").text]


@pytest.mark.echo
def test_suffix(complete):
    assert texts(complete("before", suffix=" after")) == [answer("before after")]


def test_best_of(complete):
    completion = complete("hi", best_of=3)
    assert texts(completion) == [expected_completion("hi").text]


def test_limit(complete):
    completion = complete("hi", max_tokens=3)
    assert texts(completion) == ["".join(expected_completion("hi").tokens[:3])]
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 3


@pytest.mark.echo
def test_stop(complete):
    completion = complete("one two", stop=[" two"])
    assert texts(completion) == [answer("one")]
    assert completion.choices[0].finish_reason == "stop"


def test_logprobs(complete):
    logprobs = complete("é hi", logprobs=2).choices[0].logprobs
    expected = expected_completion("é hi")
    assert logprobs.tokens == expected.tokens
    assert all(logprob <= 0 for logprob in logprobs.token_logprobs)
    best = zip(expected.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True)
    assert all(top[token] == logprob == max(top.values()) for token, logprob, top in best)
    # Offsets count characters, as Python's own indices do.
    cuts = zip(logprobs.text_offset, expected.tokens, strict=True)
    assert [expected.text[start:][: len(token)] for start, token in cuts] == expected.tokens


def test_no_logprobs_unless_asked(complete):
    assert complete("hi").choices[0].logprobs is None


def test_one_seed_one_answer(complete):
    first, second = [complete("hi", seed=3, temperature=1).model_dump(exclude={"id", "created"}) for _ in range(2)]
    assert first == second


def test_stream(client):
    request = {"model": MODEL, "prompt": ["hello world", "Once upon a time"], "stream": True}
    chunks = client.collect(lambda api: api.completions.create(**request))
    assert {chunk.object for chunk in chunks} == {"text_completion"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)
    for index, prompt in enumerate(request["prompt"]):
        choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert len(choices) > 2
        assert "".join(choice.text for choice in choices) == expected_completion(prompt).text
        assert choices[-1].finish_reason == expected_completion(prompt).finish_reason
        assert not any(choice.finish_reason for choice in choices[:-1])


def test_streamed_usage(client):
    request = {"model": MODEL, "prompt": "hi", "stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = client.collect(lambda api: api.completions.create(**request))
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage.completion_tokens == expected_completion("hi").completion_tokens
