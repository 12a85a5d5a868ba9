#!/usr/bin/env python3
"""Makes tests/fixtures/reference: a tiny Gemma 3, evictions of its KV cache, and the logits that must follow."""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader, LlamaFileType

from gemma3_gguf import BOS, Shape, open_writer
from model import chat_logits, logits

FIXTURE = Path(__file__).parents[2] / "tests/fixtures/reference"
SHAPE = Shape("kvllama reference", layers=8, d=64, ff=96, heads=4, kv_heads=2, head_dim=32, vocab=288, window=16,
              context=1024)
# The window of 16 never binds in the short prompt (its 6 continuation tokens included). The longest exceeds the cache
# that llama.cpp keeps for local layers unless told to keep all (window + micro-batch of 512): what moves back into the
# window must still be there.
PROMPT_LENGTHS = {"short": 10, "medium": 60, "long": 200, "longest": 900}
N_CONTINUE = 6
TEXT_CONTROLS = "streaming-4+8", "random-0.5"  # evictions that are also read as text
# Long queries and keys sharpen the attention: what is evicted then matters. The feed-forward speaks softly: where the
# last bit of a float32 decides, ggml's GELU takes the next float16, and that noise must stay below float32's own.
NORM_SCALES = {"attn_q_norm": 1.6, "attn_k_norm": 1.6, "post_ffw_norm": 0.003}
TOLERANCE = 1e-5  # between machines, in logits that span about 10


def random_weights(rng):
    for name, shape in SHAPE.tensors():
        if len(shape) == 2:
            weight = rng.standard_normal(shape) / shape[-1] ** 0.5
        else:
            scale = next((scale for part, scale in NORM_SCALES.items() if part in name), 1.0)
            weight = scale * (1 + 0.1 * rng.standard_normal(shape))
        yield name, weight.astype(np.float32)


def write_model(path, rng):
    writer = open_writer(path, SHAPE, LlamaFileType.ALL_F32)
    for name, weight in random_weights(rng):
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_model(path):
    return {t.name: torch.from_numpy(t.data.astype(np.float64)) for t in GGUFReader(path).tensors}


