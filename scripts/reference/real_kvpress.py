#!/usr/bin/env python3
"""Holds kvllama to NVIDIA's kvpress on a real GGUF: what kvpress's own presses score and keep, per layer and KV head.

    scripts/reference/real_kvpress.py models/gemma-3-270m-q4_k_m.gguf --text models/smollm2-135m-instruct-q4_1.LICENSE

Both sides compute in float32 with the same weights: the GGUF's, dequantized. Presses that need attention weights, or that compute
them only without a sliding window, get them from transformers (`eager`); the others run with its default attention. A press that
fails on a model is named, with its error; where one fault can be mended, it runs again without that.

Lengths of 1 more than multiples of 40 let both sides keep the same numbers: kvpress's ChunkKV keeps whole chunks of 20, its
PyramidKV does not round the budget. Needs an environment with kvpress and gguf: `scripts/peer-kvpress.sh DIR` makes one, as
DIR/kvpress-venv.
"""

import functools
import logging
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

import kvpress
import torch
from kvpress.presses import duo_attention_press, kvzip_press
from transformers import AutoModelForCausalLM, DynamicCache

from compare_kvpress import PRESSES, LayerRotary
from real import N_CONTINUE, PROTECTS, RATIO, TIE, Kvllama, arguments, positions
from weights import rewritten


class MendedLagKV(kvpress.LagKVPress):
    """kvpress divides by the range of each dimension, which is 0 in some on Gemma; the NaN then spoils the ranks of the layer.
    Here a dimension without a range counts 0."""

    def _get_states_score(self, target_v):
        ref, v = target_v[:, :, 1:], target_v[:, :, :-1]
        low, high = ref.amin(-2, keepdim=True), ref.amax(-2, keepdim=True)
        scaled = torch.where(high > low, (v - low) / (high - low), torch.zeros_like(v))
        return scaled.std(dim=-1).softmax(dim=-1)


SNAPKV = functools.partial(kvpress.SnapKVPress, compression_ratio=float(RATIO))
# kvllama's policy and granularity, the press, and the attention of transformers.
CASES = [("streaming", "head", functools.partial(kvpress.StreamingLLMPress, n_sink=4), "sdpa"),
         *((policy, "head", press, "eager" if policy in ("h2o", "tova", "snapkv") else "sdpa") for policy, press in PRESSES.items()),
         ("lagkv", "head", MendedLagKV, "sdpa"),
         ("snapkv", "head", kvpress.SnapKVPress, "sdpa"),
         ("adakv+snapkv", "head", lambda **_: kvpress.AdaKVPress(SNAPKV()), "sdpa"),
         ("pyramidkv+snapkv:window=4,least=4", "head", functools.partial(kvpress.PyramidKVPress, window_size=4), "sdpa"),
         ("criticalkv+snapkv", "head", lambda **_: kvpress.CriticalKVPress(SNAPKV()), "sdpa"),
         ("chunkkv+snapkv", "layer", lambda **_: kvpress.ChunkKVPress(SNAPKV()), "sdpa"),
         ("adakv+kvzip:safeguard=0", "head", functools.partial(kvpress.KVzipPress, layerwise=True), "sdpa")]


def load(path, attention):
    return AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation=attention).eval()


class Tokenizer:
    """What KVzipPress asks of a tokenizer, answered by kvllama for a model without a template."""

    chat_template = None

    def __init__(self, kvllama):
        self.kvllama = kvllama

    def encode(self, text, **_):
        tokens = {"": [], "\n": self.kvllama.line_break()}
        return torch.tensor([tokens[text] if text in tokens else self.kvllama.tokenize(text)])


@torch.no_grad()
def theirs(model, press, tokens, mended=False):
    """Of each layer, scores [KV heads, positions] and the kept positions of each head, by the press's own `score`."""
    seen, kept, gather = [], [], torch.Tensor.gather

    def recorded(score, module, *rest):
        if mended:
            module.rotary_emb = LayerRotary(model.model.rotary_emb, module.layer_type)
        seen.append(score(module, *rest)[0].clone())
        return seen[-1][None].clone()

    def gathered(tensor, dim, index):
        # `compress` gathers the keys, then the values, of the positions that it keeps.
        if tensor.ndim == 4 and index.shape != tensor.shape:
            kept.append([sorted(head) for head in index[0, :, :, 0].tolist()])
        return gather(tensor, dim, index)

    def zipped(compress, model):
        compress(model)
        seen.extend(press.score_val[:, 0])

    if isinstance(press, kvpress.KVzipPress):
        press.compress_post = functools.partial(zipped, press.compress_post)
    else:
        scorer = getattr(press, "press", press)
        scorer.score = functools.partial(recorded, scorer.score)
    torch.Tensor.gather = gathered
    try:
        with press(model):
            model(torch.tensor([tokens]), past_key_values=DynamicCache(), cache_position=torch.arange(len(tokens)))
    finally:
        torch.Tensor.gather = gather
    return seen, kept[::2] or [unmasked(layer.self_attn, len(tokens)) for layer in model.model.layers]


def unmasked(attention, n):
    """What each head of a layer keeps after a press that masks instead of cutting."""
    stays = torch.ones(attention.config.num_key_value_heads, n, dtype=torch.bool)
    stays[attention.masked_key_indices[1:]] = False
    return [head.nonzero().flatten().tolist() for head in stays]


