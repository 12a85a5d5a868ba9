#!/usr/bin/env python3
"""The policy `snapkv`: what the last queries attend to, pooled over neighbouring positions (arXiv 2404.14469).

Run: kvllama exp --policy exec:examples/snapkv.py:window=16,kernel=7 --ratio 0.5
"""
import json
import sys

import numpy as np


def score(layer, kernel):
    window = layer["last"]  # queries that were summed
    mean = np.load(layer["attention_sums"])[:, :-window] / window  # [KV heads, positions before the window]
    padded = np.pad(mean, [(0, 0), (kernel // 2, kernel - 1 - kernel // 2)])
    pooled = sum(padded[:, i : i + mean.shape[1]] for i in range(kernel)) / kernel
    kept = np.full((len(mean), window), pooled.max(initial=0) + 1)  # the window itself always survives
    return np.hstack([pooled, kept])


for line in sys.stdin:
    ask = json.loads(line)
    if ask["ask"] == "hello":
        given = ask["parameters"]
        kernel = given.get("kernel", 5)
        # The attention of the last 64 queries; of a short prompt, of half of them.
        reply = {"protocol": 1, "needs": ["attention_sums"], "last": given.get("window", 64), "share": 0.5}
    else:
        np.save(ask["directory"] + "/scores.npy", [score(layer, kernel) for layer in ask["layers"]])
        reply = {"scores": "scores.npy"}
    print(json.dumps(reply), flush=True)
