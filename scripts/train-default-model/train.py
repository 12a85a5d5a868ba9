"""Trains the model. Resumes from its checkpoint: `train.py --out DIR` again goes on where it stopped."""

import argparse
import os
import random
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch.nn import functional as F

import prompts
from model import Config, Model
from tokenizer import Tokenizer

# Up to which share of the steps: how many instructions, and a choice of ranges of filler words.
STAGES = [
    (0.26, (1, 3), [(0, 20)]),
    (0.58, (1, 6), [(0, 30), (20, 120)]),
    (1.00, (2, 6), [(0, 60), (60, 200), (150, 420)]),
]
EVICTIONS_FROM = 0.22  # share of the steps
SLOTS = 4096  # tokens of a batch, padding included
POOL = 1200  # samples sorted by length together, so that batches hold little padding
LONGEST = 700
# Warm restarts after the main fall: steps, share of the full rate, shares of invented words (topics, keywords).
RESTARTS = [(800, 0.4, (0, 0.15)), (600, 0.4, (0.15, 0.25))]


def evict(rng, ids, tags, sample, mode):
    """Evicted positions of a prompt, and the instructions that are left.

    `random` hits any position; the answer still follows all of which a token is left. `spans` takes one or two
    instructions whole: the answer is the one to a prompt without them.
    """
    evicted, heard = set(), list(range(len(sample.instructions)))
    if mode == "random":
        candidates = range(len(ids) - 1)
        evicted = set(rng.sample(candidates, int(rng.uniform(0, 0.5) * len(candidates))))
    elif mode == "spans":
        gone = rng.sample(heard, min(len(heard), rng.choice([1, 1, 2])))
        evicted = {at for at, tag in enumerate(tags) if tag in gone}
    left = {tag for at, tag in enumerate(tags) if at not in evicted}
    if "password" in tags and "password" not in left:
        heard = [i for i in heard if sample.instructions[i][0] != "reveal"]
    return evicted, [i for i in heard if i in left]


def pool(rng, tokenizer, step, steps):
    """A shuffled list of batches: (ids, prompt lengths, answer positions, targets, evicted or None)."""
    progress = step / steps
    extra = {"invented": restart(step, steps)[3]} if step >= steps else {}
    _, n_instructions, fillers = next(stage for stage in STAGES if progress < stage[0] or stage is STAGES[-1])
    modes = ["none"] if progress < EVICTIONS_FROM else ["none"] * 5 + ["random"] * 3 + ["spans"] * 2
    by_mode = {}
    for _ in range(POOL):
        sample = prompts.draw(rng, n_instructions, rng.choice(fillers), **extra)
        ids, tags = tokenizer.prompt(sample)
        mode = rng.choice(modes)
        evicted, heard = evict(rng, ids, tags, sample, mode)
        answer = tokenizer.answer(sample.answer(heard))
        if len(ids) + len(answer) <= LONGEST:
            by_mode.setdefault(mode == "none", []).append((ids, answer, evicted))
    batches = []
    for rows in by_mode.values():
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))
        batch = []
        for row in rows:
            if (len(batch) + 1) * (len(row[0]) + len(row[1])) > SLOTS:
                batches.append(batch)
                batch = []
            batch.append(row)
        batches.append(batch)
    rng.shuffle(batches)
    return batches


def tensors(batch):
    length = max(len(prompt) + len(answer) for prompt, answer, _ in batch) - 1
    n_answer = max(len(answer) for _, answer, _ in batch)
    ids = torch.zeros(len(batch), length, dtype=torch.long)
    at = torch.zeros(len(batch), n_answer, dtype=torch.long)
    targets = torch.full((len(batch), n_answer), -100)
    lost = torch.zeros(len(batch), length, dtype=torch.bool)
    for row, (prompt, answer, evicted) in enumerate(batch):
        ids[row, :len(prompt) + len(answer) - 1] = torch.tensor(prompt + answer[:-1])
        # Past a short answer, its last position stands in; its target is ignored.
        at[row] = (len(prompt) - 1 + torch.arange(n_answer)).clamp(max=len(prompt) + len(answer) - 2)
        targets[row, :len(answer)] = torch.tensor(answer)
        lost[row, list(evicted)] = True
    lengths = torch.tensor([len(prompt) for prompt, _, _ in batch])
    return ids, lengths, at, targets, lost if lost.any() else None


