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
               ("random", "token", "compact"), ("snapkv", "head", "keep"), ("knorm", "head", "keep"),
               ("adakv+snapkv", "head", "keep")]
# What wraps snapkv, with its parameters. A least budget of 8 gives pyramidkv a slope on these short prompts.
WRAPPERS = [{"adakv": 20}, {"pyramidkv": (20, 8)}, {"chunkkv": 20}]
# Scores may differ by this part of the largest; lagkv's are ranks in chunks of 128, and neighbours may change places.
ALLOWED = {"lagkv": 1.01 / 128}
ALLOWED_ELSE = 2e-3
# A position may change sides where its score is this near to the last that is kept, in parts of the largest: a tie.
TIE = 1e-5
# What these protect gets the largest score plus 1.
PROTECTS = ("tova", "snapkv", "expected-attention", "kvzip")
FLASH = ("knorm", "keydiff", "tova", "snapkv", "h2o")


class Kvllama:
    """The program, on one model and one prompt."""

    def __init__(self, program, model, folder, threads):
        self.folder = folder
        self.base = [program, "probe", "--model", str(model), "--chat-template", "raw", "--kv-type", "f32", "--json",
                     "--threads", str(threads), "--n-predict", "0"]
        self.has_bos = self.probe("--prompt", "x x")["spans"][0]["label"] == "bos"

    def probe(self, *arguments, flash="off"):
        command = [*self.base, "--flash-attn", flash, *arguments]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

    def tokenize(self, text):
        """The tokens of a text, without BOS."""
        return self.probe("--prompt", text)["tokens"][self.has_bos :]

    def line_break(self):
        """The tokens of a line break, which alone would be an empty prompt."""
        return self.tokenize("x\nx")[1:-1]

    def prompts(self, text, lengths):
        """The beginnings of a text as tokens of these numbers, with a BOS token where the model has one."""
        tokens = self.probe("--prompt", text[: 6 * max(lengths)])["tokens"]
        return [tokens[: length + N_CONTINUE] for length in lengths]

    def logits(self, tokens, forced, *how, flash="off"):
        file = self.folder / "logits.npy"
        said = self.probe("--tokens", listed(tokens), "--continue", listed(forced), "--logits", str(file), *how, flash=flash)
        return said, torch.from_numpy(np.load(file))

    def scores(self, tokens, policy, *how, flash="off", scored=True, key="per_head"):
        """What the program says; and scores, [layers, KV heads, tokens], if the policy has some."""
        file = self.folder / "scores.json"
        said = self.probe("--tokens", listed(tokens), "--policy", policy, "--ratio", RATIO, *how,
                          *(["--scores", str(file)] if scored else []), flash=flash)
        written = json.loads(file.read_text())[key] if scored else {}
        return said, torch.tensor([written[layer] for layer in sorted(written, key=int)])


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
        weights = self._run(tokens[:-1], at, cache, output_attentions=True, logits_to_keep=1).attentions
        for layer, queries in enumerate(self.queries):
            q = queries[0].transpose(0, 1) if queries.ndim == 4 else queries[0].unflatten(-1, (self.heads, -1))
            k, v = cache.layers[layer].keys[0].transpose(0, 1), cache.layers[layer].values[0].transpose(0, 1)
            window = self.windows[layer] or len(tokens)
            yield Seen(*(x.double() for x in (q, k, v, weights[layer][0])), self.bases[layer], window)
        self.cache = cache

    @torch.no_grad()
    def replayed(self, tokens, replay):
        """The attention that a replay behind `tokens` pays to them, in layers without a window: [layers, heads, replay, tokens]."""
        n, at = len(tokens), torch.arange(len(tokens) + len(replay))
        self.masks = list(self._masks(at, at))
        weights = self._run([*tokens, *replay], at, DynamicCache(), output_attentions=True, logits_to_keep=1).attentions
        return torch.stack([weights[layer][0][:, n:, :n] for layer, window in enumerate(self.windows) if window is None])

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


def zipped(kvllama, transformers, tokens):
    """Scores of kvzip, of a model without a template."""
    requests = [kvllama.tokenize("\n\nRepeat " + what) for what in
                ("the previous context exactly.", "the part of the previous context exactly, starting with")]
    return reference.kvzip(lambda replay: transformers.replayed(tokens, replay), tokens[kvllama.has_bos :], requests,
                           kvllama.line_break(), 2048)


