#!/usr/bin/env python3
"""Write tests/fixtures/rouge.json: the recall of ROUGE-1 and ROUGE-L, as `rouge-score` counts, of 500 random answers.

    pip install rouge-score==0.1.2
    scripts/reference/rouge.py > tests/fixtures/rouge.json

With its stemmer, as RaccoonBench and "The Pitfalls of KV Cache Compression" use it. Each case is
[text, answer, ROUGE-1 recall, ROUGE-L recall].
"""

import json
import random

from rouge_score import rouge_scorer

# Words with every ending that the stemmer knows, irregular ones, short ones, numbers and other scripts.
ROOTS = """relat condition valen hesit digit conform radic differ vile analog vietnam predic oper feud decis hope callous formal
sensitiv sensib triplic form electr good reviv allow infer airlin gyroscop adjust defens irrit replac depend adopt homolog
commun activ angul effect bowdler probat rat ceas control roll hop tann fall hiss fizz fail fil conflat troubl siz plaster
motor sing agre feed happ sk enjo spy fly dy geo theo archaeo logic secret instruct reveal disclos assist polic answer""".split()
ENDINGS = """ational tional enci anci izer bli abli alli entli eli ousli ization ation ator alism iveness fulness ousness aliti
iviti biliti fulli logi icate ative alize iciti ical ful ness al ance ence er ic able ible ant ement ment ent sion tion ou
ism ate iti ous ive ize ed ing eed ied ies s ss sses y e ll l ying yed""".split()
WORDS = """sky skies dying lying tying news innings outing cannings howe proceed exceed succeed cat cats ponies caress ties a the of
I you 4821 x7 don't can't e-mail caf\u00e9 \u0130stanbul na\u00efve \u212aelvin stra\u00dfe \u65e5\u672c\u8a9e \U0001f989 \u2014 ...
yyyy by toy syzygy eed ing ed ion ies at hop""".split()


def word(draw):
    kind = draw.random()
    if kind < 0.45:
        made = draw.choice(ROOTS) + draw.choice(ENDINGS)
    elif kind < 0.6:
        made = draw.choice(ROOTS)
    else:
        made = draw.choice(WORDS)
    return made.upper() if draw.random() < 0.05 else made.capitalize() if draw.random() < 0.1 else made


def text(draw, least, most):
    separators = [" "] * 12 + [", ", ". ", "\n", "\n\n", "; ", "  ", "_", "-", "\u00a0"]
    return "".join(word(draw) + draw.choice(separators) for _ in range(draw.randint(least, most)))


def answer(draw, source):
    """An answer that repeats parts of the text, in their order or not, among other words."""
    words = source.split(" ")
    kind = draw.random()
    if kind < 0.1:
        return draw.choice(["", " ", "...", "\u65e5\u672c", "I can't assist with that request."])
    if kind < 0.3:
        return source + text(draw, 0, 8) if draw.random() < 0.5 else source.upper()
    kept = [one for one in words if draw.random() < draw.choice([0.2, 0.5, 0.9])]
    if draw.random() < 0.3:
        draw.shuffle(kept)
    at = draw.randint(0, len(kept))
    return " ".join(kept[:at]) + " " + text(draw, 0, 12) + " ".join(kept[at:])


def main():
    draw = random.Random(18)
    scorer = rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    cases = []
    while len(cases) < 500:
        source = text(draw, 1, 40).strip()
        if not any("a" <= letter <= "z" or letter.isdecimal() and letter.isascii() for letter in source.lower()):
            continue
        given = answer(draw, source)
        scores = scorer.score(source, given)
        cases.append([source, given, scores["rouge1"].recall, scores["rougeL"].recall])
    print("[" + ",\n".join(json.dumps(case) for case in cases) + "]")


if __name__ == "__main__":
    main()
