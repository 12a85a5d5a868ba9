#!/usr/bin/env python3
"""Times transformers with kvpress on a model of the same shape: a peer of `kvllama bench grid`.

The shape is read from the GGUF; the weights are random, because what they are does not change the time. As scripts
around kvpress do, every condition reads the prompt, lets the press compress the cache and generates greedily. Loading
is not counted. Prints one line of JSON: the seconds of every condition.

Needs kvpress and gguf: `scripts/peer-kvpress.sh DIR` makes an environment with both.
"""

import argparse
import json
import time

import torch
from gguf import GGUFReader
from kvpress import RandomPress
from transformers import DynamicCache, Gemma3ForCausalLM, Gemma3TextConfig


def shape(path):
    """The transformers configuration of a gemma3 GGUF."""
    reader = GGUFReader(path)

    def field(name):
        return reader.fields[f"gemma3.{name}"].contents()

    return Gemma3TextConfig(
        vocab_size=len(reader.fields["tokenizer.ggml.tokens"].data),
        hidden_size=field("embedding_length"),
        intermediate_size=field("feed_forward_length"),
        num_hidden_layers=field("block_count"),
        num_attention_heads=field("attention.head_count"),
        num_key_value_heads=field("attention.head_count_kv"),
        head_dim=field("attention.key_length"),
        sliding_window=field("attention.sliding_window"),
    )


def condition_seconds(model, prompt, ratio, answer):
    start = time.perf_counter()
    cache = DynamicCache()
    with RandomPress(compression_ratio=ratio, seed=1)(model):
        logits = model(input_ids=prompt[:, :-1], past_key_values=cache, logits_to_keep=1).logits
    token = prompt[:, -1:]
    for position in range(prompt.shape[1] - 1, prompt.shape[1] - 1 + answer):
        # The positions of what was evicted stay empty, as in kvpress's own pipeline.
        logits = model(input_ids=token, past_key_values=cache, position_ids=torch.tensor([[position]])).logits
        token = logits[:, -1:].argmax(dim=-1)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a gemma3 GGUF")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt")
    parser.add_argument("--answer", type=int, default=32, help="new tokens of a condition")
    parser.add_argument("--conditions", type=int, default=1, help="conditions to time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, args.dtype))
    with torch.inference_mode():
        model = Gemma3ForCausalLM(shape(args.model)).eval()
        prompt = torch.randint(6, model.config.vocab_size, (1, args.prompt))
        condition_seconds(model, prompt[:, :64], 0.5, 2)  # warm-up
        seconds = [condition_seconds(model, prompt, (at + 1) / (args.conditions + 1), args.answer)
                   for at in range(args.conditions)]
    print(json.dumps({"dtype": args.dtype, "seconds": seconds}))


if __name__ == "__main__":
    main()
