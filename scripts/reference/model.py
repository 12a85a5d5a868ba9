"""Gemma 3 in float64 whose KV cache loses entries: an attention mask, no cache, nothing shared with llama.cpp."""

from dataclasses import dataclass

import torch
from torch.nn.functional import gelu, linear, rms_norm

from gemma3_gguf import GLOBAL_ROPE_BASE, LOCAL_ROPE_BASE, NORM_EPSILON


def ggml_gelu(x):
    """ggml on the CPU looks GELU up in a table of float16 inputs and outputs, except beyond |x| = 10.

    The exact function leaves an error floor several times higher, and small mistakes could hide below it.
    """
    table = gelu(x.to(torch.float32).to(torch.float16).to(torch.float32), approximate="tanh").to(torch.float16).to(x)
    return torch.where(x <= -10, torch.zeros_like(x), torch.where(x >= 10, x, table))


def rope(x, positions, base):
    """Rotates x [tokens, heads, head_dim] to its positions; element i pairs with i + head_dim / 2."""
    half = x.shape[-1] // 2
    angles = positions[:, None, None] * base ** (-torch.arange(half, dtype=x.dtype) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)


def attend(rows, q, k, v, positions, visible, base, window):
    """Attention of the queries in `rows` to the visible keys up to themselves, all standing at `positions`.

    `visible` is [tokens], or [KV heads, tokens]. Also returns the weights, [heads, rows, tokens].
    """
    q, k = rope(q[rows], positions[rows], base), rope(k, positions, base)
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    index = torch.arange(len(k))
    distance = positions[rows, None] - positions
    visible = visible.expand(q.shape[1] // group, -1).repeat_interleave(group, 0)[:, None]
    mask = visible & (index <= index[rows, None]) & (distance < window)
    scores = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, v).flatten(1), weights


@dataclass
class Seen:
    """What one layer computed for the tokens read before the last cut: queries before RoPE, keys after it where they first
    stood, values, [tokens, heads, head_dim], and attention weights, [heads, tokens, tokens]."""

    queries: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    weights: torch.Tensor
    rope_base: float
    window: int


def logits(weights, shape, tokens, n_cached, evicted=(), compact=False, activation=ggml_gelu, hidden=None, seen=None):
    """Logits of the tokens from `n_cached` on.

    The first `n_cached` tokens are read with nothing missing. Then the positions in `evicted` leave the cache in
    every layer, and the other tokens see what survives: where it stood, or (`compact`) moved together from 0 on.
    `hidden` maps a layer to a mask [KV heads, n_cached] of what leaves it besides. To the list `seen` each layer adds a
    `Seen`.
    """
    return chat_logits(weights, shape, tokens, [(n_cached, evicted, hidden or {})], compact, activation, seen)


def chat_logits(weights, shape, tokens, cuts, compact=False, activation=ggml_gelu, seen=None):
    """Logits of the tokens from the last cut on.

    Each cut is the number of tokens read before it, and what leaves the cache there, of all tokens so far; what left it
    earlier stays away. A third part, masks by layer as `hidden` above, holds until the next cut.
    """
    n, n_cached = len(tokens), cuts[-1][0]
    stages, start, gone, hidden = [], 0, set(), {}
    for end, evicted, *masks in [*cuts, (n, ())]:
        stays = torch.tensor([i not in gone for i in range(n)])
        stages.append((slice(start, end), stays, stays.cumsum(0) - 1 if compact else torch.arange(n), hidden))
        start, gone, hidden = end, gone | set(evicted), masks[0] if masks else {}

    def norm(x, name):
        return rms_norm(x, x.shape[-1:], weights[name + ".weight"], NORM_EPSILON)

    x = weights["token_embd.weight"][torch.tensor(tokens)] * shape.d**0.5
    for layer in range(shape.layers):
        is_global, blk = shape.is_global(layer), f"blk.{layer}."
        base, window = (GLOBAL_ROPE_BASE, n) if is_global else (LOCAL_ROPE_BASE, shape.window)

        def project(x, name, heads=None):
            y = linear(x, weights[f"{blk}{name}.weight"])
            return y.unflatten(-1, (heads, -1)) if heads else y

        h = norm(x, blk + "attn_norm")
        q = norm(project(h, "attn_q", shape.heads), blk + "attn_q_norm")
        k = norm(project(h, "attn_k", shape.kv_heads), blk + "attn_k_norm")
        v = project(h, "attn_v", shape.kv_heads)
        heard, weighed = [], []
        for rows, stays, positions, hidden in stages:
            left = stays.expand(shape.kv_heads, -1).clone()
            if layer in hidden:
                left[:, : rows.start] &= ~hidden[layer]
            read, attention = attend(rows, q, k, v, positions, left, base, window)
            heard.append(read)
            weighed.append(attention)
        if seen is not None:
            cached = slice(0, n_cached)
            keys = rope(k[cached], torch.arange(n_cached), base)
            attention = torch.cat(weighed, 1)[:, cached, cached]
            seen.append(Seen(q[cached], keys, v[cached], attention, base, window))
        x = x + norm(project(torch.cat(heard), "attn_output"), blk + "post_attention_norm")
        h = norm(x, blk + "ffn_norm")
        h = project(activation(project(h, "ffn_gate")) * project(h, "ffn_up"), "ffn_down")
        x = x + norm(h, blk + "post_ffw_norm")
    return linear(norm(x[n_cached:], "output_norm"), weights["token_embd.weight"])
