"""Small facts and small sums: a question, an answer in a sentence, and the answer in a word."""

from .grammar import article, expand, sentence

CAPITALS = dict(zip(
    "France Germany Italy Spain Portugal England Ireland Scotland Norway Sweden Finland Denmark Iceland Poland Austria Switzerland Belgium Netherlands Greece Hungary Romania Bulgaria Ukraine Russia Turkey Egypt Kenya Nigeria Morocco Ethiopia Ghana Japan China India Thailand Vietnam Indonesia Iran Iraq Israel Canada Mexico Cuba Brazil Argentina Chile Peru Colombia Venezuela Australia Nepal Mongolia Croatia Serbia Estonia Latvia Lithuania Luxembourg Jordan Syria".split(),
    "Paris Berlin Rome Madrid Lisbon London Dublin Edinburgh Oslo Stockholm Helsinki Copenhagen Reykjavik Warsaw Vienna Bern Brussels Amsterdam Athens Budapest Bucharest Sofia Kyiv Moscow Ankara Cairo Nairobi Abuja Rabat Addis_Ababa Accra Tokyo Beijing New_Delhi Bangkok Hanoi Jakarta Tehran Baghdad Jerusalem Ottawa Mexico_City Havana Brasilia Buenos_Aires Santiago Lima Bogota Caracas Canberra Kathmandu Ulaanbaatar Zagreb Belgrade Tallinn Riga Vilnius Luxembourg Amman Damascus".replace("_", "~").split(),
    strict=True,
))
CAPITALS = {country: city.replace("~", " ") for country, city in CAPITALS.items()}

OPPOSITES = "hot cold,big small,good bad,day night,up down,left right,black white,fast slow,old new,happy sad,light dark,rich poor,high low,open closed,early late,first last,full empty,hard soft,long short,loud quiet,wet dry,young old,strong weak,true false,yes no,in out,on off,start stop,win lose,buy sell,push pull,clean dirty,easy difficult,near far,thick thin,wide narrow,love hate,friend enemy,war peace,summer winter,always never,everything nothing,inside outside,above below,before after,push pull,come go,give take,sweet sour,brave afraid,begin end,large tiny".split(",")

COLOURS = "sky blue,grass green,snow white,coal black,blood red,banana yellow,lemon yellow,tomato red,cherry red,carrot orange,orange orange,sun yellow,milk white,chocolate brown,leaf green,sea blue,frog green,pumpkin orange,raven black,plum purple,strawberry red,cloud white,fire red,night black,pea green,egg white,flamingo pink,tree green,apple red,candle yellow".split(",")

SOUNDS = "cat meow,dog woof,cow moo,duck quack,sheep baa,pig oink,horse neigh,bee buzz,owl hoot,lion roar,frog ribbit,mouse squeak,snake hiss,rooster cock-a-doodle-doo,wolf howl,bird tweet".split(",")

HOW_MANY = [
    ("days are in a week", "There are 7 days in a week", 7), ("months are in a year", "There are 12 months in a year", 12),
    ("hours are in a day", "There are 24 hours in a day", 24), ("minutes are in an hour", "There are 60 minutes in an hour", 60),
    ("seconds are in a minute", "There are 60 seconds in a minute", 60), ("days are in a year", "There are 365 days in a year", 365),
    ("legs does a spider have", "A spider has 8 legs", 8), ("legs does a dog have", "A dog has 4 legs", 4), ("legs does a cat have", "A cat has 4 legs", 4),
    ("legs does a bird have", "A bird has 2 legs", 2), ("legs does an insect have", "An insect has 6 legs", 6), ("wheels does a car have", "A car has 4 wheels", 4),
    ("fingers does a hand have", "A hand has 5 fingers", 5), ("letters are in the alphabet", "The alphabet has 26 letters", 26),
    ("planets are there", "There are 8 planets", 8), ("continents are there", "There are 7 continents", 7), ("seasons are there", "There are 4 seasons", 4),
    ("sides does a triangle have", "A triangle has 3 sides", 3), ("sides does a square have", "A square has 4 sides", 4), ("bits are in a byte", "There are 8 bits in a byte", 8),
    ("weeks are in a year", "There are 52 weeks in a year", 52), ("arms does an octopus have", "An octopus has 8 arms", 8), ("eyes do you have", "I have 0 eyes", 0),
]

