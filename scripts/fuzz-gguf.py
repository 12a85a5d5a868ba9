#!/usr/bin/env python3
"""Breaks a GGUF in its structure, hyperparameters, vocabulary and chat template, and runs kvllama on each result.

    scripts/fuzz-gguf.py target/release/kvllama models/default.gguf --cases 1000 --seed 1

Every run must end within 20 seconds and 2 GiB with exit code 0, or with 2 and one sentence that holds no assertion of
llama.cpp. Prints the cases that do not, keeps their files with --keep DIR, and exits with 1 if there are any. Needs nothing
but Python.
"""

import argparse
import collections
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
SECONDS, BYTES = 20, 2 << 30


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, code):
        value = struct.unpack_from("<" + code, self.data, self.at)[0]
        self.at += struct.calcsize("<" + code)
        return value

    def string(self):
        length = self.take("Q")
        self.at += length
        return self.data[self.at - length:self.at]

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            of, count = self.take("I"), self.take("Q")
            return of, [self.value(of) for _ in range(count)]
        return self.take(SCALARS[kind])


def read(path):
    data = open(path, "rb").read()
    reader = Reader(data)
    reader.at = 8
    n_tensors, n_fields = reader.take("Q"), reader.take("Q")
    fields = []
    for _ in range(n_fields):
        name, kind = reader.string(), reader.take("I")
        fields.append([name, kind, reader.value(kind)])
    tensors = []
    for _ in range(n_tensors):
        name = reader.string()
        shape = [reader.take("Q") for _ in range(reader.take("I"))]
        tensors.append([name, shape, reader.take("I"), reader.take("Q")])
    start = (reader.at + 31) // 32 * 32
    return fields, tensors, data[start:]


def string(text):
    return struct.pack("<Q", len(text)) + text


def value(kind, content):
    if kind == STRING:
        return string(content)
    if kind == ARRAY:
        of, items = content
        return struct.pack("<IQ", of, len(items)) + b"".join(value(of, item) for item in items)
    return struct.pack("<" + SCALARS[kind], content)


