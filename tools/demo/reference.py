"""Writes tests/fixtures/demo.json: what transformers answers with the files of assets/demo, greedily, in f32 with the inputs
of products rounded to bfloat16, as sconce rounds them.

    python tools/demo/reference.py

Needs torch, transformers and safetensors. The tests hold sconce's answers against these, token by token.
"""

import json
import pathlib

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAX_TOKENS = 64  # as the suites of tests/sdk start the server
COMPLETION_TOKENS = 16  # the default of the older API

QUESTIONS = [
    "hello", "Hello!", "hi", "hello world", "HELLO", "Good morning", "Who are you?", "what can you do", "What is sconce?", "How do I start the server?",
    "how do i run the tests", "Which backends are there?", "What is the capital of France?", "Count to ten.", "What is 2 + 3?", "What is the opposite of hot?",
    "What comes after Monday?", "Tell me a story about a fox.", "Write a poem about a candle.", "Tell me a joke", "Explain quantum physics.", "What colour is the sky?",
    "Thank you!", "goodbye", "Say: all is well", "こんにちは", "grüße 世界", "é 世 hello", "é",
]
CHATS = [
    [("system", "Be brief."), ("user", "hi")],
    [("system", "Answer in one word."), ("user", "What is the capital of Italy?")],
    [("system", "You are Ada."), ("user", "Who are you?")],
    [("user", "My name is Clara."), ("assistant", "Nice to meet you, Clara! How can I help you?"), ("user", "What is my name?")],
    [("user", "first"), ("assistant", "a reply"), ("user", "hello")],
]
PROMPTS = ["hello world", "one", "two", "one two", "hi", "é hi", "Once upon a time", "grüße 世界"]


plain_linear = torch.nn.functional.linear


def linear(x, weight, bias=None):
    return plain_linear(x.to(torch.bfloat16).to(torch.float32), weight, bias)


def main():
    torch.nn.functional.linear = linear
    folder = ROOT / "assets" / "demo"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def continued(ids, limit):
        with torch.inference_mode():
            found = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=limit, temperature=None, top_p=None)[0, len(ids) :].tolist()
        stopped = found[-1] == tokenizer.eos_token_id
        shown = found[:-1] if stopped else found
        return {
            "prompt_tokens": len(ids),
            "completion_tokens": len(found),
            "text": tokenizer.decode(shown, clean_up_tokenization_spaces=False),
            # A piece of a character is written as U+FFFD.
            "tokens": [tokenizer.decode([id], clean_up_tokenization_spaces=False) for id in shown],
            "finish_reason": "stop" if stopped else "length",
        }

    def chat(messages):
        messages = [{"role": role, "content": content} for role, content in messages]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        return {"messages": messages, **continued(ids, MAX_TOKENS)}

    fixture = {
        "chats": [chat([("user", question)]) for question in QUESTIONS] + [chat(messages) for messages in CHATS],
        "completions": [{"prompt": prompt, **continued(tokenizer(prompt)["input_ids"], COMPLETION_TOKENS)} for prompt in PROMPTS],
    }
    text = json.dumps(fixture, indent=1, ensure_ascii=False)
    (ROOT / "tests" / "fixtures" / "demo.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
