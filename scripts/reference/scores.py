#!/usr/bin/env python3
"""Makes tests/fixtures/scores: what each policy with scores makes of the reference model, after the papers and kvpress.

Per policy: scores per layer and KV head, kept sets at three ratios, and logits where each layer or head evicts its own.
Higher scores are kept, ties go to the later position. At granularity `token` the last cached position always survives.
"""

import json
import math

import numpy as np
import torch
from torch.nn.functional import avg_pool1d, cosine_similarity, normalize, pad

import fixture
from gemma3_gguf import BOS
from make_fixture import FIXTURE as MODEL
from make_fixture import N_CONTINUE, SHAPE, ranges, read_model
from model import logits, rope

FIXTURE = MODEL.parent / "scores"
PROMPT_LENGTHS = {"medium": 60, "long": 301}  # the window is 16; lagkv needs 260
RATIOS = "0.25", "0.5", "0.75"
HEAD_CASES = [("medium", "snapkv", "head", "all"), ("medium", "keydiff", "layer", "all"), ("long", "h2o", "head", "all"),
              ("long", "tova", "head", "global"), ("long", "knorm", "layer", "local"), ("long", "lagkv", "head", "all")]


def by_kv_head(x):
    """The mean over the query heads that share a KV head."""
    return x.unflatten(0, (SHAPE.kv_heads, -1)).mean(1)


def knorm(seen):
    """Devoto et al. 2024, arXiv 2406.11430: keys of small norm matter."""
    return -seen.keys.norm(dim=-1).T


def keydiff(seen):
    """Park et al. 2025, arXiv 2504.15364: keys unlike the mean of all directions matter."""
    keys = seen.keys.transpose(0, 1)
    return -cosine_similarity(keys, normalize(keys, dim=-1).mean(1, keepdim=True), dim=-1)


def tova(seen):
    """Oren et al. 2024, arXiv 2401.06104: what the last query attends to, on the mean of all heads of a layer."""
    last = seen.weights[:, -1, :-1].mean(0).expand(SHAPE.kv_heads, -1)
    return pad(last, (0, 1), value=last.max().item() + 1)


def h2o(seen):
    """Zhang et al. 2023, arXiv 2306.14048: attention received, over the number of queries that could give it."""
    n = seen.weights.shape[-1]
    viewers = torch.arange(n, 0, -1).clamp(max=seen.window)
    return by_kv_head(seen.weights.sum(1) / viewers)


