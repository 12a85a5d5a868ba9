"""Writes the demo set: held-out prompts in the form of kvllama's examples. With --check, verifies that training cannot have drawn them."""

import argparse
import json
import random
import re
import sys
from pathlib import Path

import prompts
import tasks
import world

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


def kind_of(text):
    """The kind of an instruction, by its wording."""
    for kind, wordings in tasks.WORDINGS.items():
        if any(re.fullmatch(re.escape(wording).replace("%s", ".+"), text) for wording in wordings):
            return kind
    raise ValueError(f"no instruction is worded `{text}`")


def could_be_trained_on(example):
    """Why training may have drawn an example, or nothing: its topic is held out, and its combination of three or more kinds."""
    topics = [word for word in world.NOUNS if re.search(rf"\b{word}\b", example["question"])]
    if len(topics) != 1 or topics[0] not in prompts.HELD_OUT_TOPICS:
        return f"its topic is {topics}"
    kinds = [kind_of(instruction["text"]) for instruction in example["instructions"]]
    if len(kinds) >= 3 and not prompts.held_out_combination(kinds):
        return f"{sorted(kinds)} is no held-out combination"
    return None


def check(path):
    examples = [json.loads(line) for line in path.open()]
    wrong = [f"{path}: {example['id']}: {why}" for example in examples if (why := could_be_trained_on(example))]
    sys.exit("\n".join(wrong) if wrong else 0)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, help="the training folder: its tokenizer measures lengths")
    arguments.add_argument("--check", action="store_true", help="write nothing; fail if training may have seen an example")
    arguments.add_argument("file", type=Path)
    arguments = arguments.parse_args()
    if arguments.check:
        check(arguments.file)
    if not arguments.out:
        sys.exit("--out is missing")
    import tokenizer  # needs sentencepiece; the check does not

    drawn = samples(tokenizer.Tokenizer(arguments.out / "tokenizer.model"))
    arguments.file.write_text("".join(json.dumps(example(number, sample)) + "\n" for number, sample in enumerate(drawn, 1)))


if __name__ == "__main__":
    main()
