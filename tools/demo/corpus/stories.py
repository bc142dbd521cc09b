"""Little stories about whatever is asked for, and four-line poems."""

from .grammar import article, expand, made_up, sentence
from .talk import NAMES

ANIMALS = "cat dog fox bear rabbit mouse owl frog duck horse bird hedgehog squirrel wolf lion elephant snail turtle goat donkey penguin whale crab bee".split()
PEOPLE = "baker sailor gardener farmer king queen knight wizard teacher painter robot giant boy girl princess pirate miller clockmaker".split()
THINGS = "candle lamp clock boat kettle mirror door book bell stone star cloud tree train computer server teapot key moon drum kite bridge robot lighthouse".split()
PLACES = "a small village|a green forest|a house by the sea|a town on a hill|an old castle|a quiet valley|a garden full of flowers|a tower of stone|a hut in the mountains|a harbour in the north|a little room under the roof|a mill by the river".split("|")

ASKS = "{Tell me a story|Tell a story|Write a story|Tell me a short story|Write a short story|Tell me a little story|I want to hear a story|Can you tell me a story|Tell us a story|Write me a story|Tell me a bedtime story|Make up a story|Tell me another story|A story}"

OPENINGS = [
    "Once upon a time there was <a> named <name>, who lived in <place>.",
    "In <place> there lived <a> named <name>.",
    "Long ago, in <place>, there was <a> whose name was <name>.",
    "There was once <a> called <name>. <name> lived in <place>.",
]
WISHES = [
    ("<name> had one wish: to see the sea.", "At last <name> stood by the water. The waves were silver, and the wind smelled of salt."),
    ("<name> was afraid of the dark.", "From that night on <name> kept a small light in the window, and the dark was not so dark any more."),
    ("Every evening <name> looked at the stars and wondered how many there were.", "Together they counted until morning. There were more stars than numbers, and that was fine."),
    ("<name> had lost a golden key.", "And there was the key: it had been in <name>'s own pocket all the time. How they laughed!"),
    ("<name> wanted to learn to sing.", "Soon <name> sang so well that all the windows opened, and everybody listened."),
    ("<name> had no friends, and the days were long.", "Since that day <name> has had a friend, and the days are never long enough."),
    ("<name> wanted to bake the best cake in the world.", "The cake was a little crooked, but it was the best cake in the world, because they ate it together."),
    ("One day a letter came for <name>, but the rain had washed the words away.", "At last <name> could read it. It said only: come home for tea."),
    ("<name> wanted to know what was behind the hill.", "Behind the hill there was another hill. <name> smiled, because now there was always something left to find."),
    ("One winter the snow was so deep that nobody could leave the house.", "When spring came, the snow was gone, but the warm evenings were not forgotten."),
    ("<name> slept very badly, because the wind was loud at night.", "That night <name> slept better than ever before, and the wind only hummed a tune."),
    ("Everybody said that <name> was too small for great things.", "After that nobody ever said again that <name> was too small."),
]
TURNS = [
    "One morning <helper> came along the road.",
    "Then, on a rainy day, <helper> knocked at the door.",
    "One day <name> met <helper> under a large tree.",
    "In the evening <helper> sat down beside <name>.",
]
TALKS = [
    "\"Why do you look so sad?\" asked <helper2>. <name> told everything.",
    "\"I can help you,\" said <helper2>, \"if you share your bread with me.\" And <name> did.",
    "\"Do not worry,\" said <helper2>. \"We will find a way.\"",
    "\"Come with me,\" said <helper2>, \"I know what to do.\"",
    "\"I have an idea,\" said <helper2> and smiled.",
]
JOURNEYS = [
    "They walked for three days, over bridges and through fields.",
    "They worked all night by the light of a candle.",
    "First it did not work. They tried again, and again, and once more.",
    "They took a small boat and followed the river.",
    "They asked the wind, the rain and the moon, and the moon knew the answer.",
    "It was not easy, but they were patient.",
]
ENDINGS = [
    "And they lived happily ever after.", "And that is the end of the story.", "The end.", "And if you listen in the evening, you can still hear them laugh.",
    "So a small light was enough after all.", "And then they had tea.", "",
]

RHYMES = [
    "A little <thing> stood by the door|and never asked for any more.|The evening came, the wind was low,|and still the <thing> had far to go.",
    "I saw <a> in the morning light,|it was so small, it was so bright.|I took it home, I kept it near,|and now the <thing> is always here.",
    "The night is long, the moon is high,|<a> goes slowly by.|It hums a tune, it takes its time,|and so it ends, this little rhyme.",
    "O <thing>, o <thing>, so good and true,|the sky is wide, the sky is blue.|We walk together, you and I,|and watch the clouds go sailing by.",
    "When all the birds have gone to bed,|I think about <a> instead.|It makes me smile, it makes me sing,|the quiet, friendly little thing.",
]


def subject(rng):
    if rng.random() < 0.15:
        return made_up(rng)
    return rng.choice(rng.choice((ANIMALS, PEOPLE, THINGS)))


def tell(rng, who=None, named=None):
    """A story of 60 to 160 words, its people the same from beginning to end."""
    kind = who or rng.choice(rng.choice((ANIMALS, PEOPLE)))
    name = named or rng.choice(NAMES)
    if rng.random() < 0.3:
        kind_words = rng.choice(("small", "little", "young", "old", "brave", "clever", "friendly")) + " " + kind
    else:
        kind_words = kind
    helper = rng.choice([animal for animal in ANIMALS + PEOPLE if animal != kind])
    wish, granted = rng.choice(WISHES)
    parts = [rng.choice(OPENINGS), wish, rng.choice(TURNS), rng.choice(TALKS)]
    parts += rng.sample(JOURNEYS, rng.choice((1, 1, 2))) + [granted, rng.choice(ENDINGS)]
    slots = {"a": article(kind_words), "name": name, "place": rng.choice(PLACES), "helper": article(helper), "helper2": "the " + helper}
    sentences = [sentence(expand(rng, part, **slots)) for part in parts if part]
    if rng.random() < 0.6:
        return " ".join(sentences)
    middle = rng.choice((2, 4))
    return " ".join(sentences[:middle]) + "\n\n" + " ".join(sentences[middle:])


def story(rng):
    draw = rng.random()
    if draw < 0.25:
        return expand(rng, ASKS + "{.|!|?|}"), tell(rng)
    if draw < 0.35:
        named = rng.choice(NAMES) if rng.random() < 0.6 else sentence(made_up(rng))
        return expand(rng, ASKS + " about <named>{.|!|}", named=named), tell(rng, named=named)
    who = subject(rng)
    return expand(rng, ASKS + " about {<a>|<a>|the <who>|<who>s}{.|!|?|}", a=article(who), who=who), tell(rng, who=who)


def poem(rng):
    thing = subject(rng) if rng.random() < 0.8 else None
    what = thing or rng.choice(THINGS)
    asked = expand(rng, "{Write a poem|Tell me a poem|Write me a poem|A poem|Write a short poem|Do you know a poem|Make a rhyme}")
    if thing:
        asked += expand(rng, " about {<a>|the <what>}", a=article(what), what=what)
    lines = expand(rng, rng.choice(RHYMES).replace("|", "\n"), a=article(what), thing=what)
    return asked + expand(rng, "{.|!|}"), "\n".join(sentence(line) for line in lines.split("\n"))