def snapkv(seen, window=64, kernel=5):
    """Li et al. 2024, arXiv 2404.14469: what a window of last queries attends to, pooled; the window stays."""
    n = seen.weights.shape[-1]
    window = min(window, n // 2)
    voted = seen.weights[:, n - window :, : n - window].mean(1)
    scores = by_kv_head(avg_pool1d(voted, kernel, stride=1, padding=kernel // 2))
    return pad(scores, (0, window), value=scores.max().item() + 1)


def expected_attention(seen, future=512, sinks=4):
    """Devoto et al. 2025, arXiv 2510.00636: attention that normal future queries would pay, times the value's norm."""
    n, heads, d = seen.queries.shape
    queries = seen.queries[sinks:].transpose(0, 1)
    mean = queries.mean(1)
    centered = queries - mean[:, None]
    covariance = centered.mT @ centered / centered.shape[1]
    # The mean rotation, as a matrix: where the mean of the rotated unit vectors lies.
    positions = torch.arange(n, n + future, dtype=queries.dtype)
    unit = torch.eye(d, dtype=queries.dtype).expand(future, -1, -1)  # [positions, "heads", d]
    rotation = rope(unit, positions, seen.rope_base).mean(0)  # row i: the mean of e_i, rotated
    mean, covariance = mean @ rotation, rotation.T @ covariance @ rotation
    keys = seen.keys[sinks:].transpose(0, 1).repeat_interleave(heads // SHAPE.kv_heads, 0)
    exponent = (keys @ mean[..., None]).squeeze(-1) / math.sqrt(d)
    exponent = exponent + torch.einsum("hni,hij,hnj->hn", keys, covariance, keys) / d / 2
    scores = by_kv_head(exponent.softmax(-1)) * seen.values[sinks:].norm(dim=-1).T
    return pad(scores, (sinks, 0), value=scores.max().item() + 1)


def lagkv(seen, sinks=4, lag=128):
    """Liang et al. 2025, arXiv 2504.04704: keys and values that vary more than those of the next chunk."""
    n = len(seen.keys)
    if n < sinks + 2 * lag:
        recency = torch.arange(n - sinks, dtype=torch.float64) / (n - sinks)
        return pad(recency, (sinks, 0), value=1.0).expand(SHAPE.kv_heads, -1)
    end = sinks + (n - sinks) // lag * lag

    def varied(states):
        chunks = states[sinks:end].transpose(0, 1).unflatten(1, (-1, lag))
        own, following = chunks[:, :-1], chunks[:, 1:]
        low, high = following.amin(2, keepdim=True), following.amax(2, keepdim=True)
        scaled = torch.where(high > low, (own - low) / (high - low), 0.0)  # no range: no say
        return scaled.std(-1).softmax(-1)

    ranks = (varied(seen.keys) + varied(seen.values)).argsort(-1).argsort(-1) / lag
    return pad(pad(ranks.flatten(1), (sinks, 0), value=1.0), (0, n - end + lag), value=1.0)


POLICIES = {"knorm": knorm, "keydiff": keydiff, "tova": tova, "h2o": h2o, "snapkv": snapkv,
            "expected-attention": expected_attention, "lagkv": lagkv}


def survivors(n, ratio):
    return n * (100 - round(100 * float(ratio))) // 100


def highest(scores, count, last=False):
    """The `count` positions with the highest scores, of equal ones the later; with `last`, the last in any case."""
    n = len(scores)
    scores = scores.tolist()
    order = sorted(range(n - last), key=lambda at: (scores[at], at))
    return np.array(sorted({*range(n)} - {*order[: n - count]}))


def kept(scores, ratio):
    """The positions that survive at granularity `token`."""
    return highest(scores, survivors(len(scores), ratio), last=True)


def evicted(scores, ratio):
    gone = torch.ones(len(scores), dtype=torch.bool)
    gone[highest(scores, survivors(len(scores), ratio))] = False
    return gone


def hidden(scores, granularity, layers, ratio):
    """By layer, what each KV head hides: ranked by its own scores, or by the mean of its layer's."""
    masks = {}
    for layer, heads in enumerate(scores):
        if layers == "all" or SHAPE.is_global(layer) == (layers == "global"):
            ranked = heads if granularity == "head" else heads.mean(0, keepdim=True).expand_as(heads)
            masks[layer] = torch.stack([evicted(row, ratio) for row in ranked])
    return masks


# In the tiny model's tokens: the two requests to repeat (see `kvzip`), and what its template puts between user and answer.
REQUESTS = (
    [262, 262, 88, 268, 279, 268, 264, 283, 263, 283, 271, 268, 263, 279, 281, 268, 285, 272, 278, 284, 282, 263,
     266, 278, 277, 283, 268, 287, 283, 263, 268, 287, 264, 266, 283, 275, 127, 52],
    [262, 262, 88, 268, 279, 268, 264, 283, 263, 283, 271, 268, 263, 279, 264, 281, 283, 263, 278, 269, 263, 283,
     271, 268, 263, 279, 281, 268, 285, 272, 278, 284, 282, 263, 266, 278, 277, 283, 268, 287, 283, 263, 268, 287,
     264, 266, 283, 275, 127, 50, 263, 282, 283, 264, 281, 283, 272, 277, 270, 263, 286, 272, 283, 271],
)
ANSWER = [5, 262, 4, 276, 278, 267, 268, 275, 262]
KVZIP_CHUNKS = 2048, 100


def kvzip(attention, repeated, requests, answer, chunk, sinks=4, reference=8):
    """Kim et al. 2025, arXiv 2505.23416: the largest attention of any query while the model reads its prompt again behind
    "Repeat the previous context exactly." and, for later parts, "... starting with" the end of the part before.

    `attention` gives that of a replay to the prompt, in global layers, [global layers, heads, replay, tokens]. Scores are
    [global layers, KV heads, tokens]."""
    largest = []
    for start in range(0, len(repeated), chunk):
        request = requests[1] + repeated[start - reference : start] if start else requests[0]
        paid = attention(request + answer + repeated[start : start + chunk]).amax(2)
        largest.append(paid.unflatten(1, (SHAPE.kv_heads, -1)).amax(2))
    scores = torch.stack(largest).amax(0)
    scores[:, :, :sinks] = scores.amax((1, 2), keepdim=True) + 1
    return scores


# Wrappers: prompt, wrappers with their parameters, the policy inside, granularity.
WRAPPED = [("long", {"adakv": 20}, "snapkv", "head"), ("medium", {"adakv": 50}, "keydiff", "head"),
           ("long", {"pyramidkv": (20, 64)}, "snapkv", "layer"), ("medium", {"pyramidkv": (3, 2)}, "keydiff", "head"),
           ("long", {"pyramidkv": (5, 10), "adakv": 20}, "expected-attention", "head"),
           ("long", {"chunkkv": 20}, "snapkv", "token"), ("medium", {"chunkkv": 7}, "keydiff", "layer"),
           ("long", {"pyramidkv": (20, 64), "adakv": 0, "chunkkv": 13}, "h2o", "head")]
PARAMETERS = {"adakv": "safeguard={}", "pyramidkv": "beta={0[0]},least={0[1]}", "chunkkv": "chunk={}"}


def pyramid(layers, n, mean, beta, least):
    """Cai et al. 2024, arXiv 2406.02069, as kvpress has it: budgets that fall linearly and have this mean. Where kvpress
    gives up the slope, because the last layer would keep fewer than `least`, the last layer keeps `least`."""
    last, first = mean / beta, 2 * mean - mean / beta
    if last < least:
        last, first = least, 2 * mean - least
    if first >= n - least:
        last, first = 2 * mean - (n - least), n - least
    if last > first:
        return [mean] * layers
    return [round(first - layer * (first - last) / (layers - 1)) for layer in range(layers)]


def adaptive(scores, count, safeguard):
    """Feng et al. 2024, arXiv 2407.11550: what each head [heads, n] of a layer keeps, if `count` is the mean."""
    scores = scores.clone()
    safe = max(1, count * safeguard // 100) if safeguard else 0
    scores.scatter_(1, scores.topk(safe).indices, torch.inf)
    gone = scores.flatten().argsort(stable=True)[: len(scores) * (scores.shape[1] - count)]
    stays = torch.ones(scores.numel(), dtype=torch.bool)
    stays[gone] = False
    return stays.view_as(scores).sum(1).tolist()


def in_chunks(scores, count, chunk, last):
    """Liu et al. 2025, arXiv 2502.00299: whole chunks go, the lowest mean first; the last to go loses its lowest part."""
    n, means = len(scores), [part.mean().item() for part in scores.split(chunk)]
    order = sorted(range(n - last), key=lambda at: (means[at // chunk], at // chunk, scores[at].item(), at))
    return np.array(sorted({*range(n)} - {*order[: n - count]}))


def wrapped(scores, wrappers, granularity, ratio):
    """What each KV head of each layer keeps, [layers][heads], of scores [layers, heads, n]; one set for `token`."""
    n = scores.shape[-1]
    mean = survivors(n, ratio)

    def choose(row, count):
        last = granularity == "token"
        return ranges(in_chunks(row, count, wrappers["chunkkv"], last) if "chunkkv" in wrappers else highest(row, count, last))

    if granularity == "token":
        return choose(scores.mean((0, 1)), mean)
    budgets = pyramid(len(scores), n, mean, *wrappers["pyramidkv"]) if "pyramidkv" in wrappers else [mean] * len(scores)
    sets = []
    for heads, budget in zip(scores, budgets):
        if granularity == "layer":
            heads = heads.mean(0, keepdim=True).expand_as(heads)
        counts = adaptive(heads, budget, wrappers["adakv"]) if "adakv" in wrappers else [budget] * len(heads)
        sets.append([choose(row, count) for row, count in zip(heads, counts)])
    return sets


def wrapped_cases(scores):
    for prompt, wrappers, policy, granularity in WRAPPED:
        parameters = [PARAMETERS[name].format(values) for name, values in wrappers.items()]
        name = "+".join([*wrappers, policy]) + ":" + ",".join(parameters)
        for ratio in RATIOS:
            kept = wrapped(scores[prompt, policy], wrappers, granularity, ratio)
            yield dict(prompt=prompt, policy=name, granularity=granularity, ratio=ratio, kept=kept)


def replayed(weights, tokens, replay):
    """The attention that a replay behind `tokens` pays to them, in global layers."""
    seen, n = [], len(tokens)
    logits(weights, SHAPE, [*tokens, *replay, 0], n + len(replay), seen=seen)
    return torch.stack([layer.weights[:, n:, :n] for index, layer in enumerate(seen) if SHAPE.is_global(index)])


def make():
    """The files of the fixture, by name."""
    rng = np.random.default_rng(11)
    weights, files = read_model(MODEL / "model.gguf"), {}
    prompts, sets, cases, scores = {}, [], [], {}
    for prompt, n in PROMPT_LENGTHS.items():
        tokens = [BOS, *map(int, rng.integers(6, SHAPE.vocab, n - 1))]
        forced = list(map(int, rng.integers(6, SHAPE.vocab, N_CONTINUE)))
        prompts[prompt] = {"tokens": tokens, "continue": forced}
        seen = []
        files[f"{prompt}-none.npy"] = logits(weights, SHAPE, tokens + forced, n - 1, seen=seen)
        for policy, score in POLICIES.items():
            scores[prompt, policy] = all_layers = torch.stack([score(layer) for layer in seen])
            files[f"{prompt}-{policy}.npy"] = all_layers.flatten(0, 1)
            mean = all_layers.mean((0, 1))
            sets += [dict(prompt=prompt, policy=policy, ratio=ratio, kept=ranges(kept(mean, ratio))) for ratio in RATIOS]
        for chunk in KVZIP_CHUNKS:
            zipped = kvzip(lambda replay: replayed(weights, tokens[:-1], replay), tokens[1:-1], REQUESTS, ANSWER, chunk)
            files[f"{prompt}-kvzip-{chunk}.npy"] = zipped.flatten(0, 1)
            mean = zipped.mean((0, 1))
            sets += [dict(prompt=prompt, policy=f"kvzip:chunk={chunk}", ratio=ratio, kept=ranges(kept(mean, ratio)))
                     for ratio in RATIOS]
    for prompt, policy, granularity, layers in HEAD_CASES:
        masks = hidden(scores[prompt, policy], granularity, layers, "0.5")
        tokens = prompts[prompt]["tokens"] + prompts[prompt]["continue"]
        name = f"{prompt}-{policy}-{granularity}-{layers}.npy"
        files[name] = logits(weights, SHAPE, tokens, PROMPT_LENGTHS[prompt] - 1, hidden=masks)
        cases.append(dict(prompt=prompt, policy=policy, granularity=granularity, layers=layers, expected=name))
    files["wrapped.json"] = json.dumps(list(wrapped_cases(scores))) + "\n"
    files["cases.json"] = json.dumps({"prompts": prompts, "kept": sets, "logits": cases}, indent=None) + "\n"
    return files


if __name__ == "__main__":
    fixture.main(__doc__, FIXTURE, make)
