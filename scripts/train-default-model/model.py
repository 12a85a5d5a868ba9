"""A small Gemma 3 in plain PyTorch: training with evictions, and greedy answers from a cut cache."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class Config:
    vocabulary: int = 4096
    width: int = 128
    feed_forward: int = 384
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_width: int = 32
    window: int = 256
    period: int = 3  # each third layer sees everything, the others a window
    theta_global: float = 1e6
    theta_local: float = 1e4
    epsilon: float = 1e-6
    context: int = 2048


def norm(x, weight, epsilon=1e-6):
    return F.rms_norm(x, (x.shape[-1],), 1.0 + weight, epsilon)


def rope(config, theta):
    """Cosines and sines by position."""
    inverse = theta ** (-torch.arange(0, config.head_width, 2, dtype=torch.float64) / config.head_width)
    angle = torch.arange(config.context, dtype=torch.float64)[:, None] * inverse
    angle = torch.cat([angle, angle], -1)
    return angle.cos().float(), angle.sin().float()


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


class Layer(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        self.config = config
        self.sees_all = (index + 1) % config.period == 0
        linear = lambda inner, outer: nn.Linear(inner, outer, bias=False)
        self.q = linear(config.width, config.heads * config.head_width)
        self.k = linear(config.width, config.kv_heads * config.head_width)
        self.v = linear(config.width, config.kv_heads * config.head_width)
        self.o = linear(config.heads * config.head_width, config.width)
        self.gate = linear(config.width, config.feed_forward)
        self.up = linear(config.width, config.feed_forward)
        self.down = linear(config.feed_forward, config.width)
        for name in ("norm_attention", "norm_attention_out", "norm_feed_forward", "norm_feed_forward_out"):
            setattr(self, name, nn.Parameter(torch.zeros(config.width)))
        self.norm_q = nn.Parameter(torch.zeros(config.head_width))
        self.norm_k = nn.Parameter(torch.zeros(config.head_width))

    def queries(self, x, cos, sin):
        """[batch, heads, length, head width]; cos and sin are [.., length, head width]."""
        q = self.q(norm(x, self.norm_attention)).unflatten(-1, (self.config.heads, -1))
        return rotate(norm(q, self.norm_q), cos.unsqueeze(-2), sin.unsqueeze(-2)).transpose(1, 2)

    def keys_values(self, x, cos, sin):
        x = norm(x, self.norm_attention)
        k, v = (project(x).unflatten(-1, (self.config.kv_heads, -1)) for project in (self.k, self.v))
        return rotate(norm(k, self.norm_k), cos.unsqueeze(-2), sin.unsqueeze(-2)).transpose(1, 2), v.transpose(1, 2)

    def attend(self, x, q, k, v, mask):
        """The layer's output for the positions `x` with queries `q`; no mask means causal."""
        group = self.config.heads // self.config.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        x = x + norm(self.o(seen.transpose(1, 2).flatten(2)), self.norm_attention_out)
        h = norm(x, self.norm_feed_forward)
        return x + norm(self.down(F.gelu(self.gate(h), approximate="tanh") * self.up(h)), self.norm_feed_forward_out)


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.layers))
        self.norm = nn.Parameter(torch.zeros(config.width))
        self.ropes = {True: rope(config, config.theta_global), False: rope(config, config.theta_local)}
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)

    def embed(self, ids):
        return self.embedding(ids) * math.sqrt(self.config.width)

    def logits(self, x):
        return F.linear(norm(x, self.norm), self.embedding.weight)

    def forward(self, ids, lengths, at, evicted=None):
        """Logits at the positions `at` [batch, n] of right-padded sequences.

        `lengths` are the prompts' lengths. What stands at or after a prompt's last token sees the cache after
        eviction, without the positions where `evicted` [batch, length] is true; the rest of the prompt sees all.
        `at` may name such late positions only: the last layer is computed for them alone.
        """
        length = ids.shape[1]
        positions = torch.arange(length)
        lost = None
        if evicted is not None:
            late = positions[None] >= lengths[:, None] - 1
            lost = late[:, None, :, None] & evicted[:, None, None, :]
        causal = positions[:, None] >= positions
        masks = {
            True: None if lost is None else _additive(causal & ~lost),
            False: None if lost is None and length <= self.config.window
            else _additive(self.in_window(positions[:, None], positions, causal) & (True if lost is None else ~lost)),
        }
        x = self.embed(ids)
        for layer in self.layers[:-1]:
            cos, sin = (table[:length] for table in self.ropes[layer.sees_all])
            x = layer.attend(x, layer.queries(x, cos, sin), *layer.keys_values(x, cos, sin), masks[layer.sees_all])

        last = self.layers[-1]
        cos, sin = self.ropes[last.sees_all]
        keys, values = last.keys_values(x, cos[:length], sin[:length])
        x = x.gather(1, at[..., None].expand(-1, -1, x.shape[-1]))
        seen = at[:, :, None] >= positions
        if evicted is not None:
            seen = seen & ~evicted[:, None]
        if not last.sees_all:
            seen = self.in_window(at[:, :, None], positions, seen)
        return self.logits(last.attend(x, last.queries(x, cos[at], sin[at]), keys, values, _additive(seen)[:, None]))

    def in_window(self, query, key, seen):
        return seen & (query - key < self.config.window)

    @torch.no_grad()
    def prefill(self, ids):
        """Keys and values of every layer for right-padded prompts, nothing evicted."""
        length = ids.shape[1]
        positions = torch.arange(length)
        causal = positions[:, None] >= positions
        x, cache = self.embed(ids), []
        for layer in self.layers:
            cos, sin = (table[:length] for table in self.ropes[layer.sees_all])
            cache.append(layer.keys_values(x, cos, sin))
            mask = None if layer.sees_all else _additive(self.in_window(positions[:, None], positions, causal))
            x = layer.attend(x, layer.queries(x, cos, sin), *cache[-1], mask)
        return cache

    @torch.no_grad()
    def generate(self, ids, lengths, cache, kept, stop, limit):
        """Greedy answers from a cut cache: the last token of each prompt is read after the eviction."""
        batch, length = ids.shape
        kept = kept & (torch.arange(length) < lengths[:, None] - 1)
        cache = [tuple(F.pad(tensor, (0, 0, 0, limit)) for tensor in pair) for pair in cache]
        seen = F.pad(kept, (0, limit))
        key_positions = torch.cat([torch.arange(length).expand(batch, -1), lengths[:, None] - 1 + torch.arange(limit)], 1)
        token = ids.gather(1, lengths[:, None] - 1)
        done = torch.zeros(batch, dtype=torch.bool)
        answers = []
        for step in range(limit):
            slot = length + step
            position = lengths[:, None] - 1 + step
            seen[:, slot] = True
            x = self.embed(token)
            for layer, (keys, values) in zip(self.layers, cache):
                cos, sin = (table[position] for table in self.ropes[layer.sees_all])
                k, v = layer.keys_values(x, cos, sin)
                keys[:, :, slot:slot + 1], values[:, :, slot:slot + 1] = k, v
                mask = seen if layer.sees_all else self.in_window(position, key_positions, seen)
                mask = _additive(mask[:, None, None, :slot + 1])
                x = layer.attend(x, layer.queries(x, cos, sin), keys[:, :, :slot + 1], values[:, :, :slot + 1], mask)
            token = self.logits(x).argmax(-1)
            answers.append(token[:, 0])
            done |= token[:, 0] == stop
            if done.all():
                break
        return torch.stack(answers, 1).tolist()


def _additive(seen):
    return torch.zeros(seen.shape).masked_fill_(~seen, float("-inf"))
