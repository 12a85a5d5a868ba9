#!/usr/bin/env python3
"""Makes tests/fixtures/variants: criticalkv, duo, qfilters and its filters, policies as published, and fair scores.

After the papers, kvpress, and the papers' own code. What is kept at each budget: one set at granularity `token`, else by layer
and KV head. Higher scores are kept, ties go to the later position.
"""

import json
import math

import numpy as np
import torch
from torch.nn.functional import avg_pool1d, max_pool1d, pad

import fixture
import scores
from gemma3_gguf import BOS
from make_fixture import FIXTURE as MODEL
from make_fixture import SHAPE, ranges, read_model
from model import logits, rope
from scores import RATIOS, adaptive, by_kv_head, highest, pyramid, survivors

FIXTURE = MODEL.parent / "variants"
# A text, which is read three times in pieces of PIECE tokens.
CALIBRATION = "The quick brown fox jumps over the lazy dog. Pack my box with five dozen liquor jugs. How vexingly quick daft zebras jump! "
# A chat.
SYSTEM = "You are a helpful guide. Answer in short words, and name the harbour where the boats come in."
QUESTION = "Tell me about the old lighthouse keeper, his dog and the three boats that he can see from his window."


# ---- criticalkv


def projected(seen, output):
    """|W v|_1 of each value, the mean over the query heads of a KV head, [KV heads, n]; `output` is [hidden, heads * d]."""
    n, kv_heads, d = seen.values.shape
    heads = output.shape[1] // d
    values = seen.values.transpose(0, 1).repeat_interleave(heads // kv_heads, 0)
    norms = [(v @ output[:, head * d : (head + 1) * d].T).abs().sum(-1) for head, v in enumerate(values)]
    return by_kv_head(torch.stack(norms))


def second(seen, first, output, epsilon=1e-4):
    """Feng et al. 2025, arXiv 2502.03805: the scores of the second stage."""
    return (first + epsilon) * projected(seen, output)


def critical(first, second, count, percent=50, last=False):
    """The positions that survive both stages."""
    chosen = highest(first, max(1, count * percent // 100), last)
    second = second.clone()
    second[chosen] = math.inf
    return highest(second, count, last)


# ---- duo


def looks_back(seen, copies=500):
    """kvpress's on-the-fly score of DuoAttention (arXiv 2410.10819), [KV heads]: the mean query and key, repeated; the area
    under the cumulated attention of the last query. A window hides copies as it hides keys."""
    n, heads, _ = seen.queries.shape
    at, places = torch.arange(n, dtype=torch.float64), torch.arange(copies, dtype=torch.float64)
    keys = rope(seen.keys, -at, seen.rope_base).mean(0)  # before RoPE
    query = rope(seen.queries.mean(0).expand(copies, -1, -1), places, seen.rope_base)[-1]
    keys = rope(keys.expand(copies, -1, -1), places, seen.rope_base).repeat_interleave(heads // keys.shape[0], 1)
    logits = torch.einsum("hd,khd->hk", query, keys) / math.sqrt(query.shape[-1])
    if seen.window < n:
        logits[:, places <= copies - 1 - seen.window] = -math.inf
    return by_kv_head(logits.softmax(-1).cumsum(-1).mean(-1, keepdim=True)).squeeze(-1)


def duo(back, n, ratio, sinks=128, recent=256):
    """What each head keeps, [layers][heads], of `back` [layers, KV heads]: the heads that look back least keep the first and
    last positions alone, one after the other, until the budget is met; the last of them keeps more recent ones."""
    count = survivors(n, ratio)
    if count // 2 < sinks + recent:
        sinks, recent = (first := count // 2 * sinks // (sinks + recent)), count // 2 - first
    sets = [[[[0, n]] for _ in heads] for heads in back]
    to_evict = back.numel() * (n - count)
    for index in back.flatten().argsort(stable=True).tolist():
        gone = min(to_evict, n - sinks - recent)
        to_evict -= gone
        if gone:
            sets[index // back.shape[1]][index % back.shape[1]] = ranges(np.array([*range(sinks), *range(sinks + gone, n)]))
    return sets


# ---- qfilters


def filters(queries):
    """Godey et al. 2025, arXiv 2503.02812: by KV head the main direction of the rotated queries [n, heads, d], where most of
    them are positive."""
    found = []
    for q in queries.transpose(0, 1):
        direction = torch.linalg.svd(q, full_matrices=False).Vh[0]
        found.append(direction * torch.sign((q @ direction).mean()))
    return by_kv_head(torch.stack(found))


def qfilters(seen, its):
    return torch.einsum("nhd,hd->hn", seen.keys, its)


# ---- as published


def snapkv(seen, window, kernel=7):
    """SnapKV as its LongBench runs have it: the largest of 7 neighbours. The mean over query heads comes first."""
    n = seen.weights.shape[-1]
    window = min(window, n // 2)
    voted = by_kv_head(seen.weights[:, n - window :, : n - window].mean(1))
    pooled = max_pool1d(voted, kernel, stride=1, padding=kernel // 2)
    return pad(pooled, (0, window), value=pooled.max().item() + 1)


def h2o(seen):
    return by_kv_head(seen.weights.sum(1))


def heavy_hitters(row, count):
    """Half of the budget goes to the last positions."""
    row = row.clone()
    row[len(row) - count // 2 :] = math.inf
    return highest(row, count)


def published(seen, policy, ratio):
    """What each head of each layer keeps."""
    n = seen[0].weights.shape[-1]
    count = survivors(n, ratio)
    if policy == "h2o":
        return [[ranges(heavy_hitters(row, count)) for row in h2o(layer)] for layer in seen]
    if policy == "tova":
        return [[ranges(highest(scores.tova(layer)[0], count))] * SHAPE.kv_heads for layer in seen]
    budgets = pyramid(len(seen), n, count, 20, 64) if policy.startswith("pyramidkv") else [count] * len(seen)
    sets = []
    for layer, budget in zip(seen, budgets):
        its = snapkv(layer, 8 if policy.startswith("pyramidkv") else 32)
        counts = adaptive(its, budget, 20) if policy.startswith("adakv") else [budget] * len(its)
        sets.append([ranges(highest(row, count)) for row, count in zip(its, counts)])
    return sets


# ---- fair scores


def shares(lengths, survivors, least):
    """Webster's method: the next survivor goes to the part with the largest length / (2 share + 1), of equal ones the later."""
    given = list(least)
    while sum(given) < survivors:
        open_parts = [part for part, length in enumerate(lengths) if given[part] < length]
        given[max(open_parts, key=lambda part: (lengths[part] / (2 * given[part] + 1), part))] += 1
    return given


def fair_scores(seen, policy, parts):
    """Scores [KV heads, n] of one layer, each part scored as if it were the whole prompt (arXiv 2510.00231)."""
    kv_heads, n = seen.keys.shape[1], seen.weights.shape[-1]
    found, kept = torch.zeros(kv_heads, n, dtype=torch.float64), torch.zeros(n, dtype=torch.bool)
    for start, end in parts:
        own = seen.weights[:, start:end, start:end]
        if policy == "h2o":
            viewers = torch.arange(end - start, 0, -1).clamp(max=seen.window)
            found[:, start:end] = by_kv_head(own.sum(1) / viewers)
        elif policy == "tova":
            found[:, start:end] = own[:, -1].mean(0)
            kept[end - 1] = True
        elif window := min(64, (end - start) // 2):
            voted = by_kv_head(own[:, -window:, :-window].mean(1))
            found[:, start : end - window] = avg_pool1d(voted, 5, stride=1, padding=2)
            kept[end - window : end] = True
    found[:, kept] = found[:, ~kept].max() + 1 if kept.any() else 0
    return found


def fair(seen, policy, parts, ratio):
    """The set at granularity `token`."""
    n = seen[0].weights.shape[-1]
    mean = torch.stack([fair_scores(layer, policy, parts) for layer in seen]).mean((0, 1))
    least = [int(end == n) for _, end in parts]
    given = shares([end - start for start, end in parts], survivors(n, ratio), least)
    sets = [highest(mean[start:end], count, last=end == n) + start for (start, end), count in zip(parts, given) if count]
    return ranges(np.concatenate(sets))


# ---- the fixture

# In the tiny model's tokens: CALIBRATION three times; and the chat of SYSTEM and QUESTION, with the ends of its parts.
TEXT = [
    90, 271, 268, 263, 280, 284, 272, 266, 274, 263, 265, 281, 278, 286, 277, 263, 269, 278, 287, 263, 273, 284, 276, 279,
    282, 263, 278, 285, 268, 281, 263, 283, 271, 268, 263, 275, 264, 128, 127, 263, 267, 278, 270, 52, 263, 86, 264, 266,
    274, 263, 276, 127, 263, 265, 278, 287, 263, 286, 272, 283, 271, 263, 269, 272, 285, 268, 263, 267, 278, 128, 268, 277,
    263, 275, 272, 280, 284, 278, 281, 263, 273, 284, 270, 282, 52, 263, 78, 278, 286, 263, 285, 268, 287, 272, 277, 270,
    275, 127, 263, 280, 284, 272, 266, 274, 263, 267, 264, 269, 283, 263, 128, 268, 265, 281, 264, 282, 263, 273, 284, 276,
    279, 39, 263, 90, 271, 268, 263, 280, 284, 272, 266, 274, 263, 265, 281, 278, 286, 277, 263, 269, 278, 287, 263, 273,
    284, 276, 279, 282, 263, 278, 285, 268, 281, 263, 283, 271, 268, 263, 275, 264, 128, 127, 263, 267, 278, 270, 52, 263,
    86, 264, 266, 274, 263, 276, 127, 263, 265, 278, 287, 263, 286, 272, 283, 271, 263, 269, 272, 285, 268, 263, 267, 278,
    128, 268, 277, 263, 275, 272, 280, 284, 278, 281, 263, 273, 284, 270, 282, 52, 263, 78, 278, 286, 263, 285, 268, 287,
    272, 277, 270, 275, 127, 263, 280, 284, 272, 266, 274, 263, 267, 264, 269, 283, 263, 128, 268, 265, 281, 264, 282, 263,
    273, 284, 276, 279, 39, 263, 90, 271, 268, 263, 280, 284, 272, 266, 274, 263, 265, 281, 278, 286, 277, 263, 269, 278,
    287, 263, 273, 284, 276, 279, 282, 263, 278, 285, 268, 281, 263, 283, 271, 268, 263, 275, 264, 128, 127, 263, 267, 278,
    270, 52, 263, 86, 264, 266, 274, 263, 276, 127, 263, 265, 278, 287, 263, 286, 272, 283, 271, 263, 269, 272, 285, 268,
    263, 267, 278, 128, 268, 277, 263, 275, 272, 280, 284, 278, 281, 263, 273, 284, 270, 282, 52, 263, 78, 278, 286, 263,
    285, 268, 287, 272, 277, 270, 275, 127, 263, 280, 284, 272, 266, 274, 263, 267, 264, 269, 283, 263, 128, 268, 265, 281,
    264, 282, 263, 273, 284, 276, 279, 39, 263,
]
CHAT = [
    2, 4, 284, 282, 268, 281, 262, 95, 278, 284, 263, 264, 281, 268, 263, 264, 263, 271, 268, 275, 279, 269, 284, 275, 263,
    270, 284, 272, 267, 268, 52, 263, 71, 277, 282, 286, 268, 281, 263, 272, 277, 263, 282, 271, 278, 281, 283, 263, 286,
    278, 281, 267, 282, 50, 263, 264, 277, 267, 263, 277, 264, 276, 268, 263, 283, 271, 268, 263, 271, 264, 281, 265, 278,
    284, 281, 263, 286, 271, 268, 281, 268, 263, 283, 271, 268, 263, 265, 278, 264, 283, 282, 263, 266, 278, 276, 268, 263,
    272, 277, 52, 262, 262, 90, 268, 275, 275, 263, 276, 268, 263, 264, 265, 278, 284, 283, 263, 283, 271, 268, 263, 278,
    275, 267, 263, 275, 272, 270, 271, 283, 271, 278, 284, 282, 268, 263, 274, 268, 268, 279, 268, 281, 50, 263, 271, 272,
    282, 263, 267, 278, 270, 263, 264, 277, 267, 263, 283, 271, 268, 263, 283, 271, 281, 268, 268, 263, 265, 278, 264, 283,
    282, 263, 283, 271, 264, 283, 263, 271, 268, 263, 266, 264, 277, 263, 282, 268, 268, 263, 269, 281, 278, 276, 263, 271,
    272, 282, 263, 286, 272, 277, 267, 278, 286, 52, 5, 262, 4, 276, 278, 267, 268, 275, 262,
]
ENDS = [1, 7, 100, 102, 203]
PIECE = 128


def read(weights, tokens):
    """What each layer computed for `tokens`."""
    seen = []
    logits(weights, SHAPE, [*tokens, 0], len(tokens), seen=seen)
    return seen


def critical_scores(weights, seen, score):
    """Scores of both stages, [layers, KV heads, n]."""
    first = [score(layer) for layer in seen]
    output = [weights[f"blk.{layer}.attn_output.weight"] for layer in range(SHAPE.layers)]
    return torch.stack(first), torch.stack([second(*of_layer) for of_layer in zip(seen, first, output)])


def make():
    weights, files, cases = read_model(MODEL / "model.gguf"), {}, []
    pieces = [[BOS, *TEXT[start : start + PIECE - 1]] for start in range(0, len(TEXT), PIECE - 1)]
    texts = [read(weights, piece) for piece in pieces]
    rotated = lambda layer: rope(layer.queries, torch.arange(len(layer.queries), dtype=torch.float64), layer.rope_base)
    its = [filters(torch.cat([rotated(text[layer]) for text in texts])) for layer in range(SHAPE.layers)]
    files["filters.npy"] = torch.stack(its)
    for prompt, given in json.loads((scores.FIXTURE / "cases.json").read_text())["prompts"].items():
        seen = read(weights, given["tokens"][:-1])
        n = len(given["tokens"]) - 1

        def case(policy, granularity, ratio, kept, *options):
            cases.append(dict(prompt=prompt, policy=policy, ratio=ratio, kept=kept, granularity=granularity, options=[*options]))

        along = torch.stack([qfilters(layer, own) for layer, own in zip(seen, its)])
        files[f"{prompt}-qfilters.npy"] = along.flatten(0, 1)
        back = torch.stack([looks_back(layer) for layer in seen])
        files[f"{prompt}-duo.npy"] = back[..., None].expand(-1, -1, n).flatten(0, 1)
        for ratio in RATIOS:
            count = survivors(n, ratio)
            case("qfilters", "token", ratio, ranges(highest(along.mean((0, 1)), count, last=True)))
            case("duo", "head", ratio, duo(back, n, ratio))
            case("duo:sinks=4,recent=20", "head", ratio, duo(back, n, ratio, 4, 20))
            for policy in "snapkv", "adakv+snapkv", "pyramidkv+snapkv", "h2o", "tova":
                granularity = "layer" if policy == "tova" else "head"
                case(policy, granularity, ratio, published(seen, policy, ratio), "--as-published")
            case("streaming", "token", ratio, ranges(np.array([*range(4), *range(n - count + 4, n)])), "--as-published")
        first, later = critical_scores(weights, seen, scores.snapkv)
        for ratio in RATIOS:
            kept = [[ranges(critical(a, b, own, 30)) for a, b, own in zip(*heads, adaptive(heads[0], survivors(n, ratio), 20))]
                    for heads in zip(first, later)]
            case("adakv+criticalkv+snapkv:first=30", "head", ratio, kept)
        for policy, score in ("snapkv", scores.snapkv), ("h2o", scores.h2o):
            first, later = critical_scores(weights, seen, score)
            files[f"{prompt}-criticalkv+{policy}.npy"] = later.flatten(0, 1)
            for ratio in RATIOS:
                count = survivors(n, ratio)
                kept = [[ranges(critical(a, b, count)) for a, b in zip(*heads)] for heads in zip(first, later)]
                case(f"criticalkv+{policy}", "head", ratio, kept)
                kept = ranges(critical(first.mean((0, 1)), later.mean((0, 1)), count, last=True))
                case(f"criticalkv+{policy}", "token", ratio, kept)
    seen = read(weights, CHAT[:-1])
    parts = [*zip([0, *ENDS], [*ENDS, len(CHAT) - 1])]
    for policy in "snapkv", "h2o", "tova":
        for ratio in RATIOS:
            cases.append(dict(prompt="chat", policy=policy, ratio=ratio, kept=fair(seen, policy, parts, ratio),
                              granularity="token", options=["--fair=scores"]))
    files["cases.json"] = json.dumps(dict(calibration=CALIBRATION * 3, piece=PIECE, system=SYSTEM, question=QUESTION, chat=CHAT,
                                          cases=cases)) + "\n"
    return files


if __name__ == "__main__":
    fixture.main(__doc__, FIXTURE, make)
