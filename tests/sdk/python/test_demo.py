"""What the demo model has alone: choices that differ, and what its backend refuses."""

import openai
import pytest

from served import MODEL

TOOL = {"type": "function", "function": {"name": "now"}}


def test_seeds_draw_and_repeat(chat):
    def ask(seed):
        completion = chat("Tell me a story.", seed=seed, temperature=1.0, n=2, max_tokens=24)
        return [choice.message.content for choice in completion.choices]

    one, again, other = ask(1), ask(1), ask(2)
    assert one == again
    assert len({*one, *other}) == 4


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"tools": [TOOL]}, "tools"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}}, "response_format"),
    ],
    ids=["tools", "required", "json_object", "json_schema"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_it_cannot_do_is_refused(chat, parameters, param, stream):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(**parameters, stream=stream)
    assert (caught.value.param, caught.value.code) == (param, "unsupported_value")


def test_it_has_no_embeddings(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.call(lambda api: api.embeddings.create(model=MODEL, input="hi"))
    assert caught.value.code == "unsupported_value"