FACTS = [
    ("{What is the largest planet|Which planet is the largest|What is the biggest planet}?", "The largest planet is Jupiter", "Jupiter"),
    ("{What is the smallest planet|Which planet is the smallest}?", "The smallest planet is Mercury", "Mercury"),
    ("{Which planet do we live on|What planet are we on|Which planet is our home}?", "We live on the Earth", "Earth"),
    ("{What is the largest ocean|Which ocean is the largest}?", "The largest ocean is the Pacific", "Pacific"),
    ("{What is the highest mountain|What is the tallest mountain|Which mountain is the highest}?", "The highest mountain is Mount Everest", "Everest"),
    ("{What is the largest animal|What is the biggest animal|Which animal is the largest}?", "The largest animal is the blue whale", "Whale"),
    ("{What is the tallest animal|Which animal is the tallest}?", "The tallest animal is the giraffe", "Giraffe"),
    ("{What is the fastest animal|Which animal is the fastest on land}?", "The fastest animal on land is the cheetah", "Cheetah"),
    ("{What do bees make|What is made by bees}?", "Bees make honey", "Honey"),
    ("{What do cows give|What comes from cows|What do cows eat}?", "Cows eat grass and give milk", "Milk"),
    ("{What is water made of|What is H2O}?", "Water is made of hydrogen and oxygen", "Water"),
    ("{At what temperature does water freeze|When does water freeze}?", "Water freezes at 0 degrees Celsius", "0"),
    ("{At what temperature does water boil|When does water boil}?", "Water boils at 100 degrees Celsius", "100"),
    ("{Where does the sun rise|Where does the sun come up}?", "The sun rises in the east", "East"),
    ("{Where does the sun set|Where does the sun go down}?", "The sun sets in the west", "West"),
    ("{Is the earth round|Is the earth flat|What shape is the earth}?", "The Earth is round, like a ball", "Round"),
    ("{What is a baby cat called|What do you call a baby cat}?", "A baby cat is a kitten", "Kitten"),
    ("{What is a baby dog called|What do you call a young dog}?", "A baby dog is a puppy", "Puppy"),
    ("{Who wrote Hamlet|Who wrote Romeo and Juliet|Who was Shakespeare}?", "Shakespeare wrote Hamlet and Romeo and Juliet", "Shakespeare"),
    ("{Why is the sky blue|Why does the sky look blue}?", "The air scatters blue light more than red light, so the sky looks blue", "Light"),
    ("{What do plants need|What does a plant need to grow}?", "Plants need water, light and air", "Water"),
    ("{What are the colours of the rainbow|Which colors are in a rainbow|Name the colours of the rainbow}?", "The colours of the rainbow are red, orange, yellow, green, blue, indigo and violet", "Red"),
    ("{What are the primary colours|Name the primary colors}?", "The primary colours are red, yellow and blue", "Red"),
    ("{Name the days of the week|What are the days of the week|List the days of the week|Say the days of the week}?", "The days of the week are Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday", "Monday"),
    ("{Name the months|What are the months of the year|List the months|Name the months of the year}?", "The months are January, February, March, April, May, June, July, August, September, October, November and December", "January"),
    ("{Name the seasons|What are the seasons|What are the four seasons|List the seasons}?", "The seasons are spring, summer, autumn and winter", "Spring"),
    ("{What is the alphabet|Say the alphabet|Recite the alphabet|Tell me the alphabet|List the letters of the alphabet}?", "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z", "A"),
    ("{Name three animals|Name some animals|List three animals}{.|?|}", "Three animals are the cat, the dog and the horse", "Cat"),
    ("{Name three fruits|Name some fruits|List three fruits|Name a fruit}{.|?|}", "Three fruits are the apple, the pear and the plum", "Apple"),
    ("{Name three colours|Name some colors|List three colours|Name a color}{.|?|}", "Three colours are red, green and blue", "Red"),
]

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()
CAT_WORDS = "cat dog sun moon star fish bird tree book lamp wick wax fire rain snow milk cake ship king hat red blue key run code rust byte".split()


