"""What the echo backend answers, written a second time from its documentation, not from its source."""

MODEL = "gpt-oss-20b"
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


def user(text):
    return {"role": "user", "content": text}
