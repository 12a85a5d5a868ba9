#!/usr/bin/env python3
"""Holds kvllama to NVIDIA's kvpress on a real GGUF: what kvpress's own presses score and keep, per layer and KV head.

    scripts/reference/real_kvpress.py models/smollm2-135m-instruct-q4_1.gguf --text models/smollm2-135m-instruct-q4_1.LICENSE

Both sides compute in float32 with the same weights: the GGUF's, dequantized. kvpress runs as its scripts run it: transformers
with its default attention (`eager` for h2o, whose press needs the weights). A press that fails on a model is named, with its
error; then it runs again with that one fault mended. kvllama always keeps the last cached position: where kvpress evicts it, that
position takes the place of the lowest that kvpress kept, and the table counts it under `last evicted`.

Needs an environment with kvpress and gguf: `scripts/peer-kvpress.sh DIR` makes one, as DIR/kvpress-venv.
"""

import argparse
import functools
import logging
import tempfile
import warnings
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from compare_kvpress import PRESSES, LayerRotary
from real import RATIO, TIE, Kvllama, positions
from weights import rewritten


def load(path, attention):
    return AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation=attention).eval()


@torch.no_grad()
def theirs(model, policy, tokens, mended=False):
    """Of each layer, scores [KV heads, positions] and the kept positions of each head, by the press's own `score`."""
    press, seen, score = PRESSES[policy](compression_ratio=float(RATIO)), [], PRESSES[policy].score
    gather = torch.Tensor.gather
    kept = []

    def recorded(module, *rest):
        if mended:
            module.rotary_emb = LayerRotary(model.model.rotary_emb, module.layer_type)
        seen.append(score(press, module, *rest)[0])
        return seen[-1][None]

    def gathered(tensor, dim, index):
        # ScorerPress.compress gathers the keys, then the values, of the positions that it keeps.
        if tensor.ndim == 4 and index.shape != tensor.shape:
            kept.append([sorted(head) for head in index[0, :, :, 0].tolist()])
        return gather(tensor, dim, index)

    press.score = recorded
    torch.Tensor.gather = gathered
    try:
        with press(model):
            model(torch.tensor([tokens]), past_key_values=DynamicCache(), cache_position=torch.arange(len(tokens)))
    finally:
        torch.Tensor.gather = gather
    return seen, kept[::2]


def compare(kvllama, models, kinds, policy, prompt, tokens):
    """Prints a line of the table for each kind of layer."""
    model, note = models("eager" if policy == "h2o" else "sdpa"), ""
    try:
        scores, kept = theirs(model, policy, tokens[:-1])
    except Exception as error:  # what kvpress fails with is a result
        note = f"fails ({type(error).__name__}: {str(error).splitlines()[0][:80]}); here with each layer's rotary embedding"
        scores, kept = theirs(model, policy, tokens[:-1], mended=True)
    said, written = kvllama.scores(tokens, "--policy", policy, "--ratio", RATIO, "--granularity", "head")
    # What a policy protects gets the largest score plus 1.
    protects = policy in ("tova", "snapkv", "expected-attention")
    for kind in sorted(set(kinds)):
        off = scale = 0.0
        total = apart = ties = protected = 0
        for layer in (at for at, its in enumerate(kinds) if its == kind):
            ours = torch.tensor(written["per_head"][str(layer)])
            off = max(off, (ours - scores[layer]).abs().max().item())
            scale = max(scale, ours.abs().max().item() - protects)
            for head, (row, their) in enumerate(zip(scores[layer], kept[layer])):
                lowest, their = min(their, key=lambda at: row[at].item()), set(their)
                if len(row) - 1 not in their:
                    their, protected = their - {lowest} | {len(row) - 1}, protected + 1
                mine = set(positions(said["kept_by_head"][str(layer)][head]))
                tie = TIE * (row.abs().max().item() - protects)
                near = sum(abs(row[at].item() - row[lowest].item()) <= tie for at in mine ^ their)
                total, apart, ties = total + len(row), apart + len(mine ^ their) - near, ties + near
        print(f"| {prompt} | {len(tokens)} | {policy} | {kind} | {off / scale:.1e} | {total - apart:,} of {total:,} | "
              f"{100 * (1 - apart / total):.3f}% | {ties} | {protected} | {note} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a GGUF that transformers can read")
    parser.add_argument("--text", type=Path, required=True, help="a text file; prompts are its beginning")
    parser.add_argument("--lengths", default="300,700", help="tokens of the prompts")
    parser.add_argument("--kvllama", default="target/release/kvllama")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    lengths = [int(length) for length in arguments.lengths.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float32.gguf"
        rewritten(arguments.model, path)
        kvllama = Kvllama(arguments.kvllama, path, Path(folder), arguments.threads)
        models = functools.cache(lambda attention: load(path, attention))
        config = models("sdpa").config
        kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
        text = kvllama.tokenize(arguments.text.read_text()[: 6 * max(lengths)])
        print("| model | tokens | policy | layers | scores: difference / largest | kept as kvpress | | ties | last evicted | |", flush=True)
        print("|---|--:|---|---|--:|--:|--:|--:|--:|---|", flush=True)
        for length in lengths:
            for policy in PRESSES:
                compare(kvllama, models, kinds, policy, arguments.model.stem, text[:length])


if __name__ == "__main__":
    main()