def compare(kvllama, model, kinds, case, prompt, tokens):
    """Prints a line of the table for each kind of layer."""
    policy, granularity, press, attention = case
    note = "here a dimension without a range counts 0" if press is MendedLagKV else ""
    press = functools.partial(press, compression_ratio=float(RATIO))
    line = f"| {prompt} | {len(tokens)} | {policy} | {attention} |"
    try:
        scores, kept = theirs(model, press(), tokens[:-1])
    except Exception as error:  # what kvpress fails with is a result
        note = f"kvpress fails: {type(error).__name__}: {str(error).splitlines()[0][:80]}"
        if "kvzip" in policy:
            print(f"{line} | | | | | {note} |", flush=True)
            return
        note += "; here with each layer's rotary embedding"
        scores, kept = theirs(model, press(), tokens[:-1], mended=True)
    said, ours = kvllama.scores(tokens, policy, "--granularity", granularity, scored=policy != "streaming")
    # What a policy protects gets the largest score plus 1; kvpress's KVzip takes the largest of all layers.
    protects = any(name in policy for name in PROTECTS)
    first = 4 if "kvzip" in policy else 0
    for kind in sorted(set(kinds)):
        off = scale = 0.0
        total = apart = ties = 0
        for layer in (at for at, its in enumerate(kinds) if its == kind):
            if len(ours):
                off = max(off, (ours[layer] - scores[layer])[:, first:].abs().max().item())
                scale = max(scale, ours[layer].abs().max().item() - protects)
            for head, (row, their) in enumerate(zip(scores[layer], kept[layer])):
                lowest = min(row[at].item() for at in their)
                differ = {*positions(said["kept_by_head"][str(layer)][head])} ^ {*their}
                tie = 0 if "chunkkv" in policy else TIE * (row.abs().max().item() - protects)
                near = sum(abs(row[at].item() - lowest) <= tie for at in differ)
                total, apart, ties = total + len(row), apart + len(differ) - near, ties + near
        off = f"{off / scale:.1e}" if len(ours) else ""
        print(f"{line} {kind.split('_')[0]} | {off} | {total - apart:,} of {total:,} | {100 * (1 - apart / total):.3f}% | {ties} | "
              f"{note} |", flush=True)


def duo(model, tokens):
    """How far back each head looks, [layers, KV heads], by DuoAttentionPress on the fly; the prompt stands in for its books."""
    books = SimpleNamespace(to_pandas=lambda: SimpleNamespace(sample=lambda *_, **__: {"chapter": SimpleNamespace(tolist=lambda: [""])}))
    inputs = SimpleNamespace(to=lambda _: {"input_ids": torch.tensor([tokens])})
    duo_attention_press.load_dataset = lambda *_, **__: books
    duo_attention_press.AutoTokenizer = SimpleNamespace(from_pretrained=lambda _: lambda *_, **__: inputs)
    return torch.from_numpy(duo_attention_press.duo_attention_on_the_fly.__wrapped__(model, num_samples=1))


def compare_duo(kvllama, model, prompt, tokens):
    """Prints a line of the table: the heads' scores, and which of them are streaming heads."""
    line = f"| {prompt} | {len(tokens)} | duo, heads | sdpa | full |"
    try:
        scores = duo(model, tokens[:-1])
    except Exception as error:  # what kvpress fails with is a result
        print(f"{line} | | | | kvpress fails: {type(error).__name__}: {str(error).splitlines()[0][:80]} |", flush=True)
        return
    said, ours = kvllama.scores(tokens, "duo", "--granularity", "head")
    off = (ours[..., 0] - scores).abs().max().item() / scores.max().item()
    n = len(tokens) - 1
    gone = [n - len(positions(ranges)) for _, heads in sorted(said["kept_by_head"].items(), key=lambda at: int(at[0])) for ranges in heads]
    streaming = {head for head, evicted in enumerate(gone) if evicted}
    same = len(streaming & {*scores.flatten().argsort()[: len(streaming)].tolist()})
    print(f"{line} {off:.1e} | {same} of {len(streaming)} | {100 * same / len(streaming):.3f}% | 0 | streaming heads |", flush=True)


def main():
    given = arguments(__doc__, lengths="321,721")
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float32.gguf"
        rewritten(given.model, path)
        kvllama = Kvllama(given.kvllama, path, Path(folder), given.threads)
        kvzip_press.AutoTokenizer = SimpleNamespace(from_pretrained=lambda _: Tokenizer(kvllama))
        models = functools.cache(lambda attention: load(path, attention))
        config = models("sdpa").config
        kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
        print("| model | tokens | policy | attention | layers | scores: difference / largest | kept as kvpress | | ties | |", flush=True)
        print("|---|--:|---|---|---|--:|--:|--:|--:|---|", flush=True)
        for tokens in kvllama.prompts(given.text.read_text(), given.lengths):
            for case in CASES:
                compare(kvllama, models(case[-1]), kinds, case, given.model.stem, tokens[:-N_CONTINUE])
            compare_duo(kvllama, models("sdpa"), given.model.stem, tokens[:-N_CONTINUE])


if __name__ == "__main__":
    main()
