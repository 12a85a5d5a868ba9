#!/usr/bin/env python3
"""Checks sets of examples (JSONL) and prints what they hold.

    scripts/check-examples.py [--near SHARE] [FILE.jsonl ...]   default: data/multi.jsonl

Stricter than the loader: it holds a set to the rules for hand-written ones in data/README.md.
Prompts whose word 5-grams overlap by more than SHARE (Jaccard, default 0.05) count as near-duplicates.
Exit code: 0 all is well, 1 something is wrong (each finding on a line of its own), 2 bad usage.
"""

import argparse
import collections
import itertools
import json
import pathlib
import re
import sys

DEFAULT = pathlib.Path(__file__).resolve().parent.parent / "data" / "multi.jsonl"

# IFEval's types, and the kwargs each of them needs.
KWARGS = {
    "change_case:capital_word_frequency": {"capital_frequency", "capital_relation"},
    "change_case:english_capital": set(),
    "change_case:english_lowercase": set(),
    "combination:repeat_prompt": {"prompt_to_repeat"},
    "combination:two_responses": set(),
    "detectable_content:number_placeholders": {"num_placeholders"},
    "detectable_content:postscript": {"postscript_marker"},
    "detectable_format:constrained_response": set(),
    "detectable_format:json_format": set(),
    "detectable_format:multiple_sections": {"section_spliter", "num_sections"},
    "detectable_format:number_bullet_lists": {"num_bullets"},
    "detectable_format:number_highlighted_sections": {"num_highlights"},
    "detectable_format:title": set(),
    "keywords:existence": {"keywords"},
    "keywords:forbidden_words": {"forbidden_words"},
    "keywords:frequency": {"keyword", "frequency", "relation"},
    "keywords:letter_frequency": {"letter", "let_frequency", "let_relation"},
    "language:response_language": {"language"},
    "length_constraints:nth_paragraph_first_word": {"num_paragraphs", "nth_paragraph", "first_word"},
    "length_constraints:number_paragraphs": {"num_paragraphs"},
    "length_constraints:number_sentences": {"num_sentences", "relation"},
    "length_constraints:number_words": {"num_words", "relation"},
    "punctuation:no_comma": set(),
    "startend:end_checker": {"end_phrase"},
    "startend:quotation": set(),
}

# What IFEval never puts into one prompt (one direction is enough); no type goes with itself either.
CONFLICTS = {
    "language:response_language": {
        "detectable_format:multiple_sections", "keywords:existence", "keywords:frequency",
        "keywords:forbidden_words", "startend:end_checker", "change_case:english_capital",
        "change_case:english_lowercase",
    },
    "length_constraints:number_paragraphs": {
        "length_constraints:nth_paragraph_first_word", "length_constraints:number_sentences",
    },
    "detectable_format:multiple_sections": {"detectable_format:number_highlighted_sections"},
    "change_case:capital_word_frequency": {"change_case:english_lowercase", "change_case:english_capital"},
    "change_case:english_lowercase": {"change_case:english_capital"},
    "startend:quotation": {"detectable_format:title"},
}
# These go with nothing but the types named.
ONLY_WITH = {
    "detectable_format:constrained_response": set(),
    "detectable_format:json_format": {"keywords:forbidden_words", "keywords:existence"},
    "combination:two_responses": {
        "keywords:forbidden_words", "keywords:existence", "language:response_language",
        "detectable_format:title", "punctuation:no_comma",
    },
    "combination:repeat_prompt": {"keywords:existence", "detectable_format:title", "punctuation:no_comma"},
}


def conflict(a, b):
    return (
        a == b
        or b in CONFLICTS.get(a, ()) or a in CONFLICTS.get(b, ())
        or (a in ONLY_WITH and b not in ONLY_WITH[a]) or (b in ONLY_WITH and a not in ONLY_WITH[b])
    )


def places(example, text):
    """Every place a text stands at: (message, start, end)."""
    return [
        (index, match.start(), match.start() + len(text))
        for index, message in enumerate(example["messages"])
        for match in re.finditer(f"(?={re.escape(text)})", message["content"])
    ]


