"""Writes the demo set, held-out prompts in the form of kvllama's examples, or with --check verifies the one that is there."""

import argparse
import json
import random
import sys
from pathlib import Path

import prompts
import tasks
import tokenizer

# Number of examples; tokens of the prompt, from and below; words of filler to draw.
LENGTHS = [(45, 80, 160, (0, 110)), (45, 160, 300, (50, 220)), (30, 300, 601, (180, 460))]


def samples(encode, seed=20240):
    """The demo set: held-out topics and words, and, from three instructions on, held-out combinations."""
    rng = random.Random(seed)
    drawn = []
    for count, shortest, limit, filler in LENGTHS:
        wanted = len(drawn) + count
        while len(drawn) < wanted:
            n = 2 + len(drawn) % 5
            sample = prompts.draw(rng, (n, n), filler, held_out=True)
            text = "".join(message["content"] for message in sample.messages())
            apart = all(text.count(piece) == 1 for piece in [*sample.texts, sample.request])
            if apart and shortest <= len(encode.prompt(sample)[0]) < limit:
                drawn.append(sample)
    rng.shuffle(drawn)
    return drawn


def example(number, sample):
    rules = [tasks.rule(kind, argument, sample) for kind, argument in sample.instructions]
    return {
        "id": f"demo-{number:03}",
        "messages": sample.messages(),
        "instructions": [{"type": name, "kwargs": kwargs, "text": text} for (name, kwargs), text in zip(rules, sample.texts)],
        "question": sample.request,
    }


def held_out(sample):
    """Whether training can never have drawn this sample."""
    kinds = [kind for kind, _ in sample.instructions]
    return sample.topic in prompts.HELD_OUT_TOPICS and (len(kinds) < 3 or prompts.held_out_combination(kinds))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, required=True, help="the training folder: its tokenizer measures lengths")
    arguments.add_argument("--check", action="store_true")
    arguments.add_argument("file", type=Path)
    arguments = arguments.parse_args()
    drawn = samples(tokenizer.Tokenizer(arguments.out / "tokenizer.model"))
    lines = [json.dumps(example(number, sample)) + "\n" for number, sample in enumerate(drawn, 1)]
    if not arguments.check:
        arguments.file.write_text("".join(lines))
        return
    if arguments.file.read_text() != "".join(lines):
        sys.exit(f"{arguments.file} is not what this generator makes; write it again without --check")
    seen = [line for line, sample in zip(lines, drawn) if not held_out(sample)]
    if seen:
        sys.exit(f"{arguments.file}: training may have seen {seen[0]}")


if __name__ == "__main__":
    main()