@torch.no_grad()
def orthogonal(gradients):
    """Newton-Schulz iteration of Muon, for a stack of matrices."""
    x = gradients / (gradients.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x


class Optimizer:
    """Muon for the matrices of the layers, Adam for the embedding and the norms."""

    RATE_MUON, RATE_ADAM, DECAY = 0.02, 0.003, 0.01

    def __init__(self, model):
        self.step_count = 0
        self.matrices, self.others = {}, []
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "embedding" not in name:
                self.matrices.setdefault(tuple(parameter.shape), []).append(parameter)
            else:
                self.others.append(parameter)
        self.momentum = {shape: torch.zeros(len(group), *shape) for shape, group in self.matrices.items()}
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.others]

    @torch.no_grad()
    def step(self, scale):
        self.step_count += 1
        inertia = min(0.95, 0.85 + 0.1 * self.step_count / 300)
        for shape, group in self.matrices.items():
            gradients = torch.stack([parameter.grad for parameter in group])
            momentum = self.momentum[shape]
            momentum.lerp_(gradients, 1 - inertia)
            updates = orthogonal(gradients.lerp(momentum, inertia)) * max(1, shape[0] / shape[1]) ** 0.5
            for parameter, update in zip(group, updates):
                parameter.mul_(1 - self.RATE_MUON * scale * self.DECAY).sub_(update, alpha=self.RATE_MUON * scale)
        for parameter, (first, second) in zip(self.others, self.moments):
            first.lerp_(parameter.grad, 0.1)
            second.lerp_(parameter.grad ** 2, 0.02)
            update = first / (1 - 0.9 ** self.step_count) / ((second / (1 - 0.98 ** self.step_count)).sqrt() + 1e-8)
            parameter.sub_(update, alpha=self.RATE_ADAM * scale)

    def state(self):
        return dict(step_count=self.step_count, momentum=self.momentum, moments=self.moments)

    def load(self, state):
        self.step_count, self.momentum, self.moments = state["step_count"], state["momentum"], state["moments"]


def restart(step, steps):
    """The warm restart that a step after the main fall belongs to, with its first step."""
    for length, share, invented in RESTARTS:
        start, steps = steps, steps + length
        if step < steps:
            break
    return start, length, share, invented


def rate(step, steps):
    """Share of the full learning rate: a short warm-up, a plateau, a straight fall; then smaller falls (warm restarts,
    arXiv 1608.03983), the last with more invented words, so that words never trained on are copied well."""
    if step >= steps:
        start, length, share, _ = restart(step, steps)
        return share * max(0.02, 1 - (step - start) / length)
    progress = step / steps
    return min(1, (step + 1) / 60) * (1 if progress < 0.45 else max(0.02, (1 - progress) / 0.55))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, required=True, help="holds tokenizer.model; gets checkpoint.pt and train.log")
    arguments.add_argument("--steps", type=int, default=3200)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--seed", type=int, default=1)
    arguments = arguments.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)

    tokenizer = Tokenizer(arguments.out / "tokenizer.model")
    model = Model(Config())
    optimizer = Optimizer(model)
    rng, batches, step, seconds, tokens, samples = random.Random(arguments.seed), [], 0, 0.0, 0, 0
    path = arguments.out / "checkpoint.pt"
    if path.exists():
        state = torch.load(path, weights_only=False)
        model.load_state_dict(state["model"])
        optimizer.load(state["optimizer"])
        rng.setstate(state["rng"])
        batches, step, seconds, tokens, samples = (state[key] for key in ("batches", "step", "seconds", "tokens", "samples"))

    log = (arguments.out / "train.log").open("a")
    print(sum(p.numel() for p in model.parameters()), "parameters, from step", step, file=log, flush=True)
    losses = []
    last = arguments.steps + sum(length for length, _, _ in RESTARTS)
    while step < last:
        started = time.time()
        if not batches:
            batches = pool(rng, tokenizer, step, arguments.steps)
        batch = batches.pop()
        ids, lengths, at, targets, evicted = tensors(batch)
        loss = F.cross_entropy(model(ids, lengths, at, evicted).flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step(rate(step, arguments.steps))
        model.zero_grad()
        step += 1
        seconds += time.time() - started
        tokens += sum(len(prompt) + len(answer) for prompt, answer, _ in batch)
        samples += len(batch)
        losses.append((loss.item(), evicted is not None))
        if step % 20 == 0:
            mean = lambda cut: sum(x for x, c in losses if c == cut) / max(1, sum(c == cut for _, c in losses))
            print(f"step {step} loss {mean(False):.4f} evicted {mean(True):.4f} rate {rate(step, arguments.steps):.2f} "
                  f"tokens {tokens / 1e6:.2f}M samples {samples} seconds {seconds:.0f}", file=log, flush=True)
            losses = []
        if step % 100 == 0 or step == last:
            torch.save(dict(config=asdict(model.config), model=model.state_dict(), optimizer=optimizer.state(), rng=rng.getstate(),
                            batches=batches, step=step, seconds=seconds, tokens=tokens, samples=samples), path.with_suffix(".tmp"))
            os.replace(path.with_suffix(".tmp"), path)


if __name__ == "__main__":
    main()