def evictions(rng, n_cached):
    """Positions to evict, by name. The last cached one always stays: the next must follow it."""
    short = n_cached < SHAPE.window
    candidates = np.arange(n_cached - 1)
    yield "none", candidates[:0]
    for first, last in [(2, 3)] if short else [(4, 8), (20, 20)]:
        yield f"streaming-{first}+{last}", candidates[first : n_cached - last]
    blocks = np.array_split(candidates, len(candidates) // (2 if short else 8))
    chosen = np.sort(rng.choice(len(blocks), len(blocks) // 2, replace=False))
    yield "block-0.5", np.concatenate([blocks[i] for i in chosen])
    for ratio in (0.25, 0.5, 0.9) if n_cached < 512 else ():
        yield f"random-{ratio}", np.sort(rng.choice(candidates, round(n_cached * ratio), replace=False))


def ranges(positions):
    """Half-open ranges of sorted positions."""
    runs = np.split(positions, np.flatnonzero(np.diff(positions) > 1) + 1) if len(positions) else []
    return [[int(run[0]), int(run[-1]) + 1] for run in runs]


def cases(rng):
    for prompt, n in PROMPT_LENGTHS.items():
        tokens = [BOS, *map(int, rng.integers(6, SHAPE.vocab, n - 1))]
        forced = list(map(int, rng.integers(6, SHAPE.vocab, N_CONTINUE)))
        for name, evicted in evictions(rng, n - 1):
            variants = [("keep", "kv"), ("compact", "kv")] + [("keep", "text")] * (name in TEXT_CONTROLS)
            for positions, memory in variants:
                case = f"{prompt}-{name}-{'text' if memory == 'text' else positions}"
                yield dict(name=case, prompt=prompt, tokens=tokens, evict=ranges(evicted), positions=positions,
                           memory=memory, **{"continue": forced}, expected=f"{case}.npy")


def expected(weights, case, **options):
    evicted = {i for a, b in case["evict"] for i in range(a, b)}
    tokens, n_cached = case["tokens"], len(case["tokens"]) - 1
    if case["memory"] == "text":
        tokens = [token for i, token in enumerate(tokens) if i not in evicted]
        n_cached, evicted = len(tokens) - 1, set()
    return logits(weights, SHAPE, tokens + case["continue"], n_cached, evicted, case["positions"] == "compact",
                  **options).numpy()


def chats(rng):
    """Chats of three turns. Each turn has its new tokens (from the second on the last answer comes first) and what is
    evicted before its last token is read, of all tokens so far."""
    # What is compacted again and again must stay within the window.
    for positions, lengths, share in [("keep", (60, 45, 80), 0.5), ("compact", (8, 6, 6), 0.6)]:
        for name in ("none", "streaming", "random"):
            read, cached, turns = 0, [], []
            for n in lengths:
                cached += range(read, read + n - 1)
                new = list(map(int, rng.integers(6, SHAPE.vocab, n)))
                if name == "streaming":
                    evicted = cached[2 : len(cached) - round(len(cached) * share) + 2]
                else:
                    evicted = sorted(map(int, rng.choice(cached[:-1], round(len(cached) * share), replace=False)))
                evicted = [] if name == "none" else evicted
                turns.append(dict(tokens=new if read else [BOS, *new[1:]], evict=evicted))
                cached = [i for i in cached if i not in evicted] + [read + n - 1]
                read += n
            yield dict(name=f"chat-{name}-{positions}", positions=positions, turns=turns, expected=f"chat-{name}-{positions}.npy")


def expected_of_chat(weights, chat):
    tokens, cuts = [], []
    for turn in chat["turns"]:
        tokens += turn["tokens"]
        cuts.append((len(tokens) - 1, turn["evict"]))
    return chat_logits(weights, SHAPE, tokens, cuts, chat["positions"] == "compact").numpy()


def make(folder):
    rng = np.random.default_rng(7)
    write_model(folder / "model.gguf", rng)
    weights = read_model(folder / "model.gguf")
    listed = list(cases(rng))
    lines = ",\n".join(json.dumps(case) for case in listed)
    (folder / "cases.json").write_text(f"[\n{lines}\n]\n")
    for case in listed:
        np.save(folder / case["expected"], expected(weights, case).astype(np.float32))
    listed = list(chats(np.random.default_rng(8)))
    lines = ",\n".join(json.dumps(chat) for chat in listed)
    (folder / "chats.json").write_text(f"[\n{lines}\n]\n")
    for chat in listed:
        np.save(folder / chat["expected"], expected_of_chat(weights, chat).astype(np.float32))


def check(folder):
    """Makes everything anew and compares it with `folder`."""
    with tempfile.TemporaryDirectory() as fresh:
        make(Path(fresh))
        made = {path.name: path for path in Path(fresh).iterdir()}
        if made.keys() != (there := {path.name for path in folder.iterdir()}):
            raise SystemExit(f"{folder} holds other files than are made: {sorted(made.keys() ^ there)}")
        for name, path in made.items():
            if name.endswith(".npy"):
                same = np.abs(np.load(path) - np.load(folder / name)).max() <= TOLERANCE
            else:
                same = path.read_bytes() == (folder / name).read_bytes()
            if not same:
                raise SystemExit(f"{folder / name} is not what this script makes")
    print(f"{folder}: all {len(made)} files are reproduced")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="verify the files that are there, write nothing")
    if parser.parse_args().check:
        check(FIXTURE)
    else:
        FIXTURE.mkdir(parents=True, exist_ok=True)
        for stale in FIXTURE.glob("*.npy"):
            stale.unlink()
        make(FIXTURE)
