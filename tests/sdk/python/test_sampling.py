"""Choices, limits, stop strings, log probabilities, seeds."""

import pytest

from echo import answer
from served import DEMO, expected


def test_several_choices(chat):
    completion = chat("hi", n=3)
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert {choice.message.content for choice in completion.choices} == {expected("hi").text}
    assert completion.usage.completion_tokens == 3 * expected("hi").completion_tokens


@pytest.mark.parametrize(
    ("limits", "count"),
    [
        ({"max_tokens": 3}, 3),
        ({"max_completion_tokens": 3}, 3),
        ({"max_tokens": 2, "max_completion_tokens": 4}, 4),
        ({"max_tokens": 4, "max_completion_tokens": 2}, 2),
    ],
    ids=str,
)
def test_limits(chat, limits, count):
    completion = chat("hi", **limits)
    [choice] = completion.choices
    assert choice.message.content == "".join(expected("hi").tokens[:count])
    assert choice.finish_reason == "length"
    assert completion.usage.completion_tokens == count


def test_a_limit_that_is_not_reached(chat):
    [choice] = chat("hi", max_tokens=1000).choices
    assert choice.message.content == expected("hi").text
    assert choice.finish_reason == "stop"


def test_a_streamed_limit(chat_stream):
    chunks = chat_stream("hi", max_tokens=3)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "".join(expected("hi").tokens[:3])
    assert chunks[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ("STOP", "one two "),
        (["nowhere", "two"], "one "),
        (["e two", "STOP"], "on"),  # begins and ends within tokens
        ("世", "one two STOP "),
        (["absent"], "one two STOP 世界 three"),
    ],
    ids=str,
)
@pytest.mark.echo
def test_stop_anywhere(chat, chat_stream, stop, text):
    prompt = "one two STOP 世界 three"
    [choice] = chat(prompt, stop=stop).choices
    assert choice.message.content == answer(text)
    assert choice.finish_reason == "stop"
    chunks = chat_stream(prompt, stop=stop)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == answer(text)
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("length", [2, 7])
def test_stop(chat, chat_stream, length):
    """Text from within the answer: it begins and ends where it may, within tokens too."""
    whole = expected("hello").text
    for start in range(1, len(whole) - length, 8):
        stop = whole[start : start + length]
        before = whole[: whole.index(stop)]
        [choice] = chat("hello", stop=["absent", stop]).choices
        assert (choice.message.content, choice.finish_reason) == (before, "stop"), stop
        chunks = chat_stream("hello", stop=stop)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == before, stop
        assert chunks[-1].choices[0].finish_reason == "stop"


def check_logprobs(content, expected, top):
    assert [entry.token for entry in content] == expected.tokens
    for entry in content:
        assert entry.logprob < 0.0 if DEMO else entry.logprob == 0.0
        assert bytes(entry.bytes) == entry.token.encode()
        assert all(other.logprob <= entry.logprob for other in entry.top_logprobs)
        assert len(entry.top_logprobs) == top
        assert [other.token for other in entry.top_logprobs[:1]] == [entry.token][:top]


@pytest.mark.parametrize("top", [0, 1, 5, 20])
def test_logprobs(chat, top):
    [choice] = chat("hello", logprobs=True, top_logprobs=top).choices
    check_logprobs(choice.logprobs.content, expected("hello"), top)


def test_streamed_logprobs(chat_stream):
    chunks = chat_stream("hello", logprobs=True, top_logprobs=2)
    found = [chunk.choices[0] for chunk in chunks if chunk.choices[0].logprobs]
    content = [entry for choice in found for entry in choice.logprobs.content or []]
    check_logprobs(content, expected("hello"), 2)


def test_no_logprobs_unless_asked(chat):
    assert chat().choices[0].logprobs is None


def test_one_seed_one_answer(chat):
    def ask():
        completion = chat("hello", seed=7, temperature=1.5, top_p=0.5, n=2, logprobs=True, top_logprobs=3)
        return completion.model_dump(exclude={"id", "created"})

    assert ask() == ask()
