"""Texts with choices: `{Hi|Hello} <name>` is one of two greetings of whatever the slot `name` holds."""

import re

CHOICE = re.compile(r"\{([^{}]*)\}")
SLOT = re.compile(r"<(\w+)>")


def expand(rng, text, /, **slots):
    """One of the texts that `text` stands for; choices may be nested, an empty one is a choice too."""
    while (found := CHOICE.search(text)) is not None:
        text = text[: found.start()] + rng.choice(found[1].split("|")) + text[found.end() :]
    return SLOT.sub(lambda slot: str(slots[slot[1]]) if slot[1] in slots else slot[0], text)


def sentence(text):
    """With a capital letter first."""
    return text[:1].upper() + text[1:]


def article(noun):
    """The noun with its indefinite article."""
    return ("an " if noun[0].lower() in "aeiou" else "a ") + noun


SYLLABLES = "ba be bi bo bu da de di do du fa fi fo ga go gu ka ke ki ko ku la le li lo lu ma me mi mo mu na ne ni no nu pa pe pi po ra re ri ro ru sa se si so su ta te ti to tu va ve vi vo wa we wi za ze zi zo zu sha tri bra gro ple sto cha the ing er on an el tion ment ly ous al ex in un".split()


def made_up(rng):
    """A word that nobody knows."""
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.choice((2, 2, 3, 3, 4))))
