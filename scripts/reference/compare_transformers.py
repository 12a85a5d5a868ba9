#!/usr/bin/env python3
"""Compares model.py, with nothing evicted, with the Gemma 3 of Hugging Face transformers on every prompt."""

import json

import torch
from torch.nn.functional import gelu
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from gemma3_gguf import GLOBAL_ROPE_BASE, LOCAL_ROPE_BASE, NORM_EPSILON
from make_fixture import FIXTURE, SHAPE, expected, read_model

TENSORS = {
    "token_embd": "embed_tokens", "output_norm": "norm", "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "attn_output": "self_attn.o_proj",
    "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def transformers_name(name):
    *block, tensor, _ = name.split(".")
    return ".".join(["model", *(["layers", block[1]] if block else []), TENSORS[tensor], "weight"])


def transformers_model(weights):
    kinds = ["full_attention" if SHAPE.is_global(i) else "sliding_attention" for i in range(SHAPE.layers)]
    bases = {"full_attention": GLOBAL_ROPE_BASE, "sliding_attention": LOCAL_ROPE_BASE}
    config = Gemma3TextConfig(
        vocab_size=SHAPE.vocab, hidden_size=SHAPE.d, intermediate_size=SHAPE.ff, num_hidden_layers=SHAPE.layers,
        num_attention_heads=SHAPE.heads, num_key_value_heads=SHAPE.kv_heads, head_dim=SHAPE.head_dim,
        query_pre_attn_scalar=SHAPE.head_dim, sliding_window=SHAPE.window, layer_types=kinds,
        rope_parameters={kind: {"rope_type": "default", "rope_theta": base} for kind, base in bases.items()},
        rms_norm_eps=NORM_EPSILON, attn_implementation="eager",
    )
    model = Gemma3ForCausalLM(config).double().eval()
    # GGUF stores the weight of a norm as the factor itself, transformers stores what is added to 1.
    state = {transformers_name(name): w - 1 if w.ndim == 1 else w for name, w in weights.items()}
    missing = model.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and missing.missing_keys in ([], ["lm_head.weight"]), missing
    model.tie_weights()
    return model


if __name__ == "__main__":
    weights = read_model(FIXTURE / "model.gguf")
    model = transformers_model(weights)
    for case in json.loads((FIXTURE / "cases.json").read_text()):
        if case["evict"] or case["positions"] == "compact":
            continue
        tokens = torch.tensor([case["tokens"] + case["continue"]])
        with torch.no_grad():
            theirs = model(tokens).logits[0, len(case["tokens"]) - 1 :]
        ours = torch.from_numpy(expected(weights, case, activation=lambda x: gelu(x, approximate="tanh")))
        print(f"{case['name']}: max abs difference {(ours - theirs).abs().max():.1e}, range {ours.max() - ours.min():.1f}")
