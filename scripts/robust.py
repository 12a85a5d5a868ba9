#!/usr/bin/env python3
"""Measures how far a policy keeps the same positions when weights or the KV cache are quantized.

    python3 -m venv .venv && .venv/bin/pip install gguf==0.19.0
    .venv/bin/python scripts/robust.py models/smollm2-135m-instruct-q4_1.gguf --data recall

Prints, per policy, the percentage of the kept positions that are others than those of the reference, as a mean over examples with
a 95% bootstrap interval. The reference is the GGUF dequantized to float32 with an f32 KV cache. Beside it: the GGUF itself (the same
weights, other arithmetic), the dequantized weights quantized again to Q8_0 and to Q4_0, and the caches f16, q8_0 and q4_0.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent / "reference"))
from weights import rewritten  # noqa: E402

POLICIES = ["knorm", "keydiff", "tova", "h2o", "snapkv", "snapkv:window=16", "expected-attention", "lagkv", "kvzip"]


def kept(program, model, kv_type, folder, args):
    """The kept positions by (policy, example), of one run of `exp`."""
    out = folder / f"{Path(model).stem}-{kv_type.replace('/', '-')}"
    subprocess.run([program, "exp", "--model", model, "--chat-template", "raw", "--data", args.data, "--limit", str(args.limit),
                    "--policy", ",".join(POLICIES), "--ratio", args.ratio, "--kv-type", kv_type, "--flash-attn", args.flash_attn,
                    "--no-baseline", "--n-predict", "1", "--threads", str(args.threads), "--parallel", "1", "--quiet",
                    "--out", out], check=True, stdout=subprocess.DEVNULL)
    found = {}
    for row in csv.DictReader((out / "trials.csv").open()):
        if row["error"]:
            sys.exit(f"{out}: {row['example_id']}, {row['condition']}: {row['error']}")
        gone = [tuple(map(int, part.split(".."))) for part in row["evicted_ranges"].split(",") if part]
        positions = set(range(int(row["n_prompt"]) - 1))
        found[row["condition"].split("@")[0], row["example_id"]] = positions.difference(*(range(*ends) for ends in gone))
    return found


def interval(values, draws=10_000):
    rng = np.random.default_rng(1)
    means = rng.choice(values, (draws, len(values))).mean(1)
    return values.mean(), *np.quantile(means, [0.025, 0.975])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", default="recall")
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--ratio", default="0.5")
    parser.add_argument("--flash-attn", default="auto", choices=["auto", "on", "off"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kvllama", default="target/release/kvllama")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        models = {kind: folder / f"{kind}.gguf" for kind in ("F32", "Q8_0", "Q4_0")}
        for kind, path in models.items():
            rewritten(args.model, path, kind)
        cases = {"the file": (args.model, "f32"), "weights Q8_0": (models["Q8_0"], "f32"), "weights Q4_0": (models["Q4_0"], "f32"),
                 **{f"cache {kind}": (models["F32"], kind) for kind in ("f16", "q8_0", "q4_0")}}
        reference = kept(args.kvllama, models["F32"], "f32", folder, args)
        others = defaultdict(lambda: defaultdict(list))
        for case, (model, kv_type) in cases.items():
            for (policy, example), positions in kept(args.kvllama, model, kv_type, folder, args).items():
                expected = reference[policy, example]
                others[policy][case].append(len(expected - positions) / len(expected))
    print(f"{args.model.stem}, {args.data}, {len(reference) // len(POLICIES)} examples, ratio {args.ratio}: % of kept positions\n")
    print("| policy | " + " | ".join(cases) + " |\n|---|" + "--:|" * len(cases))
    for policy in POLICIES:
        cells = ["{:.1f} [{:.1f}, {:.1f}]".format(*(100 * x for x in interval(np.array(others[policy][case])))) for case in cases]
        print(f"| {policy} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
