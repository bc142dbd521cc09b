"""What the demo model answers, as Hugging Face transformers computed it (tools/demo/reference.py)."""

import json
import pathlib

from expected import Expected, as_message

MODEL = "demo"
BACKEND = "candle"
CONTEXT_LENGTH = 1024
MAX_TOKENS = 64
# Greedy unless a request says otherwise, as the reference is.
ARGUMENTS = ("--demo", "--set", "temperature=0", "--set", f"max_tokens={MAX_TOKENS}")

_FIXTURE = json.loads((pathlib.Path(__file__).parents[2] / "fixtures" / "demo.json").read_text())
_CHATS = {json.dumps(chat["messages"]): Expected.of(chat) for chat in _FIXTURE["chats"]}
_COMPLETIONS = {completion["prompt"]: Expected.of(completion) for completion in _FIXTURE["completions"]}
TEXTS = [chat["messages"][0]["content"] for chat in _FIXTURE["chats"] if len(chat["messages"]) == 1][:10]



def expected(*messages):
    """The answer to messages, or to one text of the user."""
    return _CHATS[json.dumps([as_message(message) for message in messages])]


def expected_completion(prompt):
    return _COMPLETIONS[prompt]
