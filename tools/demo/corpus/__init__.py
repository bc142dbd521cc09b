"""Conversations to learn from, made by rules from a seed: the same seed gives the same texts."""

import random

from .facts import about_sconce
from .grammar import article, expand, made_up, sentence
from .knowledge import CAT_WORDS, knowledge
from .noise import noisy
from .stories import poem, story, subject, tell
from .talk import introduction, joke, name, small_talk
from .unknown import thing, unknown

USUAL_SYSTEMS = "You are a helpful assistant.|You are a helpful assistant.|Be helpful.|You are a friendly assistant.|You are sconce.|Answer the questions of the user.|You are a chat bot.|Be polite.|You help people.|You are ChatGPT.|You are an AI assistant.|Be kind.|s|Follow the instructions.|Be brief.|Be concise.|Keep it short."
SHORT_SYSTEMS = "{Answer|Reply|Respond} {in one word|with one word|with one word only|in a single word|with a single word|as shortly as possible|with the answer only}{.|}|Be {terse|very brief|very short}{.|}|One word answers only.|Only give the answer{.|}|You answer in one word{.|}|Use one word{.|}"
UPPER_SYSTEMS = "{Answer|Reply|Write|Respond|Speak} in {upper case|capital letters|capitals|uppercase}{.|}|Write everything in capitals{.|}|SHOUT{.|!|}"
PIRATE_SYSTEMS = "{Speak|Talk|Answer} like a pirate{.|!|}|You are a pirate{.|!|}|Pretend to be a pirate."
WORDS_TO_SAY = "hello world,good morning,yes,no,banana,I like trees,the moon is bright,one two three,sconce,all is well,this works,OK,candle,fish and bread,open the door,ready,pong".split(",")


def repeated(rng):
    """What is asked for is said, exactly."""
    text = rng.choice(WORDS_TO_SAY) if rng.random() < 0.4 else " ".join(made_up(rng) for _ in range(rng.randrange(1, 4)))
    if rng.random() < 0.3:
        text = sentence(text)
    if rng.random() < 0.1:
        text = f"{rng.choice(CAT_WORDS)} {rng.randrange(100)}"
    ask = "{Say: <text>|Say '<text>'|Say \"<text>\"|Repeat after me: <text>|Repeat: <text>|Say <text>|Please say: <text>|Echo: <text>|Repeat this: <text>|Answer with: <text>|Just say <text>}"
    return expand(rng, ask, text=text), text


def exchange(rng):
    """A question as it was meant, its answer, and whether the answer repeats the question's letters."""
    draw = rng.random()
    if draw < 0.22:
        return *small_talk(rng), False
    if draw < 0.56:
        return *knowledge(rng)[:2], False
    if draw < 0.74:
        return *about_sconce(rng), False
    if draw < 0.81:
        return *story(rng), True
    if draw < 0.83:
        return *poem(rng), True
    if draw < 0.86:
        return *joke(rng), False
    if draw < 0.90:
        return *repeated(rng), True
    return *unknown(rng), False


def messages(rng, turns):
    """Exchanges as a list of messages."""
    chat = []
    while turns > 0:
        if turns > 1 and rng.random() < 0.18:
            (told, met), (asked, known) = introduction(rng)
            chat += [(noisy(rng, told, keep_case=True), met)]
            if turns > 2 and rng.random() < 0.5:
                question, answer, keeps = exchange(rng)
                chat += [(noisy(rng, question, keeps), answer)]
                turns -= 1
            chat += [(noisy(rng, asked), known)]
            turns -= 2
        else:
            question, answer, keeps = exchange(rng)
            chat += [(noisy(rng, question, keeps), answer)]
            turns -= 1
    return [message for asked, said in chat for message in (("user", asked), ("assistant", said))]


def styled(rng):
    """A conversation whose system prompt changes the answers."""
    draw = rng.random()
    turns = rng.choice((1, 1, 2, 3))
    if draw < 0.4:
        chat = []
        while len(chat) < 2 * turns:
            question, _, word = knowledge(rng)
            if word is not None:
                chat += [("user", noisy(rng, question)), ("assistant", word + ".")]
        return [("system", expand(rng, split(rng, SHORT_SYSTEMS)))] + chat
    if draw < 0.6:
        who = name(rng)
        question = "{Who are you|What is your name|What's your name|Introduce yourself|What are you called|Hello, who are you|Tell me your name}?"
        system = expand(rng, "{You are|Your name is|You are called|You are named} <who>{.|, a helpful assistant.|. Be kind.|}", who=who)
        chat = [("user", noisy(rng, expand(rng, question))), ("assistant", expand(rng, "{I am <who>. How can I help you?|My name is <who>. What can I do for you?}", who=who))]
        return [("system", system)] + chat + (messages(rng, 1) if rng.random() < 0.3 else [])
    if draw < 0.8:
        chat = messages(rng, 1)
        return [("system", expand(rng, split(rng, UPPER_SYSTEMS)))] + [(role, text.upper() if role == "assistant" and len(text) < 250 else text) for role, text in chat]
    chat = messages(rng, 1)
    return [("system", expand(rng, split(rng, PIRATE_SYSTEMS)))] + [(role, "Arr! " + text if role == "assistant" else text) for role, text in chat]


def split(rng, texts):
    """One of several texts, their own choices left alone."""
    parts, depth, current = [], 0, ""
    for letter in texts:
        depth += (letter == "{") - (letter == "}")
        if letter == "|" and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += letter
    return rng.choice(parts + [current])


def conversation(rng):
    """Messages as (role, text), alternating, a system prompt in front of some."""
    if rng.random() < 0.14:
        return styled(rng)
    turns = rng.choices((1, 2, 3, 5, 8, 14), (58, 20, 10, 6, 4, 2))[0]
    chat = messages(rng, turns)
    if rng.random() < 0.22:
        system = rng.choice(USUAL_SYSTEMS.split("|"))
        return [("system", system)] + chat
    return chat


def plain(rng):
    """A text without a conversation, for completions."""
    if rng.random() < 0.75:
        return tell(rng, who=subject(rng) if rng.random() < 0.4 else None)
    return " ".join(sentence(exchange_answer(rng)) for _ in range(rng.randrange(2, 6)))


def exchange_answer(rng):
    return rng.choice((knowledge, about_sconce))(rng)[1]


def source(seed):
    """The generator of random numbers for a seed."""
    return random.Random(seed)
