"""Does an instruction's obedience hang on its own tokens? Measured with kvllama alone, on any data set whose instructions have spans.

For each instruction of each example: evict exactly its tokens (`probe --evict`), answer, score; and once more with as many
consecutive tokens of the text that is neither instruction nor question (filler). Of what was followed with the full cache,
prints how much still is: the evicted instruction itself, the other instructions, and all of them without filler.

    python3 causality.py --kvllama target/release/kvllama --data data/demo.jsonl [--model FILE]
"""

import argparse
import json
import random
import subprocess
import tempfile
from pathlib import Path


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kvllama", default="kvllama")
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--model")
    arguments.add_argument("--limit", type=int)
    arguments = arguments.parse_args()
    model = ["--model", arguments.model] if arguments.model else []

    def kvllama(*args):
        return subprocess.run([arguments.kvllama, *args], check=True, capture_output=True, text=True).stdout

    examples = [json.loads(line) for line in arguments.data.open()][:arguments.limit]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        kvllama("exp", *model, "--data", arguments.data, "--policy", "none", "--limit", str(len(examples)), "--quiet", "--out", folder / "full")
        prompts = {row["example_id"]: row for row in map(json.loads, (folder / "full/prompts.jsonl").open())}

        jobs = []  # (example index, evicted instruction or None, ranges)
        rng = random.Random(3)
        for index, example in enumerate(examples):
            row = prompts[example["id"]]
            spans = row["spans"]
            last = len(row["pieces"]) - 2  # the last cached position must survive
            busy = {at for span in spans if span["label"] not in ("user", "system") for at in range(span["start"], span["end"])}
            text = [at for span in spans if span["label"] in ("user", "system") for at in range(span["start"], span["end"])]
            jobs.append((index, None, None))
            for number in range(len(example["instructions"])):
                span = next(span for span in spans if span["label"] == f"instruction:{number}")
                jobs.append((index, number, (span["start"], min(span["end"], last))))
                length = span["end"] - span["start"]
                starts = [at for at in text if all(p in text and p not in busy for p in range(at, at + length))]
                if starts:
                    start = rng.choice(starts)
                    jobs.append((index, "filler", (start, start + length)))

        lines = []
        for key, (index, _, evicted) in enumerate(jobs):
            example = examples[index]
            tokens = ",".join(map(str, token_ids(kvllama, model, example, folder)))
            extra = ["--evict", f"{evicted[0]}..{evicted[1]}"] if evicted else []
            said = json.loads(kvllama("probe", *model, "--tokens", tokens, *extra, "--n-predict", "512", "--json"))
            lines.append(json.dumps({
                "key": key, "prompt": str(key), "response": said["text"],
                "instruction_id_list": [instruction["type"] for instruction in example["instructions"]],
                "kwargs": [instruction["kwargs"] for instruction in example["instructions"]]}))
        (folder / "responses.jsonl").write_text("\n".join(lines) + "\n")
        kvllama("score", "--ifeval", folder / "responses.jsonl", "--out", folder / "verdicts.jsonl")
        verdicts = [json.loads(line)["follow_list_strict"] for line in (folder / "verdicts.jsonl").open()]

    full = {index: row for (index, what, _), row in zip(jobs, verdicts) if what is None}
    itself, others, filler, kinds = [], [], [], {}
    for (index, what, _), row in zip(jobs, verdicts):
        for number, (before, after) in enumerate(zip(full[index], row)):
            if not before or what is None:
                continue
            if what == "filler":
                filler.append(after)
            elif what == number:
                itself.append(after)
                kinds.setdefault(examples[index]["instructions"][number]["type"], []).append(after)
            else:
                others.append(after)
    share = lambda values: f"{sum(values) / max(1, len(values)):.3f} of {len(values)}"
    print(f"still followed: the evicted instruction {share(itself)}; the others {share(others)}; filler evicted instead {share(filler)}")
    for kind, values in sorted(kinds.items()):
        print(f"  {kind}: {share(values)}")


def token_ids(kvllama, model, example, folder, known={}):
    """The prompt as token ids, as `exp` renders it."""
    if example["id"] not in known:
        system = [m["content"] for m in example["messages"] if m["role"] == "system"]
        path = folder / "prompt.txt"
        path.write_text(example["messages"][-1]["content"])
        turns = ["--system", system[0]] if system else []
        said = kvllama("probe", *model, *turns, "--prompt-file", path, "--n-predict", "0", "--json")
        known[example["id"]] = json.loads(said)["tokens"]
    return known[example["id"]]


if __name__ == "__main__":
    main()
