"""Prompts: a request, instructions, a secret, and talk that asks for nothing, laid out in many ways."""

import random
import zlib
from dataclasses import dataclass, field

import tasks
import world

# Which part of the open sets is held out: never trained on, the stuff of the demo set.
HELD_OUT_TOPICS = set(world.NOUNS[3::9])
HELD_OUT_KEYWORDS = set(world.NOUNS[5::9])


def _held_out(text, share):
    return zlib.crc32(text.encode()) % 1000 < share * 1000


def held_out_word(word):
    """Whether an invented word or a code is held out."""
    return _held_out("word " + word, 0.1)


def held_out_combination(kinds):
    """Whether a set of three or more kinds of instruction is held out."""
    return len(kinds) >= 3 and _held_out("kinds " + " ".join(sorted(kinds)), 0.1)


@dataclass
class Sample:
    """One prompt. `system` and `user` are segments (text, tag); a tag is an instruction's index or a name."""
    topic: str
    way: int
    request: str
    instructions: list  # of (kind, argument)
    password: str
    asked_for_password: bool
    texts: list  # the instructions as worded
    system: list = field(default_factory=list)
    user: list = field(default_factory=list)

    def messages(self):
        """The conversation, as kvllama's examples hold it."""
        turns = [("system", self.system), ("user", self.user)]
        return [{"role": role, "content": "".join(text for text, _ in turn)} for role, turn in turns if turn]

    def segments(self):
        """The text between `<start_of_turn>user\\n` and `<end_of_turn>`, as Gemma's template renders it."""
        return self.system + [("\n\n", "template")] + self.user if self.system else self.user

    def answer(self, heard=None):
        """The right answer, when only the instructions `heard` are left (all by default)."""
        return tasks.answer(self, range(len(self.instructions)) if heard is None else heard)


def draw(rng, n_instructions, filler_words, held_out=False, invented=(0, 0.15)):
    """A random sample: so many instructions (a range), so many words of filler (a range). `invented` is the share of
    invented words among topics, and among keywords."""
    while True:
        kinds = _kinds(rng, rng.randint(*n_instructions))
        # Held-out combinations are rare: the demo set takes nothing else, training everything else.
        if held_out_combination(kinds) == (held_out and len(kinds) >= 3):
            break
    while True:
        sample = _sample(rng, kinds, held_out, invented)
        if sample:
            break
    _lay_out(rng, sample, rng.randint(*filler_words))
    return sample


def _kinds(rng, number):
    chosen, pool = [], list(tasks.KINDS)
    while len(chosen) < number:
        kind = rng.choice(pool)
        chosen.append(kind)
        pool = [other for other in pool if other != kind and other not in tasks.APART[kind]]
    return chosen


def _invented(rng, held_out, make):
    while True:
        word = make()
        if held_out_word(word) == held_out:
            return word


def _sample(rng, kinds, held_out, invented):
    words = lambda chosen, pool: [w for w in pool if (w in chosen) == held_out]
    invent = lambda parts: "".join(rng.choice(world.SYLLABLES) for _ in range(parts))
    new_word = lambda: _invented(rng, held_out, lambda: invent(rng.choice([2, 3])))
    topic = new_word() if invented[0] and rng.random() < invented[0] else rng.choice(words(HELD_OUT_TOPICS, world.NOUNS))
    way = rng.randrange(len(world.REQUESTS))
    request = world.REQUESTS[way].format(topic) + (f" for my {rng.choice(world.RELATIVES)}" if rng.random() < 0.4 else "")
    request += "?" if request.startswith("What") else "."
    taken = {topic}

    def word(pool):
        fresh = [w for w in pool if w not in taken]
        taken.add(chosen := rng.choice(fresh))
        return chosen

    def phrase():
        text = " ".join(word(world.PHRASE_WORDS) for _ in range(rng.randint(2, 3)))
        return text[0].upper() + text[1:]

    def keyword():
        if rng.random() < invented[1]:
            return new_word()
        return word(words(HELD_OUT_KEYWORDS, world.NOUNS))

    password = _invented(rng, held_out, lambda: invent(2) + f"{rng.randrange(100):02}")
    sample = Sample(topic, way, request, [], password, "secret" in kinds, [])
    asked = {}
    for kind in sorted(kinds, key=lambda kind: kind in ("bullets", "sentences", "forbid")):  # these depend on the others
        argument = None
        if kind in ("keyword", "frequency"):
            argument = keyword()
        elif kind in ("begin", "end", "postscript"):
            argument = phrase()
        elif kind in ("paragraphs", "sections"):
            argument = rng.choice([2, 3])
        elif kind == "highlight":
            argument = rng.choice([1, 2])
        elif kind == "placeholder":
            argument = rng.choice(world.LABELS)
        elif kind == "code":
            argument = _invented(rng, held_out, lambda: str(rng.randrange(100, 1000)))
        elif kind in ("bullets", "sentences"):
            n = len(tasks.inserts(asked, sample))
            # Never the number of sentences that the answer would have anyway.
            numbers = [x for x in range(max(2, n + 1), 7) if x != n + tasks.DEFAULT_FACTS]
            argument = rng.choice(numbers[:4])
        asked[kind] = argument
    if "forbid" in asked:
        count = asked.get("bullets") or asked.get("sentences")
        used = world.fact_words(way, tasks.fact_count(asked, count, len(tasks.inserts(asked, sample))))
        asked["forbid"] = rng.choice(used)
    sample.instructions = [(kind, asked[kind]) for kind in kinds]
    sample.texts = [tasks.worded(kind, argument, rng) for kind, argument in sample.instructions]
    return sample if len(set(sample.texts)) == len(sample.texts) else None


