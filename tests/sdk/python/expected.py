"""An answer that is known beforehand."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Expected:
    text: str
    tokens: list
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str = "stop"

    @classmethod
    def of(cls, fields):
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__})


def user(text):
    return {"role": "user", "content": text}


def as_message(message):
    """A bare text is the user's."""
    return user(message) if isinstance(message, str) else message
