#!/usr/bin/env python3
"""Holds kvllama to Hugging Face transformers on a real GGUF: logits after an eviction, scores and kept sets of every policy.

    scripts/reference/real.py models/gemma-3-270m-q4_k_m.gguf --text models/gemma-3-270m-q4_k_m.NOTICE.md

Both sides compute in float32 with the same weights: the GGUF's, dequantized. transformers has no eviction: here it is a mask
on the attention of what follows the prompt, per layer and head, and `compact` cuts the cached keys and rotates them anew.
Prints two tables and exits with 1 where a bar is missed. Needs requirements.txt; a copy of the model in float32 is written
to a temporary folder.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from transformers import AutoModelForCausalLM, DynamicCache

import scores as reference
from model import Seen
from weights import rewritten

N_CONTINUE = 4
RATIO = "0.5"
LOGIT_CASES = [("streaming", "token", "keep"), ("streaming", "token", "compact"), ("random", "token", "keep"),
               ("random", "token", "compact"), ("snapkv", "head", "keep")]
# A position may change sides where its score is this near to the last that is kept, in parts of the largest: a tie.
TIE = 1e-5


class Kvllama:
    """The program, on one model and one prompt."""

    def __init__(self, program, model, folder, threads):
        self.folder, self.tokens = folder, None
        self.base = [program, "probe", "--model", str(model), "--kv-type", "f32", "--flash-attn", "off", "--json",
                     "--threads", str(threads), "--n-predict", "0"]

    def probe(self, *arguments):
        return json.loads(subprocess.run([*self.base, *arguments], check=True, stdout=subprocess.PIPE).stdout)

    def tokenize(self, text):
        return self.probe("--raw", "--prompt", text)["tokens"]

    def logits(self, tokens, forced, *how):
        file = self.folder / "logits.npy"
        said = self.probe("--tokens", listed(tokens), "--continue", listed(forced), "--logits", str(file), *how)
        return said, torch.from_numpy(np.load(file))

    def scores(self, tokens, *how):
        file = self.folder / "scores.json"
        said = self.probe("--tokens", listed(tokens), "--scores", str(file), *how)
        return said, json.loads(file.read_text())


def listed(tokens):
    return ",".join(map(str, tokens))


def positions(ranges):
    return [at for start, end in ranges for at in range(start, end)]


class Transformers:
    """The same model in transformers, with attention masks of our own in each layer."""

    def __init__(self, path):
        self.model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager").eval()
        config = self.model.config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.layers = self.model.model.layers
        kinds = getattr(config, "layer_types", None) or ["full_attention"] * len(self.layers)
        window = getattr(config, "sliding_window", None)
        self.windows = [window if kind == "sliding_attention" else None for kind in kinds]
        ropes = config.rope_parameters
        self.bases = [(ropes[kind] if kind in ropes else ropes)["rope_theta"] for kind in kinds]
        self.masks, self.queries = [], []
        for index, layer in enumerate(self.layers):
            layer.self_attn.register_forward_pre_hook(self._mask(index), with_kwargs=True)
            # Queries before RoPE.
            seen = layer.self_attn.q_norm if hasattr(layer.self_attn, "q_norm") else layer.self_attn.q_proj
            seen.register_forward_hook(lambda module, inputs, output: self.queries.append(output))

    def _mask(self, layer):
        def hook(module, arguments, named):
            named["attention_mask"] = self.masks[layer]
            return arguments, named
        return hook

    def _masks(self, queries, keys, hidden=None):
        """Of each layer, [1, heads or 1, queries, keys]: causal, within the window, and not hidden [KV heads, keys]."""
        distance = queries[:, None] - keys
        for layer, window in enumerate(self.windows):
            visible = (distance >= 0) & (distance < (window or 1 << 30))
            visible = visible.expand(self.heads, -1, -1).clone()
            if hidden is not None:
                left = ~hidden[layer].repeat_interleave(self.heads // self.kv_heads, 0)
                visible[:, :, : left.shape[1]] &= left[:, None]
            yield torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)[None]

    def _run(self, tokens, at, cache, **options):
        return self.model(torch.tensor([tokens]), position_ids=at[None], past_key_values=cache, **options)

    @torch.no_grad()
    def read(self, tokens):
        """The cache of all but the last token, and what each layer computed."""
        at, cache = torch.arange(len(tokens) - 1), DynamicCache()
        self.masks, self.queries[:] = list(self._masks(at, at)), []
        weights = self._run(tokens[:-1], at, cache, output_attentions=True).attentions
        for layer, queries in enumerate(self.queries):
            q = queries[0].transpose(0, 1) if queries.ndim == 4 else queries[0].unflatten(-1, (self.heads, -1))
            k, v = cache.layers[layer].keys[0].transpose(0, 1), cache.layers[layer].values[0].transpose(0, 1)
            window = self.windows[layer] or len(tokens)
            yield Seen(*(x.double() for x in (q, k, v, weights[layer][0])), self.bases[layer], window)
        self.cache = cache

    @torch.no_grad()
    def after(self, tokens, forced, hidden, compact):
        """Logits of the last token and what is forced after it, once `hidden` [layers, KV heads, cached] has left the cache."""
        n, cache = len(tokens) - 1, DynamicCache()
        kept = (~hidden[0][0]).nonzero().flatten()
        for index, layer in enumerate(self.cache.layers):
            keys, values = layer.keys, layer.values
            if compact:
                moved = torch.arange(len(kept)) - kept
                turned = reference.rope(keys[0, :, kept].double().transpose(0, 1), moved.double(), self.bases[index])
                keys, values = turned.transpose(0, 1)[None].float(), values[:, :, kept]
            cache.update(keys, values, index)
        n = len(kept) if compact else n
        at = torch.arange(n, n + 1 + len(forced))
        self.masks = list(self._masks(at, torch.arange(n + len(at)), None if compact else hidden))
        return self._run([tokens[-1], *forced], at, cache).logits[0]


def compare_logits(kvllama, transformers, prompt, tokens, forced):
    """Lines of the first table; whether all bars are met."""
    n, met = len(tokens) - 1, True
    nothing = torch.zeros(len(transformers.layers), transformers.kv_heads, n, dtype=torch.bool)
    expected = transformers.after(tokens, forced, nothing, False)
    ours = kvllama.logits(tokens, forced)[1]
    span, floor = (expected.max() - expected.min()).item(), (ours - expected).abs().max().item()
    uncut = expected
    print(f"| {prompt} | {n + 1} | none | {floor / span:.1e} | 1.0 | | {same_first(ours, expected)} |")
    for policy, granularity, place in LOGIT_CASES:
        said, ours = kvllama.logits(tokens, forced, "--policy", policy, "--ratio", RATIO, "--granularity", granularity,
                                    "--positions", place)
        hidden = nothing.clone()
        if said["kept_by_head"]:
            for layer, heads in said["kept_by_head"].items():
                for head, ranges in enumerate(heads):
                    hidden[int(layer), head] = True
                    hidden[int(layer), head, positions(ranges)] = False
        else:
            hidden[:, :, positions(said["evicted"])] = True
        expected = transformers.after(tokens, forced, hidden, place == "compact")
        off, moved = (ours - expected).abs().max().item(), (expected - uncut).abs().max().item()
        first = same_first(ours, expected)
        met &= off <= 3 * floor and first == f"{len(ours)} of {len(ours)}"
        by_head = " by head" if granularity == "head" else ""
        print(f"| {prompt} | {n + 1} | {policy}@{RATIO}{by_head}, {place} | {off / span:.1e} | {off / floor:.1f} | "
              f"{moved / floor:,.0f} | {first} |", flush=True)
    return met


def same_first(ours, expected):
    return f"{(ours.argmax(-1) == expected.argmax(-1)).sum().item()} of {len(ours)}"


def compare_scores(kvllama, seen, prompt, tokens):
    """Lines of the second table; whether all bars are met."""
    met = True
    for policy, score in reference.POLICIES.items():
        expected = torch.stack([score(layer) for layer in seen])
        said, written = kvllama.scores(tokens, "--policy", policy, "--ratio", RATIO, "--granularity", "head")
        ours = torch.stack([torch.tensor(written["per_head"][str(layer)]) for layer in range(len(seen))])
        # What a policy protects gets the largest score plus 1.
        protects = policy in ("tova", "snapkv", "expected-attention")
        scale = expected.abs().max().item() - protects
        off, total, apart = ((ours - expected).abs().max().item() / scale), 0, 0
        rows = [(expected[layer, head], positions(said["kept_by_head"][str(layer)][head]))
                for layer in range(len(seen)) for head in range(expected.shape[1])]
        aggregate = torch.tensor(written["aggregate"])
        rows.append((expected.mean((0, 1)), reference.kept(aggregate.tolist(), RATIO)))
        for theirs, kept in rows:
            wanted = set(map(int, reference.kept(theirs.tolist(), RATIO)))
            last = min(theirs[at].item() for at in wanted if at < len(theirs) - 1)
            tie = TIE * (theirs.abs().max().item() - protects)
            differ = [at for at in wanted ^ set(map(int, kept)) if abs(theirs[at].item() - last) > tie]
            apart, total = apart + len(differ), total + len(theirs)
        met &= apart <= total / 1000
        print(f"| {prompt} | {len(tokens)} | {policy} | {off:.1e} | {total - apart:,} of {total:,} | "
              f"{100 * (1 - apart / total):.3f}% |", flush=True)
    return met


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a GGUF that transformers can read")
    parser.add_argument("--text", type=Path, required=True, help="a text file; prompts are its beginning")
    parser.add_argument("--lengths", default="300,700", help="tokens of the prompts")
    parser.add_argument("--kvllama", default="target/release/kvllama")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    lengths = [int(length) for length in arguments.lengths.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "float32.gguf"
        rewritten(arguments.model, model)
        kvllama, transformers = Kvllama(arguments.kvllama, model, Path(folder), arguments.threads), Transformers(model)
        reference.SHAPE = SimpleNamespace(kv_heads=transformers.kv_heads)
        text = kvllama.tokenize(arguments.text.read_text()[: 6 * max(lengths)])
        prompts = [(text[:length], text[length : length + N_CONTINUE]) for length in lengths]
        met, seen = True, []
        print("| model | tokens | condition | difference / range | times that of none | effect, times that | same first |")
        print("|---|--:|---|--:|--:|--:|--:|")
        for tokens, forced in prompts:
            seen.append(list(transformers.read(tokens)))
            met &= compare_logits(kvllama, transformers, arguments.model.stem, tokens, forced)
        print("\n| model | tokens | policy | scores: difference / largest | kept as the reference | |\n|---|--:|---|--:|--:|--:|")
        for (tokens, _), layers in zip(prompts, seen):
            met &= compare_scores(kvllama, layers, arguments.model.stem, tokens)
    if not met:
        raise SystemExit("a bar is missed")


if __name__ == "__main__":
    main()
