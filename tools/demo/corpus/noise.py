"""How people write: in any case, without punctuation, politely, with a slip of the finger."""

LEADS = ("Please, ", "please ", "hey, ", "Hi, ", "hello, ", "ok, ", "um, ", "So, ", "Can you tell me: ", "Quick question: ", "sconce, ", "and ", "now ")
TAILS = (" please", ", please", " thanks", " :)", "!!", " please?", " now", "\n", " ")


def slip(rng, text):
    """One letter lost, doubled or swapped with the next in a longer word."""
    words = text.split(" ")
    long = [place for place, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if not long:
        return text
    place = rng.choice(long)
    word = words[place]
    at = rng.randrange(1, len(word) - 1)
    words[place] = rng.choice((
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
    ))
    return " ".join(words)


def noisy(rng, text, keep_case=False):
    """The question as somebody might type it. `keep_case`: it holds what the answer repeats."""
    if rng.random() < 0.30:
        text = text.rstrip("?.!")
    elif rng.random() < 0.08:
        text = text.rstrip("?.!") + rng.choice(("??", " ?", "!", "...", "?!", ".", "？", "…"))
    if rng.random() < 0.10:
        text = rng.choice(LEADS) + (text if keep_case else text[:1].lower() + text[1:])
    if rng.random() < 0.08:
        text += rng.choice(TAILS)
    if not keep_case and rng.random() < 0.06:
        text = slip(rng, text)
    draw = rng.random()
    if not keep_case:
        if draw < 0.25:
            text = text.lower()
        elif draw < 0.31:
            text = text.upper()
        elif draw < 0.34:
            text = text.title()
    if rng.random() < 0.10:
        text = text.replace("'", "’")
    elif rng.random() < 0.08:
        text = text.replace("'", "")
    return text
