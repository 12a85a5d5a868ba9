#!/usr/bin/env python3
"""Holds kvllama to transformers on a real GGUF, as real.py does: criticalkv, duo, qfilters and its filters, policies as
published, and fair scores.

    scripts/reference/real_variants.py models/gemma-3-270m-q4_k_m.gguf --text models/gemma-3-270m-q4_k_m.NOTICE.md

The filters are made by `kvllama calibrate` on the beginning of the text. Prints a table and exits with 1 where a bar is missed.
"""

import functools
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

import scores as reference
import variants
from model import rope
from real import ALLOWED_ELSE, N_CONTINUE, RATIO, TIE, Kvllama, Transformers, arguments, positions
from weights import rewritten

PIECE = 256
SYSTEM = "You are the guide of a museum. Answer in short sentences, and never name a price. "


def calibrated(kvllama, transformers, text, folder):
    """The filters [KV heads, d] of each layer, by both sides, and the file of kvllama's."""
    file, data = folder / "filters.npz", folder / "calibration.txt"
    data.write_text(text)
    model = kvllama.base[kvllama.base.index("--model") + 1]
    subprocess.run([kvllama.base[0], "calibrate", "--model", model, "--data", str(data), "--length", str(PIECE), "--limit", "2",
                    "--flash-attn", "off", "--threads", "1", "--out", str(file)], check=True, stdout=subprocess.DEVNULL)
    tokens = kvllama.probe("--prompt", text)["tokens"]
    bos, body = tokens[: kvllama.has_bos], tokens[kvllama.has_bos :]
    step = PIECE - len(bos)
    queries = []
    for start in 0, step:
        seen = transformers.read([*bos, *body[start : start + step], body[0]])
        queries.append([rope(layer.queries, torch.arange(len(layer.queries), dtype=torch.float64), layer.rope_base) for layer in seen])
    ours = np.load(file)
    ours = [torch.from_numpy(ours[f"layer_{layer}"]).double() for layer in range(len(transformers.layers))]
    if transformers.model.config.model_type == "llama":  # a GGUF of this kind has the halves of a head interleaved
        ours = [its.unflatten(-1, (-1, 2)).mT.flatten(-2) for its in ours]
    return ours, [variants.filters(torch.cat(of_layer)) for of_layer in zip(*queries)], file


def differing(said, wanted, rows, tie=TIE):
    """Positions apart from the reference, except ties, and all positions."""
    kept = [heads[head] for _, heads in sorted(said["kept_by_head"].items(), key=lambda item: int(item[0])) for head in
            range(len(heads))] if said["kept_by_head"] else [said["kept"]]
    apart = total = 0
    for row, ours, theirs in zip(rows, kept, wanted, strict=True):
        ours, theirs = {*positions(ours)}, {*positions(theirs)}
        last = min((row[at].item() for at in theirs if at < len(row) - 1), default=0.0)
        apart += sum(abs(row[at].item() - last) > tie * row.abs().max().item() for at in ours ^ theirs)
        total += len(row)
    return apart, total


def flat(sets):
    return [ranges for heads in sets for ranges in heads]


def main():
    given = arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model = folder / "float32.gguf"
        rewritten(given.model, model)
        kvllama, transformers = Kvllama(given.kvllama, model, folder, given.threads), Transformers(model)
        reference.SHAPE = variants.SHAPE = SimpleNamespace(kv_heads=transformers.kv_heads)
        text, name, met = given.text.read_text(), given.model.stem, True
        print("| model | tokens | condition | scores: difference / largest | kept as the reference | |\n|---|--:|---|--:|--:|--:|")

        def line(tokens, condition, off, apart=None, total=0):
            nonlocal met
            met &= off is None or off <= ALLOWED_ELSE
            off, kept, share = "" if off is None else f"{off:.1e}", "", ""
            if apart is not None:
                met &= apart <= total / 1000
                kept, share = f"{total - apart:,} of {total:,}", f"{100 * (1 - apart / total):.3f}%"
            print(f"| {name} | {tokens} | {condition} | {off} | {kept} | {share} |", flush=True)

        ours, filters, file = calibrated(kvllama, transformers, text[: 8 * PIECE], folder)
        off = max((a - b).abs().max().item() for a, b in zip(ours, filters)) / max(f.abs().max().item() for f in filters)
        line(2 * PIECE, "the filters of qfilters", off)
        output = [layer.self_attn.o_proj.weight.detach().double() for layer in transformers.layers]
        for tokens in kvllama.prompts(text, given.lengths):
            tokens = tokens[:-N_CONTINUE]
            seen, n = list(transformers.read(tokens)), len(tokens) - 1
            count = reference.survivors(n, RATIO)

            def compare(policy, theirs, wanted, *how, rows=None, key="per_head"):
                said, its = kvllama.scores(tokens, policy, *how, key=key) if theirs is not None else (
                    kvllama.scores(tokens, policy, *how, scored=False)[0], None)
                off = None if theirs is None else (its - theirs).abs().max().item() / theirs.abs().max().item()
                line(len(tokens), " ".join([policy.split(":file")[0], *how]), off, *differing(said, wanted, rows))

            along = torch.stack([variants.qfilters(*of_layer) for of_layer in zip(seen, filters)])
            wanted = [[reference.ranges(reference.highest(row, count)) for row in heads] for heads in along]
            compare(f"qfilters:file={file}", along, flat(wanted), "--granularity", "head", rows=along.flatten(0, 1))
            back = torch.stack([variants.looks_back(layer) for layer in seen])
            wide = back[..., None].expand(-1, -1, n)
            compare("duo", wide, flat(variants.duo(back, n, RATIO)), "--granularity", "head", rows=(0 * wide + 1).flatten(0, 1).cumsum(-1))
            first = torch.stack([reference.snapkv(layer) for layer in seen])
            later = torch.stack([variants.second(*of_layer) for of_layer in zip(seen, first, output)])
            wanted = [[reference.ranges(variants.critical(a, b, count)) for a, b in zip(*heads)] for heads in zip(first, later)]
            compare("criticalkv+snapkv", later, flat(wanted), "--granularity", "head", rows=later.flatten(0, 1), key="second")
            for policy in "snapkv", "adakv+snapkv", "pyramidkv+snapkv", "h2o", "tova":
                score = dict(h2o=variants.h2o, tova=reference.tova).get(
                    policy, functools.partial(variants.snapkv, window=8 if "pyramid" in policy else 32))
                rows = torch.cat([score(layer) for layer in seen])
                compare(policy, None, flat(variants.published(seen, policy, RATIO)), "--as-published", rows=rows)
        chat = ["--system", SYSTEM, "--prompt", text[:1200], "--chat-template", "gemma" if kvllama.has_bos else "chatml"]
        for policy in "snapkv", "h2o", "tova":
            how = [*chat, "--policy", policy, "--ratio", RATIO, "--fair=scores"]
            said = kvllama.probe(*how)
            tokens = said["tokens"]
            seen, n = list(transformers.read(tokens)), len(tokens) - 1
            cuts = sorted({0, n, *(min(span[end], n) for span in said["spans"] for end in ("start", "end"))})
            parts = [*zip(cuts, cuts[1:])]
            mean = torch.stack([variants.fair_scores(layer, policy, parts) for layer in seen]).mean((0, 1))
            line(len(tokens), f"{policy} --fair=scores, {len(parts)} parts", None,
                 *differing(said, [variants.fair(seen, policy, parts, RATIO)], [mean], tie=0))
    if not met:
        raise SystemExit("a bar is missed")


if __name__ == "__main__":
    main()
