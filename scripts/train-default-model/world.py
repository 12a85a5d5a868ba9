"""The small world of the default model: its words, and what it says about a thing.

What it says depends on how it is asked, never on the thing itself, so that any noun can be the topic.
"""

NOUNS = """lantern basket ladder candle bottle ribbon pocket hammer needle blanket carpet window mirror bucket feather
marble pencil button kettle saddle anchor barrel bridge castle tower tunnel fountain statue engine wagon compass helmet
shield violin trumpet drum flute chapter letter poem puzzle dragon falcon beetle salmon walnut pepper ginger butter pickle
muffin cookie pumpkin carrot potato onion tomato pebble crystal copper silver iron velvet cotton leather paper rocket planet
comet shadow thunder meadow canyon glacier volcano harbor cottage temple palace museum library bakery kitchen attic cellar
chimney staircase doorway balcony orchard vineyard windmill horse owl bear whale turtle rabbit bread cheese soup lemon honey
river forest desert island garden train bicycle piano guitar clock lamp""".split()
ADJECTIVES = """old young tiny heavy quiet noisy yellow purple golden rusty dusty shiny broken empty hidden ancient lonely
hungry sleepy clever lazy brave careful polite crooked narrow frozen distant warm cold""".split()
GREETINGS = """hello dear good morning evening thanks friends welcome tomorrow together forever again always listen remember
hope dream peace journey question great""".split()
PHRASE_WORDS = NOUNS + ADJECTIVES + GREETINGS
LABELS = "address name email phone date number street account invoice ticket office desk manager client author editor".split()
RELATIVES = "uncle aunt sister brother neighbor friend teacher cousin doctor grandmother".split()
SYLLABLES = """ba be bo da de di do fa fi ga go ka ki ko la le li lo ma me mi mo na ne ni no pa pe po ra re ri ro sa se so
ta te ti to va ve vi vo za zo zu""".split()
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six"]

# Filler only.
NAMES = "Maria Tomas Elena Victor Anna Peter Clara Hugo Nina Oscar Ruth Felix Iris Simon Vera Leon".split()
TRADES = "sailor baker farmer miner painter driver".split()
VERBS = """carried painted found sold dropped repaired borrowed cleaned opened moved counted hid lifted measured wrapped
traded washed noticed broke lost""".split()
PLACES = """the station,the square,the old mill,the north gate,the back room,the ferry,the tall tree,the corner shop,the
stone wall,the wide field,the post office,the narrow street,the blue barn,the town hall""".replace("\n", " ").split(",")
TIMES = """at noon,before dawn,last night,on Monday,on Friday,every week,after lunch,in the evening,a year ago,two days
later,for an hour,without a word""".replace("\n", " ").split(",")

# Ways to ask. Each has its own facts; a fact's word has a synonym, used where the word is forbidden.
REQUESTS = ["Tell me about the {}", "Please describe the {}", "Write about the {}", "Explain the {}", "Say something about the {}",
            "What do you know about the {}"]
SYNONYMS = dict(pair.split("/") for pair in """big/large soft/gentle strong/sturdy useful/handy nice/pleasant bright/shining
important/vital interesting/curious noble/grand common/ordinary special/unusual easy/simple famous/popular patient/steady
elegant/graceful humble/modest cheerful/merry free/wild fragile/delicate incredible/amazing sweet/sugary green/leafy
agile/quick fine/lovely help/assist surprise/astonish teach/instruct calm/soothe amuse/delight change/shift spring/april
summer/july autumn/october winter/january house/home road/path city/town village/hamlet lake/pond beach/shore gift/present
song/tune smile/grin story/tale cup/mug lesson/moral""".split())
_WORDS = list(SYNONYMS)
_FACTS = [dict(adjectives=_WORDS[4 * way:4 * way + 4], verb=_WORDS[24 + way], season=_WORDS[30 + way % 4],
               place=_WORDS[34 + way], thing=_WORDS[40 + way]) for way in range(6)]


def fact_words(way, count):
    """The words that the first `count` facts use and that have a synonym."""
    facts = _FACTS[way]
    by_fact = [facts["adjectives"][:2], [facts["verb"]], [facts["season"]], [facts["place"]], [facts["adjectives"][3]], [facts["thing"]]]
    return [word for words in by_fact[:count] for word in words]


def facts(topic, way, count, commas=True, forbidden=(), highlights=0):
    """The first `count` (at most six) sentences about a topic."""
    said = {key: [SYNONYMS[w] if w in forbidden else w for w in (value if isinstance(value, list) else [value])]
            for key, value in _FACTS[way].items()}
    first, second, third, fourth = said["adjectives"]
    # Never the topic: after an asterisk a word has no space before it, so it is another token, one that a held-out
    # topic never had in training.
    first = f"*{first}*" if highlights > 0 else first
    second = f"*{second}*" if highlights > 1 else second
    sentences = [
        f"The {topic} is {first}, {second} and {third}." if commas else f"The {topic} is {first} and {second}.",
        f"It can {said['verb'][0]} us.",
        f"In {said['season'][0]}, people like it." if commas else f"People like it in {said['season'][0]}.",
        f"You may find it near the {said['place'][0]}.",
        f"Many people think it is {fourth}.",
        f"It often comes with a {said['thing'][0]}.",
    ]
    return sentences[:count]


def filler(rng):
    """One sentence that asks for nothing."""
    thing = (rng.choice(ADJECTIVES) + " " if rng.random() < 0.5 else "") + rng.choice(NOUNS)
    who = rng.choice(NAMES) if rng.random() < 0.6 else f"The {rng.choice(ADJECTIVES)} {rng.choice(TRADES)}"
    verb, place, time = rng.choice(VERBS), rng.choice(PLACES), rng.choice(TIMES)
    return rng.choice([
        f"{who} {verb} the {thing} near {place}.",
        f"{who} {verb} the {thing} {time}.",
        f"There was one {thing} behind {place}, and {rng.choice(NAMES)} {verb} it {time}.",
        f"The {thing} was {rng.choice(ADJECTIVES)} and {rng.choice(ADJECTIVES)}.",
        f"{who} had {rng.choice(NUMBERS[2:])} {rng.choice(NOUNS)}s and one {thing}.",
    ])