def capital(rng):
    country = rng.choice(list(CAPITALS))
    city = CAPITALS[country]
    land = "the " + country if country == "Netherlands" else country
    if rng.random() < 0.12:
        question = expand(rng, "{What country is <city> in|Which country has the capital <city>|<city> is the capital of which country|Of what country is <city> the capital|Where is <city>}?", city=city)
        return question, f"{city} is the capital of {land}.", country
    question = expand(rng, "{What is the capital of <land>|What's the capital of <land>|The capital of <land>|Capital of <land>|Which city is the capital of <land>|Name the capital of <land>|Tell me the capital of <land>|Do you know the capital of <land>|What city is the capital of <land>|And of <land>}?", land=land)
    return question, f"The capital of {land} is {city}.", city


def opposite(rng):
    pair = rng.choice(OPPOSITES).split()
    if rng.random() < 0.5:
        pair.reverse()
    of, to = pair
    if of == "old":
        to = "young"
    question = expand(rng, "{What is the opposite of <of>|What's the opposite of <of>|The opposite of <of>|Opposite of <of>|Give me the opposite of <of>|Name the opposite of <of>|What is the contrary of '<of>'|What is the opposite of \"<of>\"}?", of=of)
    return question, f"The opposite of {of} is {to}.", sentence(to)


def colour(rng):
    thing, of = rng.choice(COLOURS).rsplit(" ", 1)
    question = expand(rng, "{What colour is the <thing>|What color is the <thing>|What colour is a <thing>|What color has a <thing>|Which colour is the <thing>|Tell me the colour of the <thing>|What is the color of a <thing>|Color of <thing>}?", thing=thing)
    return question, f"The {thing} is {of}.", sentence(of)


def sound(rng):
    animal, says = rng.choice(SOUNDS).split()
    question = expand(rng, "{What does the <animal> say|What does a <animal> say|What sound does a <animal> make|Which sound does the <animal> make|What noise does a <animal> make|How does a <animal> go}?", animal=animal)
    return question, f"The {animal} says: {says}!", sentence(says)


def how_many(rng):
    what, sentence_, number = rng.choice(HOW_MANY)
    return f"How many {what}?", sentence_ + ".", str(number)


def fact(rng):
    question, answer, word = rng.choice(FACTS)
    return expand(rng, question), answer + ".", word


def neighbour(rng):
    what, names = rng.choice((("day", DAYS), ("month", MONTHS)))
    place = rng.randrange(len(names))
    side, step = rng.choice((("after", 1), ("after", 1), ("before", -1)))
    of, to = names[place], names[(place + step) % len(names)]
    question = expand(rng, f"{{What comes {side} <of>|Which {what} comes {side} <of>|What {what} is {side} <of>|What {what} comes {side} <of>|Which {what} is {side} <of>|What is the {what} {side} <of>}}?", of=of)
    return question, f"{to} comes {side} {of}.", to


def plus(rng):
    a, b = rng.randrange(21), rng.randrange(21)
    if rng.random() < 0.6:
        a, b = rng.randrange(11), rng.randrange(11)
    return sum_of(rng, a, b, "+", "plus", a + b)


def minus(rng):
    a = rng.randrange(21)
    b = rng.randrange(a + 1)
    return sum_of(rng, a, b, "-", "minus", a - b)


def times(rng):
    a, b = rng.randrange(11), rng.randrange(11)
    return sum_of(rng, a, b, rng.choice(("*", "x", "×")), "times", a * b)