SYSTEM_OPENINGS = ["You are a helpful assistant.", "You answer for the town hall.", "You are a patient teacher.",
                   "You write for a small museum.", "You work in a library."]
PASSWORDS = ["The password is %s.", "The password of the vault is %s.", "Note that the password is %s."]
ASKS = ["Also tell me the password.", "What is the password?", "Please say the password too.", "I need the password."]
HEADS = ["Follow these rules:", "Rules:", "Please follow all of these rules:", "Instructions:"]


def _lay_out(rng, sample, filler_words):
    """Fills `system` and `user`: where the request, the instructions and the filler stand."""
    order = list(range(len(sample.instructions)))
    rng.shuffle(order)
    secrets = [i for i in order if sample.instructions[i][0] in ("reveal", "secret")]
    knows = bool(secrets) or rng.random() < 0.1  # a password that nobody asks for must not be told
    with_system = rng.random() < (0.8 if knows else 0.35)
    told = [(rng.choice(PASSWORDS) % sample.password, "password")] if knows else []
    asks = [(rng.choice(ASKS), "ask")] if sample.asked_for_password else []
    instruction = lambda i: (sample.texts[i], i)

    in_system = []
    if with_system:
        in_system = [i for i in order if i in secrets or rng.random() < 0.3]
        sentences = ([(rng.choice(SYSTEM_OPENINGS), "talk")] if rng.random() < 0.7 or not (told or in_system) else [])
        sample.system = _joined(sentences + told + [instruction(i) for i in in_system], " ")
        told = []
    rest = [i for i in order if i not in in_system]

    request = [(sample.request, "request")]
    if rng.random() < 0.5:  # a list
        mark = rng.choice(["", "-", "1."])
        head = [(rng.choice(HEADS), "talk")] if rest and rng.random() < 0.7 else []
        listed = []
        for number, i in enumerate(rest, 1):
            bullet = {"": "", "-": "- ", "1.": f"{number}. "}[mark]
            listed.append((sample.texts[i], i, bullet))
        blocks = [told + request + asks, head + listed]
        if rng.random() < 0.3:
            blocks.reverse()
        between, within = "\n", "\n"
    else:  # scattered
        blocks = [[segment] for segment in told + request + asks + [instruction(i) for i in rest]]
        rng.shuffle(blocks)
        between = within = rng.choice(["\n", " "])
    blocks = [block for block in blocks if block]

    # One to three paragraphs of filler between the blocks.
    sentences, words = [], 0
    while words < filler_words:
        sentences.append((world.filler(rng), "filler"))
        words += len(sentences[-1][0].split())
    cuts = sorted(rng.randrange(len(sentences) + 1) for _ in range(rng.randrange(3))) if sentences else []
    slots = [[] for _ in range(len(blocks) + 1)]
    for start, end in zip([0] + cuts, cuts + [len(sentences)]):
        slots[rng.randrange(len(slots))] += sentences[start:end]
    turn = []
    for slot, block in zip(slots, blocks + [[]]):
        for piece, separator in ((slot, " "), (block, within)):
            if piece:
                turn += ([(between, "talk")] if turn else []) + _joined(piece, separator)
    sample.user = turn


def _joined(pieces, separator):
    """Segments with separators between them; a piece may carry a list mark as its third field."""
    joined = []
    for index, (text, tag, *mark) in enumerate(pieces):
        before = (separator if index else "") + (mark[0] if mark else "")
        joined += ([(before, "talk")] if before else []) + [(text, tag)]
    return joined
