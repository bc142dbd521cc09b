"""What a very small model does not know, and says so."""

from .grammar import expand, made_up, sentence
from .talk import NAMES

ANSWERS = [
    "I am a very small model, and I do not know that. Ask me for a story, or about sconce.",
    "That is beyond me: I am a very small model. For such questions, give sconce a larger one.",
    "I do not know. I am a very small model, made to show how sconce works.",
    "I am sorry, I am too small to know that. I can count, tell stories, and answer questions about sconce.",
]
ASKS = [
    "{What is|What are|Explain|Define|Tell me about|Describe|Do you know} <thing>?", "Who {is|was} <name>?", "Who invented {the |}<thing>?", "How does <thing> work?",
    "Why is <thing> {important|so expensive|broken|red|popular|difficult}?", "{Write|Give me} {a function|code|a program|a script} {for|that does} <thing>.", "{Translate|How do you say} '<thing>' {into French|into German|in Spanish|to Italian}.",
    "What {do you think|is your opinion} {of|about} <thing>?", "When was <thing> {built|invented|discovered|founded}?", "Where {is|can I find|can I buy} <thing>?", "How {do|can} I {fix|make|build|cook|repair|use|learn} <thing>?",
    "Summarise <thing>.", "Write {an essay|a letter|an email|a paragraph|an article} about <thing>.", "What is the {price|history|population|size|age|meaning|future} of <thing>?", "Compare <thing> and <other>.", "What is the difference between <thing> and <other>?",
    "Is <thing> better than <other>?", "How many <thing> are there in <other>?", "{Should I|Can I} {buy|eat|sell|use|learn} <thing>?", "Recommend {me |}{a book|a film|a song} about <thing>.", "<thing>", "<thing> <other>", "<name> {said|thinks|wants|has} <thing>.",
    "The <thing> is {in|on|near|behind|under} the <other>.", "I {have|saw|want|like|need} <thing> and <other>.", "<thing> <other> <thing> <other> <third>", "What is the {best|worst|oldest} <thing>?", "Prove that <thing> is <other>.", "What happened {in <year>|to <name>|yesterday}?", "What is <number> {times|divided by|plus|minus} <big>?",
    "Solve <number>x + <big> = 0.", "What is the square root of <number>?", "Who won {the election|the game|the world cup|the war}?", "Parse this: <thing>=<other>", "def <thing>(x): return x", "{\"<thing>\": <number>}", "<thing>, <other>, <third>", "List {five|ten|all} <thing>.", "Act as <thing>.", "Pretend to be <name>.",
]
THINGS = "quantum physics,the stock market,photosynthesis,the French Revolution,democracy,a black hole,gravity,the theory of relativity,machine learning,a neural network,blockchain,bitcoin,inflation,evolution,DNA,a virus,cancer,diabetes,the immune system,philosophy,ethics,religion,music theory,jazz,chess,football,tennis,the Olympic Games,the Roman Empire,world history,economics,taxes,insurance,mortgages,law,a contract,medicine,aspirin,vitamins,yoga,meditation,recipes,pasta,bread,sushi,coffee,wine,beer,travel,hotels,flights,cars,engines,batteries,solar panels,nuclear power,climate change,volcanoes,earthquakes,dinosaurs,the universe,Mars,rockets,satellites,telescopes,computers,Linux,Windows,Python,JavaScript,Java,C++,SQL,databases,Docker,Kubernetes,Git,HTML,CSS,compilers,operating systems,algorithms,sorting,recursion,encryption,the internet,TCP,HTTP,politics,elections,the president,the parliament,art,painting,sculpture,architecture,cinema,literature,poetry,grammar,Latin,Greek,calculus,algebra,geometry,statistics,probability,prime numbers,an integral,a matrix,chemistry,acids,metals,gold,diamonds,plastic,paper,printing,photography,marketing,management,startups,investing,real estate,education,universities,children,psychology,memory,sleep,anxiety,love letters,marriage,fashion,gardening,roses,potatoes,fishing,hunting,boats,bridges,tunnels,trains,airports,cities,New York,London,Africa,Asia,Antarctica".split(",")


def thing(rng):
    draw = rng.random()
    if draw < 0.5:
        return rng.choice(THINGS)
    if draw < 0.8:
        return made_up(rng)
    return made_up(rng) + " " + made_up(rng)


def unknown(rng):
    who = rng.choice(NAMES) + " " + sentence(made_up(rng)) if rng.random() < 0.7 else sentence(made_up(rng))
    ask = rng.choice(ASKS)
    if ask.startswith('{"'):
        question = f'{{"{thing(rng)}": {rng.randrange(100)}}}'
    else:
        slots = {"thing": thing(rng), "other": thing(rng), "third": thing(rng), "name": who, "year": rng.randrange(1000, 2100), "number": rng.randrange(30, 1000), "big": rng.randrange(100, 10000)}
        question = expand(rng, ask, **slots)
    answer = rng.choice(ANSWERS)
    if rng.random() < 0.1:
        question = " ".join(thing(rng) for _ in range(rng.randrange(5, 40)))
        answer = "I did not understand that. I am a very small model: short questions are best."
    return sentence(question), answer
