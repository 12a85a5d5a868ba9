#!/usr/bin/env python3
"""Times one grid of snapkv conditions in kvllama and in transformers with kvpress, on the same real weights.

    scripts/peer-kvpress.sh peers
    peers/kvpress-venv/bin/python scripts/bench-real.py models/gemma-3-270m-q4_k_m.gguf --peers peers

One prompt, 16 ratios, 32 new tokens each. kvllama runs as a user runs it, `kvllama exp`, on the file and on its float32 copy, at
token and head granularity; its time includes loading, scoring and writing rows. kvpress does its conditions one by one, in
float32; loading is not counted. The programs run in turn, so that other load on the machine meets all of them. Medians of the
time that passed and, which other load changes little, of the processor's.
"""

import argparse
import functools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "reference"))
from weights import rewritten  # noqa: E402

WORDS = "the owl sat on a wall and saw the river run past the old mill while rain fell on the hills of the north".split()


def data(folder, program, model, tokens):
    """A file with one example, whose prompt has about `tokens` tokens in the model's own count."""
    file = folder / "prompt.jsonl"
    words = tokens
    while True:
        text = " ".join(WORDS[at * 7 % len(WORDS)] for at in range(words))
        found = json.loads(subprocess.run([program, "probe", "--model", model, "--chat-template", "raw", "--prompt", text, "--n-predict",
                                           "0", "--json"], check=True, stdout=subprocess.PIPE).stdout)["tokens"]
        if len(found) <= tokens:
            break
        words -= max(1, (len(found) - tokens) // 2)
    file.write_text(json.dumps({"id": "bench", "messages": [{"role": "user", "content": text}],
                                "instructions": [{"type": "punctuation:no_comma", "text": text[-20:]}]}) + "\n")
    return file, len(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--peers", type=Path, required=True, help="the folder that scripts/peer-kvpress.sh made")
    parser.add_argument("--kvllama", default="target/release/kvllama")
    parser.add_argument("--prompt", type=int, default=450)
    parser.add_argument("--answer", type=int, default=32)
    parser.add_argument("--conditions", type=int, default=16)
    parser.add_argument("--theirs", type=int, help="conditions to run in kvpress, whose time is multiplied (default: all)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    theirs = args.theirs or args.conditions
    ratios = ",".join(f"{(at + 1) / (args.conditions + 1):.4f}" for at in range(args.conditions))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        rewritten(args.model, folder / "float32.gguf")
        file, tokens = data(folder, args.kvllama, str(args.model), args.prompt)

        def kvllama(model, granularity):
            out = folder / f"run-{time.monotonic_ns()}"
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run([args.kvllama, "exp", "--model", model, "--chat-template", "raw", "--data", file, "--policy", "snapkv",
                            "--ratio", ratios, "--granularity", granularity, "--no-baseline", "--n-predict", str(args.answer),
                            "--ignore-eos", "--threads", str(args.threads), "--quiet", "--out", out],
                           check=True, stdout=subprocess.DEVNULL)
            passed, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            return passed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        def kvpress():
            said = subprocess.run([args.peers / "kvpress", args.model, "--press", "snapkv", "--prompt", str(tokens), "--answer",
                                   str(args.answer), "--conditions", str(theirs), "--threads", str(args.threads)],
                                  check=True, stdout=subprocess.PIPE).stdout
            found = json.loads(said.splitlines()[-1])
            return tuple(sum(found[name]) * args.conditions / theirs for name in ("seconds", "processor_seconds"))

        programs = {"kvpress, float32": kvpress}
        for name, model in (("the file", args.model), ("float32", folder / "float32.gguf")):
            for granularity in ("token", "head"):
                programs[f"kvllama, {name}, {granularity}"] = functools.partial(kvllama, model, granularity)
        seconds = {name: [] for name in programs}
        for _ in range(args.runs):
            for name, program in programs.items():
                seconds[name].append(program())
    medians = {name: [statistics.median(one) for one in zip(*found)] for name, found in seconds.items()}
    base = medians["kvpress, float32"]
    print(f"{args.model.stem}: {tokens} tokens of prompt, {args.conditions} snapkv conditions, {args.answer} new tokens, "
          f"{args.threads} threads, {args.runs} runs\n")
    print("| program | passed | kvpress / this | processor | kvpress / this |\n|---|--:|--:|--:|--:|")
    for name, (passed, processor) in medians.items():
        print(f"| {name} | {passed:.1f} s | {base[0] / passed:.1f} | {processor:.1f} s | {base[1] / processor:.1f} |")


if __name__ == "__main__":
    main()
