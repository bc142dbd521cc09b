"""What the echo backend answers, written a second time from its documentation, not from its source."""

from expected import Expected, as_message

MODEL = "gpt-oss-20b"
BACKEND = "echo"
ARGUMENTS = ()
TEXTS = [f"number {number}" for number in range(32)]
CONTEXT_LENGTH = 131_072
DIMENSIONS = 256


def answer(text, model=MODEL):
    return f"Echo from {model}: {text}"


def tokens(text):
    """One non-ASCII character, or up to four ASCII characters that end before a space, a newline or a tab."""
    found = []
    run = ""
    for character in text:
        starts_anew = not character.isascii() or character in " \n\t" or len(run) == 4
        if run and starts_anew:
            found.append(run)
            run = ""
        if character.isascii():
            run += character
        else:
            found.append(character)
    return found + [run] if run else found


def prompt_tokens(*messages):
    """Tokens of the lines `role: content`."""
    return len(tokens("\n".join(f"{message['role']}: {message['content']}" for message in messages)))


def expected(*messages):
    """The answer to messages, or to one text of the user."""
    messages = [as_message(message) for message in messages]
    text = answer(next(message["content"] for message in reversed(messages) if message["role"] == "user"))
    return Expected(text, tokens(text), prompt_tokens(*messages), len(tokens(text)))


def expected_completion(prompt):
    text = answer(prompt)
    return Expected(text, tokens(text), len(tokens(prompt)), len(tokens(text)))
