#!/usr/bin/env python3
"""Makes tests/fixtures/chats: chats whose cuts a policy with scores makes, and the logits in their last turn.

A chat is cut before the last token of each turn is read. The policy ranks what is left of everything read so far:
scores are means over layers and KV heads, the last cached position survives, of equal scores the later position is kept.
Under a ratio `survivors(read)` positions survive; under a rolling budget B with N evicted at once, B - N do, if there are
more. What a policy scores follows its definition for a prompt (`scores.py`), with these additions:

- h2o: all queries so far count, also those that were evicted since; the mean is over those that could see the position.
- snapkv: of the window of last queries those count that were read in this turn.
- expected-attention: the statistics are those of all queries so far.

Where layers or heads differ, each ranks what it still sees, by scores of everything read so far; nothing is freed, and
the last position is as free as any other.
"""

import json
from dataclasses import replace

import numpy as np
import torch

import fixture
from gemma3_gguf import BOS
from make_fixture import FIXTURE as MODEL
from make_fixture import SHAPE, ranges, read_model
from model import chat_logits
from scores import by_kv_head, expected_attention, highest, keydiff, knorm, lagkv, snapkv, survivors, tova

FIXTURE = MODEL.parent / "chats"


def h2o(seen, new):
    return by_kv_head(seen.weights.sum(1) / (seen.weights[0] > 0).sum(0))


def snapkv_of_turn(window):
    """The queries before this turn do not vote; the window's length still divides."""

    def score(seen, new):
        weights = seen.weights.clone()
        weights[:, :new] = 0
        return snapkv(replace(seen, weights=weights[:, -weights.shape[-1] :]), window)

    return score


def plain(score):
    return lambda seen, new: score(seen)


POLICIES = {"none": None, "tova": plain(tova), "h2o": h2o, "snapkv": snapkv_of_turn(64), "knorm": plain(knorm),
            "keydiff": plain(keydiff), "expected-attention": plain(expected_attention),
            "lagkv:sinks=2,lag=8": plain(lambda seen: lagkv(seen, 2, 8)), "snapkv:window=2": snapkv_of_turn(2)}
ATTENTION = "none", "tova", "h2o", "snapkv", "snapkv:window=2"  # moved keys cannot be ranked
# What is compacted again and again must stay within the window of 16.
KINDS = {"keep": ("keep", (60, 45, 80), "0.5", POLICIES), "compact": ("compact", (8, 6, 6), "0.6", ATTENTION),
         "rolling": ("compact", (8, 3, 4, 4, 5, 4, 4, 3), (14, 4), ATTENTION),
         "rolling-keep": ("keep", (30, 7, 12, 9, 20, 3), (32, 8), ATTENTION)}


def still_there(seen, entries):
    """What a layer's cache holds at `entries`. Queries are all that were read; the columns of their weights are entries."""
    return replace(seen, keys=seen.keys[entries], values=seen.values[entries], weights=seen.weights[:, :, entries])




def cut(weights, tokens, cuts, new, compact, policy, budget):
    """What leaves the cache before the last of `tokens` is read; `new` is the first token of this turn."""
    n = len(tokens) - 1
    gone = {at for _, evicted in cuts for at in evicted}
    entries = [at for at in range(n) if at not in gone]
    if isinstance(budget, tuple):
        count = min(budget[0] - budget[1], len(entries))
    else:
        count = min(survivors(n, budget), len(entries))
    if policy is None or count == len(entries):
        return []
    seen = []
    chat_logits(weights, SHAPE, tokens, [*cuts, (n, [])], compact, seen=seen)
    scores = torch.stack([policy(still_there(layer, entries), new) for layer in seen])
    kept = highest(scores.mean((0, 1)), count, last=True)
    return sorted({*entries} - {entries[at] for at in kept})


# Granularity, layers and policy of chats under a ratio of 0.5.
HEADS = [("head", "all", "snapkv"), ("head", "all", "knorm"), ("layer", "all", "keydiff"), ("token", "3-5+7", "tova")]


def layers_of(text):
    ends = [part.split("-") for part in text.split("+")] if text != "all" else [["0", str(SHAPE.layers - 1)]]
    return [layer for end in ends for layer in range(int(end[0]), int(end[-1]) + 1)]


def hide(weights, tokens, cuts, new, granularity, layers, policy):
    """The masks of the next cut: by layer, what each KV head no longer sees."""
    n, seen = len(tokens) - 1, []
    chat_logits(weights, SHAPE, tokens, [*cuts, (n, [])], seen=seen)
    scores = torch.stack([policy(layer, new) for layer in seen])
    of_all, masks = scores[layers].mean((0, 1)), {}
    for layer in layers:
        before = cuts[-1][2][layer] if cuts else torch.zeros(SHAPE.kv_heads, 0, dtype=torch.bool)
        mask = torch.nn.functional.pad(before, (0, n - before.shape[1]))
        for head in range(SHAPE.kv_heads):
            ranked = {"token": of_all, "layer": scores[layer].mean(0), "head": scores[layer, head]}[granularity]
            sees = torch.arange(n)[~mask[head]]
            kept = highest(ranked[sees], survivors(n, "0.5"), last=granularity == "token")
            mask[head] = True
            mask[head, sees[kept]] = False
        masks[layer] = mask
    return masks


def make():
    """The files of the fixture, by name."""
    rng, weights = np.random.default_rng(17), read_model(MODEL / "model.gguf")
    files, chats = {}, []
    for kind, (positions, lengths, budget, policies) in KINDS.items():
        compact = positions == "compact"
        turns = [list(map(int, rng.integers(6, SHAPE.vocab, n))) for n in lengths]
        turns[0][0] = BOS
        for name in policies:
            read, cuts, made = [], [], []
            for tokens in turns:
                new, read = len(read), read + tokens
                evicted = cut(weights, read, cuts, new, compact, POLICIES[name], budget)
                cuts.append((len(read) - 1, evicted))
                made.append({"tokens": tokens, "evicted": ranges(np.array(evicted))})
            file = f"{kind}-{name.translate(str.maketrans(':=,', '---'))}.npy"
            files[file] = chat_logits(weights, SHAPE, read, cuts, compact)
            budget_text = f"rolling={budget[0]}/every={budget[1]}" if isinstance(budget, tuple) else budget
            chats.append({"kind": kind, "policy": name, "budget": budget_text, "positions": positions, "turns": made,
                          "expected": file})
    chats.append({**chats[0], "kind": "heads"})
    for granularity, layers, name in HEADS:
        # The words of the chats that keep all layers alike.
        turns = [turn["tokens"] for turn in chats[0]["turns"]]
        read, cuts = [], []
        for tokens in turns:
            new, read = len(read), read + tokens
            masks = hide(weights, read, cuts, new, granularity, layers_of(layers), POLICIES[name])
            cuts.append((len(read) - 1, [], masks))
        file = f"keep-{granularity}-{name}.npy"
        files[file] = chat_logits(weights, SHAPE, read, cuts)
        made = [{"tokens": tokens, "evicted": []} for tokens in turns]
        chats.append({"kind": "heads", "policy": name, "budget": "0.5", "positions": "keep", "granularity": granularity,
                      "layers": layers, "turns": made, "expected": file})
    files["chats.json"] = "[\n" + ",\n".join(map(json.dumps, chats)) + "\n]\n"
    return files


if __name__ == "__main__":
    fixture.main(__doc__, FIXTURE, make)
