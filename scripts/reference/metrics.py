#!/usr/bin/env python3
"""Write tests/fixtures/metrics.json: what RULER's and LongBench's metrics give to many answers.

    pip install rouge==1.0.1
    scripts/reference/metrics.py > tests/fixtures/metrics.json

LongBench's `rouge_score` is the F of ROUGE-L of the package `rouge` (not `rouge-score`), and 0 where that raises;
it is called here. `qa_f1_score`, `string_match_all` and `string_match_part` are written from their definitions:
Python's regular expressions, cases and white space are what they hang on.
"""

import json
import random
import re
import string
from collections import Counter

from rouge import Rouge


def string_match_all(answer, references):
    return sum(reference.lower() in answer.lower() for reference in references) / len(references)


def string_match_part(answer, references):
    return float(any(reference.lower() in answer.lower() for reference in references))


def bag(text):
    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    return Counter(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def f1(answer, reference):
    common = (bag(answer) & bag(reference)).total()
    if common == 0:
        return 0.0
    precision, recall = common / bag(answer).total(), common / bag(reference).total()
    return 2 * precision * recall / (precision + recall)


def rouge_l(answer, reference):
    try:
        return Rouge(metrics=["rouge-l"]).get_scores([answer], [reference], avg=True)["rouge-l"]["f"]
    except ValueError:  # a text without a sentence
        return 0.0


def best(metric):
    return lambda answer, references: max(metric(answer, reference) for reference in references)


METRICS = {
    "ruler:string_match_all": string_match_all,
    "ruler:string_match_part": string_match_part,
    "longbench:qa_f1_score": best(f1),
    "longbench:rouge_score": best(rouge_l),
}

# An answer, and the references it is held against.
MADE = [
    ("The special magic numbers are 4821, 9930 and 1177.", ["4821", "9930", "1177"]),
    ("4821", ["4821", "9930"]),
    ("I do not know.", ["4821", "9930", "1177"]),
    ("The code is 48210.", ["4821"]),
    ("PARIS, in the north of France", ["Paris"]),
    ("the", ["a"]),
    ("The Beatles", ["Beatles", "the beatles."]),
    ("An apple a day keeps the doctor away.", ["apple day keeps doctor away"]),
    ("no no no yes", ["no yes", "no no"]),
    ("It is state-of-the-art, isn't it?", ["state of the art", "stateoftheart isnt it"]),
    ("caf\u00e9 \u00c9COLE na\u00efve the\u2014end", ["\u00e9cole caf\u00e9", "the end"]),
    ("a\u0301 the\u0301 an", ["\u0301", "an"]),
    ("\u0130stanbul and \u039f\u0394\u039f\u03a3", ["i\u0307stanbul", "\u03bf\u03b4\u03bf\u03c2"]),
    ("\u201cThe\u201d quoted \u00ab the \u00bb \u00bd a\u00b2 the_end", ["quoted", "theend"]),
    ("...", ["."]),
    (". . .", ["a. b"]),
    ("The cat sat. On the mat the cat sat.", ["On the mat sat the cat. The cat sat."]),
    ("one two three four five", ["one three five. two four", "five four three two one"]),
    ("w1 w2 w6 w7 w8. w1 w3 w8 w9 w5.", ["w1 w2 w3 w4 w5"]),
    ("3.14 is pi. Pi is 3.14", ["pi is 3.14"]),
    ("tabs\tand\nnew lines  and  spaces", ["tabs and new lines and spaces"]),
    ("\u4f60\u597d \u4e16\u754c", ["\u4f60\u597d", "\u4e16\u754c \u4f60\u597d"]),
    ("Summary: the report says that costs rose. It asks for cuts.", ["Costs rose. The report asks for cuts in spending."]),
    ("x" * 300, ["x"]),
]


def mutated(rng, text):
    words = text.split(" ")
    at = rng.randrange(len(words))
    other = rng.choice([word for answer, references in MADE for word in [answer, *references]]).split(" ")
    match rng.randrange(9):
        case 0:
            words.pop(at)
        case 1:
            words.insert(at, words[at])
        case 2:
            rng.shuffle(words)
        case 3:
            words[at] = words[at].swapcase()
        case 4:
            words.insert(at, rng.choice(["the", "a", "An", ".", "...", ",", "\n", "\t", "\u00a0", "\u2014"]))
        case 5:
            words = words[:at] + other
        case 6:
            words = other + words[at:]
        case 7:
            words[at] = words[at] + rng.choice([".", "!", "'s", "-", "_", "\u0301", "."])
        case 8:
            words = words[::-1]
    return " ".join(words)


def main():
    rng = random.Random(1)
    cases = list(MADE)
    while len(cases) < 400:
        answer, references = rng.choice(MADE)
        for _ in range(rng.randint(1, 5)):
            answer = mutated(rng, answer)
            references = [mutated(rng, one) if rng.random() < 0.3 else one for one in references]
        # An answer of white space follows nothing, and a reference must say something.
        if answer.strip() and all(references):
            cases.append((answer, references))
    lines = []
    for answer, references in cases:
        scores = {name: metric(answer, references) for name, metric in METRICS.items()}
        lines.append(json.dumps({"answer": answer, "references": references, "scores": scores}))
    print("[\n" + ",\n".join(lines) + "\n]")


if __name__ == "__main__":
    main()