def compare_scores(kvllama, transformers, seen, prompt, tokens):
    """Lines of the second table; whether all bars are met; and the scores by policy."""
    met, ours = True, {}
    expected = {policy: torch.stack([score(layer) for layer in seen]) for policy, score in reference.POLICIES.items()}
    expected["kvzip"] = zipped(kvllama, transformers, tokens[:-1])
    cases = [(policy, policy, {}) for policy in expected]
    for wrappers in WRAPPERS:
        ((name, values),) = wrappers.items()
        cases.append((f"{name}+snapkv:{reference.PARAMETERS[name].format(values)}", "snapkv", wrappers))
    for policy, inner, wrappers in cases:
        theirs, protects = expected[inner], inner in PROTECTS
        layers = "global" if policy == "kvzip" and any(transformers.windows) else "all"
        said, ours[policy] = kvllama.scores(tokens, policy, "--granularity", "head", "--layers", layers)
        scale = theirs.abs().max().item() - protects
        off = (ours[policy] - theirs).abs().max().item() / scale
        kept = [positions(ranges) for layer in sorted(said["kept_by_head"], key=int) for ranges in said["kept_by_head"][layer]]
        wanted = [positions(ranges) for heads in reference.wrapped(theirs, wrappers, "head", RATIO) for ranges in heads]
        rows = [*zip(theirs.flatten(0, 1), wanted, kept)]
        if not wrappers or "chunkkv" in wrappers:
            mean = theirs.mean((0, 1))
            said = kvllama.scores(tokens, policy, "--layers", layers)[0]
            rows.append((mean, positions(reference.wrapped(theirs, wrappers, "token", RATIO)), positions(said["kept"])))
        total = apart = 0
        for row, wanted, kept in rows:
            # The last position is left out: at granularity `token` it survives whatever its score.
            last = min(row[at].item() for at in wanted if at < len(row) - 1)
            tie = 0 if "chunkkv" in wrappers else TIE * (row.abs().max().item() - protects)
            apart += sum(abs(row[at].item() - last) > tie for at in {*wanted} ^ {*kept})
            total += len(row)
        met &= apart <= total / 1000 and off <= ALLOWED.get(policy, ALLOWED_ELSE)
        print(f"| {prompt} | {len(tokens)} | {policy} | {off:.1e} | {total - apart:,} of {total:,} | "
              f"{100 * (1 - apart / total):.3f}% |", flush=True)
    return met, ours


def compare_flash(kvllama, ours, prompt, tokens, forced):
    """Lines of the third table: kvllama with flash attention beside itself without."""
    on, off = (kvllama.logits(tokens, forced, flash=flash)[1] for flash in ("on", "off"))
    print(f"| {prompt} | {len(tokens)} | logits | {((on - off).abs().max() / (off.max() - off.min())).item():.1e} | |")
    for policy in FLASH:
        said, on = kvllama.scores(tokens, policy, flash="on")
        scale = ours[policy].abs().max().item() - (policy in PROTECTS)
        wanted = {*reference.kept(ours[policy].mean((0, 1)), RATIO).tolist()}
        apart = len(wanted - {*positions(said["kept"])})
        print(f"| {prompt} | {len(tokens)} | {policy} | {(on - ours[policy]).abs().max().item() / scale:.1e} | "
              f"{len(wanted) - apart:,} of {len(wanted):,} |", flush=True)


def arguments(description, lengths="300,700"):
    """The arguments of this script and of real_kvpress.py."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a GGUF that transformers can read")
    parser.add_argument("--text", type=Path, required=True, help="a text file; prompts are its beginning")
    parser.add_argument("--lengths", default=lengths, help="tokens of the prompts")
    parser.add_argument("--kvllama", default="target/release/kvllama")
    parser.add_argument("--threads", type=int, default=2)
    found = parser.parse_args()
    found.lengths = [int(length) for length in found.lengths.split(",")]
    torch.set_num_threads(found.threads)
    return found


def main():
    given = arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "float32.gguf"
        rewritten(given.model, model)
        kvllama, transformers = Kvllama(given.kvllama, model, Path(folder), given.threads), Transformers(model)
        reference.SHAPE = SimpleNamespace(kv_heads=transformers.kv_heads)
        prompts = [(tokens[:-N_CONTINUE], tokens[-N_CONTINUE:])
                   for tokens in kvllama.prompts(given.text.read_text(), given.lengths)]
        met, seen, name = True, [], given.model.stem
        print("| model | tokens | condition | difference / range | times that of none | effect, times that | same first |")
        print("|---|--:|---|--:|--:|--:|--:|")
        for tokens, forced in prompts:
            seen.append(list(transformers.read(tokens)))
            met &= compare_logits(kvllama, transformers, name, tokens, forced)
        print("\n| model | tokens | policy | scores: difference / largest | kept as the reference | |\n|---|--:|---|--:|--:|--:|")
        ours = []
        for (tokens, _), layers in zip(prompts, seen):
            its, scores = compare_scores(kvllama, transformers, layers, name, tokens)
            met &= its
            ours.append(scores)
        print("\n| model | tokens | with flash attention | difference / largest | kept as without |\n|---|--:|---|--:|--:|")
        for (tokens, forced), scores in zip(prompts, ours):
            compare_flash(kvllama, scores, name, tokens, forced)
    if not met:
        raise SystemExit("a bar is missed")


if __name__ == "__main__":
    main()
