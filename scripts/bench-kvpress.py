#!/usr/bin/env python3
"""Times transformers with kvpress on the weights of a GGUF: a peer of `kvllama bench grid` and of scripts/bench-real.py.

transformers dequantizes the weights. As scripts around kvpress do, every condition reads the prompt, lets the press compress
the cache and generates greedily. Loading is not counted. Prints one line of JSON: the seconds of every condition, and those of the
processor.

Needs kvpress and gguf: `scripts/peer-kvpress.sh DIR` makes an environment with both.
"""

import argparse
import json
import logging
import time
from pathlib import Path

import torch
from kvpress import RandomPress, SnapKVPress
from transformers import AutoModelForCausalLM, DynamicCache

PRESSES = {"random": lambda ratio: RandomPress(compression_ratio=ratio, seed=1),
           "snapkv": lambda ratio: SnapKVPress(compression_ratio=ratio)}


def condition_seconds(model, press, prompt, answer):
    start = time.perf_counter(), time.process_time()
    cache, n = DynamicCache(), prompt.shape[1] - 1
    with press(model):
        # kvpress asks for `cache_position` to know that this is the prompt.
        model(input_ids=prompt[:, :-1], past_key_values=cache, logits_to_keep=1, cache_position=torch.arange(n))
    token = prompt[:, -1:]
    for position in range(n, n + answer):
        # The positions of what was evicted stay empty, as in kvpress's own pipeline.
        logits = model(input_ids=token, past_key_values=cache, position_ids=torch.tensor([[position]])).logits
        token = logits[:, -1:].argmax(dim=-1)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a GGUF that transformers can read")
    parser.add_argument("--press", default="random", choices=PRESSES)
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt")
    parser.add_argument("--answer", type=int, default=32, help="new tokens of a condition")
    parser.add_argument("--conditions", type=int, default=1, help="conditions to time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    logging.disable(logging.WARNING)
    with torch.inference_mode():
        model = AutoModelForCausalLM.from_pretrained(
            args.model.resolve().parent, gguf_file=args.model.name, dtype=getattr(torch, args.dtype)).eval()
        prompt = torch.randint(6, model.config.vocab_size, (1, args.prompt))
        condition_seconds(model, PRESSES["random"](0.5), prompt[:, :64], 2)  # warm-up
        seconds = [condition_seconds(model, PRESSES[args.press]((at + 1) / (args.conditions + 1)), prompt, args.answer)
                   for at in range(args.conditions)]
    seconds, processor = zip(*seconds)
    print(json.dumps({"dtype": args.dtype, "seconds": seconds, "processor_seconds": processor}))


if __name__ == "__main__":
    main()