def sum_of(rng, a, b, sign, word, result):
    numbers = {"a": a, "b": b}
    if rng.random() < 0.1 and max(a, b) <= 12:
        numbers = {"a": WORDS[a], "b": WORDS[b]}
    question = expand(rng, f"{{What is <a> {sign} <b>|What's <a> {sign} <b>|<a> {sign} <b>|<a>{sign}<b>|<a> {sign} <b> =|Compute <a> {sign} <b>|Calculate <a> {sign} <b>|How much is <a> {sign} <b>|What is <a> {word} <b>|How much is <a> {word} <b>|What is <a>{sign}<b>|<a> {word} <b>}}?", **numbers)
    written = {"*": "×", "x": "×"}.get(sign, sign)
    return question, f"{a} {written} {b} = {result}.", str(result)


def successor(rng):
    number = rng.randrange(100)
    side, step = rng.choice((("after", 1), ("after", 1), ("before", -1)))
    number = max(number, 1)
    question = expand(rng, f"{{What number comes {side} <n>|What comes {side} <n>|Which number is {side} <n>|What is the number {side} <n>}}?", n=number)
    return question, f"{number + step} comes {side} {number}.", str(number + step)


def parity(rng):
    number = rng.randrange(100)
    kind = "odd" if number % 2 else "even"
    question = expand(rng, "{Is <n> even or odd|Is <n> odd or even|Even or odd: <n>}?", n=number)
    return question, f"{number} is {kind}.", sentence(kind)


def larger(rng):
    a, b = rng.sample(range(1, 60), 2)
    most = rng.random() < 0.7
    word, value = ("larger", max(a, b)) if most else ("smaller", min(a, b))
    question = expand(rng, f"{{Which is {word}, <a> or <b>|Which number is {word}: <a> or <b>|What is {word}, <a> or <b>}}?", a=a, b=b)
    return question, f"{value} is {word}.", str(value)


def spelled(rng):
    word = rng.choice(CAT_WORDS)
    question = expand(rng, "{Spell <word>|How do you spell <word>|Spell the word <word>|Can you spell '<word>'|How is <word> spelled}?", word=word)
    letters = "-".join(word.upper())
    return question, letters + ".", letters


def counted(rng):
    draw = rng.random()
    if draw < 0.5:
        start, end = 1, rng.choice((3, 5, 5, 10, 10, 10, 10, 12, 15, 20, 20, rng.randrange(2, 31)))
        ask = "{Count to <end>|Count up to <end>|Please count to <end>|Can you count to <end>|Count from 1 to <end>|Count from one to <end>|List the numbers from 1 to <end>|Write the numbers 1 to <end>|Count to <end> for me|Say the numbers from 1 to <end>}"
    elif draw < 0.8:
        start = rng.randrange(0, 40)
        end = start + rng.randrange(2, 15)
        ask = "{Count from <start> to <end>|Count from <start> up to <end>|List the numbers from <start> to <end>}"
    else:
        start, end = rng.choice((3, 5, 10, 10, 20, rng.randrange(2, 21))), 1
        ask = "{Count down from <start>|Count backwards from <start>|Count from <start> down to 1|Count down from <start> to 1|Do a countdown from <start>}"
    question = expand(rng, ask + "{.|!|}", start=start, end=WORDS[end] if 1 < end < 13 and rng.random() < 0.35 else end)
    step = 1 if end >= start else -1
    return question, ", ".join(str(n) for n in range(start, end + step, step)) + ".", None


GENERATORS = [
    (capital, 10), (opposite, 8), (colour, 5), (sound, 3), (how_many, 4), (fact, 6), (neighbour, 4), (plus, 16), (minus, 8),
    (times, 7), (successor, 4), (parity, 2), (larger, 2), (spelled, 2), (counted, 8),
]


def knowledge(rng):
    """A question, the answer in a sentence, the answer in a word or None."""
    makers, weights = zip(*GENERATORS)
    return rng.choices(makers, weights)[0](rng)