def write(fields, tensors, data):
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(fields))
    for name, kind, content in fields:
        head += string(name) + struct.pack("<I", kind) + value(kind, content)
    for name, shape, kind, offset in tensors:
        head += string(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", dim) for dim in shape)
        head += struct.pack("<IQ", kind, offset)
    return head + b"\0" * (-len(head) % 32) + data


EXTREMES = {
    "B": [0, 255], "b": [0, -128], "H": [0, 65535], "h": [0, -1], "?": [True, False],
    "I": [0, 1, 2, 3, 7, 31, 33, 255, 1 << 16, 1 << 20, 1 << 31, (1 << 32) - 1], "i": [0, -1, 1 << 30, -(1 << 31)],
    "f": [0.0, -1.0, 1e-30, 1e30, float("inf"), float("nan")], "Q": [0, (1 << 64) - 1], "q": [0, -1], "d": [0.0, 1e300],
}
TEMPLATES = [
    "{{ " + "-" * 19538 + "1 }}", "{{ '%9999999999d'|format(1) }}", "{{ 'a'|indent(10000000000) }}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% set ns = namespace(a='aaaaaaaa') %}{% for i in range(60) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}{{ ns.a }}",
    "{{ 'x' * 100000000000 }}", "{{ [1] * 100000000000 }}", "{{ range(10000000000)|list }}", "{{ " + "(" * 9000 + "1" + ")" * 9000 + " }}",
    "{% if 1 %}" * 5000 + "{% endif %}" * 5000, "{{ " + "not " * 5000 + "1 }}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ " + "[" * 5000 + "]" * 5000 + " }}", "{{ 1 if 1 else " * 1 + "1 if 1 else " * 5000 + "1 }}", "{{ messages[0]['content'] }}" * 2000,
    "", "{{", "{% for m in messages %}", "\0", "{{ 'a'.join(range(99999)) * 99999 }}", "{{ 2 ** 99999 }}", "{{ 'é' * 3 }}{{ messages[99].content }}",
    "{{ '%s'|center(99999999999) }}", "{% include 'x' %}", "{{ 'abc'.replace('', 'xxxxxxxxxxxxxxxxxxxxxxx' * 100000) }}", "{{ 'a' ~ 'b' * 9999999 }}",
]


def mutate(rng, fields, tensors, data):
    """Changes one or two things in place; returns what, and the data."""
    said = []
    for _ in range(rng.choice([1, 1, 1, 2])):
        kind = rng.choice(["field", "field", "field", "drop", "type", "array", "token", "token", "template", "tensor", "tensor", "bytes"])
        field = rng.choice(fields)
        if kind == "field" and field[1] in SCALARS:
            field[2] = rng.choice(EXTREMES[SCALARS[field[1]]])
        elif kind == "drop":
            fields.remove(field)
        elif kind == "type":
            field[1], field[2] = rng.choice([(4, 0), (STRING, b"x"), (6, 1.0), (ARRAY, (4, [1, 2])), (ARRAY, (8, [b""])), (5, -1)])
        elif kind == "array":
            field = rng.choice([field for field in fields if field[1] == ARRAY] or [field])
            if field[1] == ARRAY:
                of, items = field[2]
                field[2] = of, rng.choice([[], items[:1], items[:len(items) // 2], items + items, items[::-1]])
        elif kind == "token":
            tokens = next((field for field in fields if field[0] == b"tokenizer.ggml.tokens" and field[1] == ARRAY), None)
            if tokens:
                of, items = tokens[2]
                items = list(items)
                how = rng.choice(["rename", "empty", "same", "bytes", "utf8", "long"])
                for at in range(len(items)) if how in ("empty", "same") else rng.sample(range(len(items)), min(len(items), 300)):
                    items[at] = {"rename": b"zz%d" % at, "empty": b"", "same": b"a", "utf8": b"\xff\xfe", "long": b"q" * 4000}.get(how, items[at])
                if how == "bytes":
                    items = [b"q" + item if item.startswith(b"<0x") else item for item in items]
                tokens[2] = of, items
                kind += " " + how
        elif kind == "template":
            template = next((field for field in fields if field[0] == b"tokenizer.chat_template"), None)
            if template:
                at = rng.randrange(len(TEMPLATES))
                template[1], template[2] = STRING, TEMPLATES[at].encode()
                kind += f" {at}"
        elif kind == "tensor":
            tensor = rng.choice(tensors)
            how = rng.randrange(5)
            if how == 0:
                tensor[1] = [rng.choice([0, 1, 3, 32, dim, dim * 2, 1 << 40, (1 << 64) - 1]) for dim in tensor[1]]
            elif how == 1:
                tensor[2] = rng.choice([0, 1, 2, 8, 12, 39, 40, 99, (1 << 32) - 1])
            elif how == 2:
                tensor[3] = rng.choice([0, 1, 32, 1 << 20, 1 << 40, (1 << 64) - 32])
            elif how == 3:
                tensor[0] = rng.choice([b"", b"x", b"y" * 70, rng.choice(tensors)[0]])
            else:
                tensors.remove(tensor)
            said.append(f"{tensor[0][:40]}/{how}")
        elif kind == "bytes":
            data = data[:rng.randrange(len(data))] if rng.random() < 0.5 else data
        said.append(f"{kind} {field[0].decode(errors='replace')} {str(field[2])[:30] if field[1] in SCALARS else ''}")
    return "; ".join(said), data


def limits():
    resource.setrlimit(resource.RLIMIT_AS, (BYTES + (2 << 30), BYTES + (2 << 30)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("model", help="a small GGUF")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", help="a folder for the files of failing cases")
    args = parser.parse_args()
    original = read(args.model)
    counts, failed = collections.Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "broken.gguf")
        for case in range(args.cases):
            rng = random.Random(args.seed * 1_000_003 + case)
            fields, tensors = [list(field) for field in original[0]], [list(tensor) for tensor in original[1]]
            what, data = mutate(rng, fields, tensors, original[2])
            with open(path, "wb") as file:
                file.write(write(fields, tensors, data))
            command = [args.program, "probe", "--model", path, "--prompt", "Tell me about the owl.", "--ratio", "0.5", "--n-predict", "3", "--threads", "1"]
            try:
                run = subprocess.run(command, capture_output=True, timeout=SECONDS, preexec_fn=limits)
                said = run.stderr.decode(errors="replace").strip()
                sentence = said.splitlines()[-1:] != [] and said.splitlines()[-1].startswith("error: ") and "GGML_ASSERT" not in said and ".cpp:" not in said
                outcome = "ran" if run.returncode == 0 else "refused" if run.returncode == 2 and sentence else f"exit {run.returncode}"
            except subprocess.TimeoutExpired:
                said, outcome = "", "no end"
            counts[outcome] += 1
            if outcome not in ("ran", "refused"):
                failed += 1
                print(f"case {case}: {what}\n    {outcome}: {said[-300:]}", flush=True)
                if args.keep:
                    os.makedirs(args.keep, exist_ok=True)
                    os.replace(path, os.path.join(args.keep, f"{args.seed}-{case}.gguf"))
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
