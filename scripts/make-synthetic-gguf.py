#!/usr/bin/env python3
"""Writes a Gemma 3 GGUF of the real shape and size with random weights: for memory and speed, not for its answers.

Matrices are Q4_0, norms F32, the token embedding Q6_K (Q8_0 where the row is no multiple of 256), as llama.cpp's own
quantizer chooses. The vocabulary has the real size and tokenizes any text. Needs numpy and gguf
(scripts/reference/requirements.txt), less than 2 GB of memory, and disk: 0.9 GB for 1b, 7 GB for 12b.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from reference.gemma3_gguf import Shape, open_writer

SHAPES = {
    "1b": Shape("synthetic Gemma 3 1B", layers=26, d=1152, ff=6912, heads=4, kv_heads=1, head_dim=256, vocab=262144,
                window=512, context=32768),
    "12b": Shape("synthetic Gemma 3 12B", layers=48, d=3840, ff=15360, heads=16, kv_heads=8, head_dim=256,
                 vocab=262208, window=1024, context=131072, global_rope_scale=8.0),
}
BLOCKS = {
    GGMLQuantizationType.Q4_0: np.dtype([("d", "<f2"), ("quants", "u1", 16)]),
    GGMLQuantizationType.Q8_0: np.dtype([("d", "<f2"), ("quants", "i1", 32)]),
    GGMLQuantizationType.Q6_K: np.dtype([("quants", "u1", 192), ("scales", "i1", 16), ("d", "<f2")]),
}
# Prime, so that the rows of a matrix differ although all its blocks come from one pool.
POOL = 300_007


def random_blocks(rng, kind, d):
    """Blocks of `kind` whose weights have about the spread that keeps activations of width `d` in place."""
    blocks = np.frombuffer(rng.bytes(POOL * BLOCKS[kind].itemsize), BLOCKS[kind]).copy()
    spread = {GGMLQuantizationType.Q4_0: 4.6, GGMLQuantizationType.Q8_0: 74.0, GGMLQuantizationType.Q6_K: 18.5 * 6}
    # Both signs: the quants are not centred on zero.
    blocks["d"] = rng.uniform(0.8, 1.2, POOL) * rng.choice([-1, 1], POOL) / (spread[kind] * d**0.5)
    if kind == GGMLQuantizationType.Q6_K:
        blocks["scales"] = rng.integers(4, 9, (POOL, 16))
    return blocks


def write(path, shape):
    rng = np.random.default_rng(0)
    embedding = GGMLQuantizationType.Q6_K if shape.d % 256 == 0 else GGMLQuantizationType.Q8_0
    pools = {kind: random_blocks(rng, kind, shape.d) for kind in (GGMLQuantizationType.Q4_0, embedding)}

    def tensors():
        for name, size in shape.tensors():
            if len(size) == 1:
                yield name, size, GGMLQuantizationType.F32, size[0]
            else:
                kind = embedding if name == "token_embd.weight" else GGMLQuantizationType.Q4_0
                yield name, size, kind, size[0] * size[1] // GGML_QUANT_SIZES[kind][0]

    writer = open_writer(path, shape, LlamaFileType.MOSTLY_Q4_0)
    writer.add_quantization_version(2)
    for name, size, kind, n_blocks in tensors():
        writer.add_tensor_info(name, size, np.dtype(np.float32), n_blocks * GGML_QUANT_SIZES[kind][1], kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, size, kind, n_blocks in tensors():
        if kind == GGMLQuantizationType.F32:
            writer.write_tensor_data(np.ones(n_blocks, np.float32))
        else:
            writer.write_tensor_data(np.resize(np.roll(pools[kind], rng.integers(POOL)), n_blocks))
    writer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--layers", type=int, metavar="N", help="only the first N layers")
    args = parser.parse_args()
    shape = SHAPES[args.shape]
    if args.layers:
        shape = dataclasses.replace(shape, layers=args.layers)
    # Under its own name only once it is whole.
    part = args.out.with_name(args.out.name + ".part")
    write(part, shape)
    part.replace(args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1e9:.2f} GB")