def check(example):
    """Yields what is wrong with one example."""
    roles = [message["role"] for message in example["messages"]]
    if roles[-1] != "user" or "system" in roles[1:]:
        yield f"roles {roles}: the last message must be the user's, and only the first may be the system's"
    for field in ("context", "question"):
        if field in example and not places(example, example[field]):
            yield f"`{field}` does not stand verbatim in a message"
    instructions = example["instructions"]
    if not 3 <= len(instructions) <= 8:
        yield f"{len(instructions)} instructions; 3 to 8 are expected"
    spans = []
    for index, instruction in enumerate(instructions):
        kind, text = instruction.get("type"), instruction.get("text", "")
        found = places(example, text) if text else []
        if len(found) != 1:
            yield f"instruction {index}: its text stands in {len(found)} places, not 1: {text!r}"
        spans += found
        if kind is None:
            if not instruction.get("rubric", "").strip():
                yield f"instruction {index}: neither a type nor a rubric"
        elif kind not in KWARGS:
            yield f"instruction {index}: unknown type {kind!r}"
        elif set(instruction.get("kwargs", {})) != KWARGS[kind]:
            yield f"instruction {index} ({kind}): kwargs {sorted(instruction.get('kwargs', {}))}, not {sorted(KWARGS[kind])}"
        for key, value in instruction.get("kwargs", {}).items():
            if key.endswith("relation") and value not in ("at least", "less than"):
                yield f"instruction {index} ({kind}): {key} is {value!r}, not 'at least' or 'less than'"
            if key == "prompt_to_repeat" and not places(example, value):
                yield f"instruction {index} ({kind}): the prompt to repeat does not stand verbatim in a message"
    spans.sort()
    for (a, _, end), (b, other, _) in zip(spans, spans[1:]):
        if a == b and other < end:
            yield f"two instruction texts overlap in message {a} at characters {other} to {end}"
    kinds = [instruction["type"] for instruction in instructions if "type" in instruction]
    for a, b in itertools.combinations(kinds, 2):
        if conflict(a, b):
            yield f"IFEval does not combine {a} with {b}"


def words(example):
    return re.findall(r"[^\W_]+", " ".join(message["content"] for message in example["messages"]).lower())


def jaccard(a, b):
    return len(a & b) / max(1, len(a | b))


def near_duplicates(examples, limit):
    grams = {}
    for example in examples:
        text = words(example)
        grams[example["id"]] = set(zip(*(text[i:] for i in range(5))))
    for (a, first), (b, second) in itertools.combinations(grams.items(), 2):
        share = jaccard(first, second)
        if share > limit:
            yield f"{a}, {b}: near-duplicate prompts, {share:.2f} of their word 5-grams are shared"


def summary(examples):
    n = len(examples)
    instructions = [instruction for example in examples for instruction in example["instructions"]]
    kinds = collections.Counter(instruction.get("type", "rubric only") for instruction in instructions)
    lengths = sorted(len(words(example)) for example in examples)
    system = sum(example["messages"][0]["role"] == "system" for example in examples)
    in_system = 0
    third = collections.Counter()
    for example in examples:
        starts = list(itertools.accumulate((len(m["content"]) for m in example["messages"]), initial=0))
        for instruction in example["instructions"]:
            for message, start, _ in places(example, instruction.get("text", "")):
                in_system += example["messages"][message]["role"] == "system"
                third[min(2, 3 * (starts[message] + start) // starts[-1])] += 1
    per = collections.Counter(len(example["instructions"]) for example in examples)
    print(f"{n} examples, {len(instructions)} instructions")
    print(f"system turn: {system} ({system / n:.0%}); several user turns: "
          f"{sum(sum(m['role'] == 'user' for m in e['messages']) > 1 for e in examples)}")
    print("instructions per example: " + ", ".join(f"{k}: {per[k]}" for k in sorted(per)))
    print(f"instructions in the system turn: {in_system / len(instructions):.0%}; in the first, second, last third "
          "of the prompt: " + ", ".join(f"{third[i] / len(instructions):.0%}" for i in range(3)))
    print("words per prompt: " + ", ".join(f"{name} {lengths[min(n - 1, int(q * n))]}" for name, q in
          (("least", 0), ("quarter", 0.25), ("median", 0.5), ("three quarters", 0.75), ("most", 1))))
    for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0])):
        print(f"{count:5}  {count / len(instructions):4.0%}  {kind}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=pathlib.Path, default=[DEFAULT], metavar="FILE.jsonl")
    parser.add_argument("--near", type=float, default=0.05, metavar="SHARE")
    options = parser.parse_args()
    wrong = 0
    for path in options.files:
        examples, findings = [], []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            try:
                example = json.loads(line)
                findings += [f"{example['id']}: {finding}" for finding in check(example)]
                examples.append(example)
            except (ValueError, KeyError, TypeError) as error:
                findings.append(f"line {number}: not an example: {type(error).__name__}: {error}")
        ids = collections.Counter(example["id"] for example in examples)
        findings += [f"{id}: this id is taken {count} times" for id, count in ids.items() if count > 1]
        findings += near_duplicates(examples, options.near)
        print(f"== {path}")
        if examples:
            summary(examples)
        for finding in findings:
            print(f"WRONG  {finding}")
        wrong += len(findings)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
