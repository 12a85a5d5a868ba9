#!/usr/bin/env python3
"""Compares the score fixture with NVIDIA's kvpress, whose presses score the same model in transformers.

Needs kvpress beside requirements.txt, which pins another transformers: make an environment of its own for it.
Where definitions differ on purpose, the last column says so.
"""

import json
import logging
import warnings

import kvpress
import numpy as np
import torch
from transformers import DynamicCache

from compare_transformers import transformers_model
from make_fixture import FIXTURE as MODEL
from make_fixture import SHAPE, read_model
from scores import FIXTURE

PRESSES = {
    "knorm": kvpress.KnormPress, "keydiff": kvpress.KeyDiffPress, "tova": kvpress.TOVAPress,
    "h2o": kvpress.ObservedAttentionPress, "snapkv": kvpress.SnapKVPress,
    "expected-attention": kvpress.ExpectedAttentionPress, "lagkv": kvpress.LagKVPress,
}
GLOBAL = [layer for layer in range(SHAPE.layers) if SHAPE.is_global(layer)]


class LayerRotary(torch.nn.Module):
    """The rotary embedding of a layer's kind: ExpectedAttentionPress does not say which of Gemma's two it wants."""

    def __init__(self, rotary, kind):
        super().__init__()
        self.rotary, self.kind = rotary, kind

    def forward(self, x, position_ids):
        return self.rotary(x, position_ids, self.kind)


def their_scores(model, press, tokens):
    """Scores by layer, of presses that prune nothing: [layers, KV heads, positions]."""
    seen = []

    def compress(module, hidden_states, keys, values, attentions, kwargs):
        module.rotary_emb = LayerRotary(model.model.rotary_emb, module.layer_type)
        seen.append(press.score(module, hidden_states, keys, values, attentions, kwargs)[0])
        return keys, values

    press.compress = compress
    with torch.no_grad(), press(model):
        model(torch.tensor([tokens]), past_key_values=DynamicCache(), cache_position=torch.arange(len(tokens)))
    return torch.stack(seen).numpy()


def main():
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    model = transformers_model(read_model(MODEL / "model.gguf"))
    print(f"{'prompt':8} {'policy':20} {'global layers':>14} {'all layers':>12}   (largest difference / largest score)")
    for prompt, case in json.loads((FIXTURE / "cases.json").read_text())["prompts"].items():
        tokens = case["tokens"][:-1]
        for policy, press in PRESSES.items():
            window = min(64, len(tokens) // 2)
            press = press(window_size=window) if policy == "snapkv" else press()
            theirs = their_scores(model, press, tokens)
            ours = np.load(FIXTURE / f"{prompt}-{policy}.npy").reshape(theirs.shape)
            scale = np.abs(ours).max() - (policy in ("tova", "snapkv", "expected-attention"))
            off = np.abs(ours - theirs).max((1, 2)) / scale
            note = "kvpress divides by all later queries; we by those whose window sees the key" if policy == "h2o" else ""
            print(f"{prompt:8} {policy:20} {off[GLOBAL].max():14.1e} {off.max():12.1e}   {note}")


if __name__ == "__main__":
    main()
