#!/usr/bin/env python3
"""The policy `knorm`: keys of small norm are kept. Run: kvllama exp --policy exec:examples/knorm.py --ratio 0.5"""
import json
import sys

import numpy as np

for line in sys.stdin:
    ask = json.loads(line)
    if ask["ask"] == "hello":
        reply = {"protocol": 1, "needs": ["keys"]}
    else:
        keys = [np.load(layer["keys"]).astype(np.float64) for layer in ask["layers"]]  # each [length, KV heads, d_k]
        scores = [-np.sqrt((k * k).sum(axis=2)).T for k in keys]  # each [KV heads, length]; higher is kept
        np.save(ask["directory"] + "/scores.npy", scores)
        reply = {"scores": "scores.npy"}
    print(json.dumps(reply), flush=True)
