"""Scores the trained model on the demo set with kvllama's rules: whole cache, random eviction, one instruction evicted.

Made for the hour of training; what counts is `kvllama exp` on the exported file.
"""

import argparse
import json
import random
import subprocess
import tempfile
from pathlib import Path

import torch

import demo
import tasks
from export import load
from tokenizer import END_OF_TURN

LIMIT = 160  # tokens of an answer


class Bench:
    """The demo prompts, read once."""

    def __init__(self, model, tokenizer, drawn):
        self.model, self.tokenizer, self.samples = model, tokenizer, drawn
        self.encoded = [tokenizer.prompt(sample) for sample in drawn]

    def answers(self, jobs):
        """Answers to jobs (sample index, evicted positions). The last cached position always stays, as in kvllama."""
        jobs = list(enumerate(jobs))
        jobs.sort(key=lambda job: len(self.encoded[job[1][0]][0]))
        texts = [""] * len(jobs)
        for start in range(0, len(jobs), 48):
            group = jobs[start:start + 48]
            prompts = [self.encoded[sample][0] for _, (sample, _) in group]
            lengths = torch.tensor([len(prompt) for prompt in prompts])
            ids = torch.zeros(len(group), int(lengths.max()), dtype=torch.long)
            kept = torch.ones_like(ids, dtype=torch.bool)
            for row, (prompt, (_, (_, evicted))) in enumerate(zip(prompts, group)):
                ids[row, :len(prompt)] = torch.tensor(prompt)
                kept[row, [at for at in evicted if at != len(prompt) - 2]] = False
            for (place, _), out in zip(group, self.model.generate(ids, lengths, self.model.prefill(ids), kept, END_OF_TURN, LIMIT)):
                texts[place] = self.tokenizer.decode(out)
        return texts


def verdicts(kvllama, answered):
    """kvllama's strict verdicts on (sample, answer) pairs: a list of booleans each."""
    with tempfile.TemporaryDirectory() as folder:
        responses, out = Path(folder) / "responses.jsonl", Path(folder) / "verdicts.jsonl"
        with responses.open("w") as file:
            for key, (sample, text) in enumerate(answered):
                rules = [tasks.rule(kind, argument, sample) for kind, argument in sample.instructions]
                file.write(json.dumps({"key": key, "prompt": str(key), "instruction_id_list": [name for name, _ in rules],
                                       "kwargs": [kwargs for _, kwargs in rules], "response": text}) + "\n")
        subprocess.run([kvllama, "score", "--ifeval", responses, "--out", out], check=True, stdout=subprocess.DEVNULL)
        return [json.loads(line)["follow_list_strict"] for line in out.open()]


def share(values):
    return sum(values) / max(1, len(values))


def by_kind(bench, jobs, scores):
    kinds = {}
    for (index, _), row in zip(jobs, scores):
        for (kind, _), ok in zip(bench.samples[index].instructions, row):
            kinds.setdefault(kind, []).append(ok)
    return " ".join(f"{kind} {share(values):.2f}" for kind, values in sorted(kinds.items()))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, required=True, help="the training folder")
    arguments.add_argument("--kvllama", default="kvllama", help="the kvllama binary")
    arguments.add_argument("--limit", type=int, help="only so many examples, and no evictions")
    arguments = arguments.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = load(arguments.out)
    bench = Bench(model, tokenizer, demo.samples(tokenizer)[:arguments.limit])
    rng = random.Random(3)

    def run(jobs):
        texts = bench.answers(jobs)
        return texts, verdicts(arguments.kvllama, [(bench.samples[index], text) for (index, _), text in zip(jobs, texts)])

    jobs = [(index, ()) for index in range(len(bench.samples))]
    texts, full = run(jobs)
    (arguments.out / "answers.jsonl").write_text("".join(json.dumps({"id": f"demo-{n:03}", "response": text}) + "\n"
                                                         for n, text in enumerate(texts, 1)))
    exact = share([text == sample.answer() for text, sample in zip(texts, bench.samples)])
    print(f"whole cache: {share([share(row) for row in full]):.3f}, equal to the reference {exact:.3f}\n  {by_kind(bench, jobs, full)}")
    if arguments.limit:
        return

    orders = [rng.sample(range(len(ids) - 1), len(ids) - 1) for ids, _ in bench.encoded]
    for ratio in (0.1, 0.25, 0.5, 0.75, 0.9):
        jobs = [(index, order[:int(ratio * len(order))]) for index, order in enumerate(orders)]
        scores = run(jobs)[1]
        print(f"random {ratio}: {share([share(row) for row in scores]):.3f}\n  {by_kind(bench, jobs, scores)}")
    jobs = [(index, range(4, 4 + len(ids) // 2)) for index, (ids, _) in enumerate(bench.encoded)]
    print(f"first 4 and most recent, 0.5: {share([share(row) for row in run(jobs)[1]]):.3f}")

    # One instruction's tokens, and as many of the filler.
    own, filler, kinds = [], [], []
    for index, (_, tags) in enumerate(bench.encoded):
        talk = [at for at, tag in enumerate(tags) if tag == "filler"]
        for gone in range(len(bench.samples[index].instructions)):
            span = [at for at, tag in enumerate(tags) if tag == gone]
            own.append((index, span))
            kinds.append(gone)
            if len(talk) >= len(span):
                start = rng.randrange(len(talk) - len(span) + 1)
                filler.append((index, talk[start:start + len(span)]))
    scores = run(own)[1]
    itself, others = {}, []
    for (index, _), gone, row in zip(own, kinds, scores):
        for at, ok in enumerate(row):
            if full[index][at]:
                (itself.setdefault(bench.samples[index].instructions[at][0], []) if at == gone else others).append(ok)
    followed = [ok for values in itself.values() for ok in values]
    rest = [ok for (index, _), row in zip(filler, run(filler)[1]) for ok, before in zip(row, full[index]) if before]
    print(f"one instruction evicted: itself {share(followed):.3f}, others {share(others):.3f}; as much filler: {share(rest):.3f}")
    print("  " + " ".join(f"{kind} {share(values):.2f}" for kind, values in sorted(itself.items())))


if __name__ == "__main__":
    main()
