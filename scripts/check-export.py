#!/usr/bin/env python3
"""Reads what `kvllama export` wrote with the tools it is meant for, and compares it with the run.

    pip install pandas pyarrow inspect_ai jsonschema pyyaml
    check-export.py RUN EXPORTS        EXPORTS holds a folder per format: parquet, csv, inspect, kvpress, eee
"""

import ast
import json
import re
import sys
from pathlib import Path

import jsonschema
import pandas as pd
from inspect_ai.log import list_eval_logs, read_eval_log

run, exports = map(Path, sys.argv[1:])
written = pd.read_csv(run / "trials.csv", keep_default_na=False)
wanted = written.groupby("condition", sort=False).apply(
    lambda rows: rows.assign(score=pd.to_numeric(rows["mean_score"])).groupby("example_id")["score"].mean().mean()
)

# Parquet and CSV: the same table, with types.
trials = pd.read_parquet(exports / "parquet/trials.parquet")
instructions = pd.read_parquet(exports / "parquet/instructions.parquet")
assert len(trials) == len(written) and not trials.duplicated(["example_id", "condition", "repeat"]).any()
for column, kind in {"ratio": "f", "mean_score": "f", "seed": "i", "n_kept": "i", "repeat": "i"}.items():
    assert trials[column].dtype.kind == kind, (column, trials[column].dtype)
for column in ["example_id", "condition", "policy", "response"]:
    assert pd.api.types.is_string_dtype(trials[column]), (column, trials[column].dtype)
for column in ["fair", "freed"]:
    assert {type(value) for value in trials[column].dropna().tolist()} <= {bool}, column
assert set(trials["response"]) == set(written["response"])
assert instructions["score"].dtype.kind == "f" and instructions["pass_strict"].dtype.kind in "if"
assert len(instructions.merge(trials, on=["example_id", "condition", "repeat"])) == len(instructions)
for name, table in {"trials": trials, "instructions": instructions}.items():
    as_csv = pd.read_csv(exports / f"csv/{name}.csv", keep_default_na=False)
    assert list(as_csv.columns) == list(table.columns) and len(as_csv) == len(table)

# inspect_ai: its own reader finds and loads every log.
logs = {log.eval.metadata["condition"]: log for log in map(read_eval_log, list_eval_logs(str(exports / "inspect")))}
assert list(sorted(logs)) == sorted(wanted.index), (list(logs), list(wanted.index))
for condition, log in logs.items():
    rows = written[written["condition"] == condition]
    assert log.status == "success" and len(log.samples) == len(rows)
    assert abs(log.results.scores[0].metrics["mean"].value - wanted[condition]) < 1e-9
    answers = {(sample.id, sample.epoch - 1): sample.output.completion for sample in log.samples}
    assert answers == {(row.example_id, row.repeat): row.response for row in rows.itertuples()}
    assert all(sample.messages[0].role in ("user", "system") and sample.scores for sample in log.samples)


def string_match(predictions, references, task):
    """kvpress's scorer of RULER (evaluation/benchmarks/ruler/calculate_metrics.py), in its own words."""
    reduce = max if task == "qa" else lambda hits: sum(hits) / len(hits)
    scores = [reduce([float(r.lower() in p.lower()) for r in ref]) for p, ref in zip(predictions, references)]
    return round(sum(scores) / len(scores) * 100, 2)


# kvpress: one folder per condition; the metrics are those of its scorer on our predictions.
folders = sorted((exports / "kvpress").iterdir())
assert len(folders) == len(wanted), folders
for folder in folders:
    predictions = pd.read_csv(folder / "predictions.csv", keep_default_na=False)
    metrics = json.loads((folder / "metrics.json").read_text())
    config = dict(line.split(": ", 1) for line in (folder / "config.yaml").read_text().splitlines())
    press, ratio = json.loads(config["press_name"]), float(config["compression_ratio"])
    assert f"__{press}__{ratio:.2f}" in folder.name, (folder, press, ratio)
    assert re.fullmatch(r"[^_]+(_[^_]+)*__.+__.+__\d\.\d\d(__.+)?", folder.name), folder
    for task, rows in predictions.groupby("task"):
        if "string_match" in metrics[task]:
            control = re.compile(r"[\x00-\x1f]")
            answers = [control.sub("", answer.strip()).strip() for answer in rows["predicted_answer"]]
            references = [ast.literal_eval(answer) for answer in rows["answer"]]
            assert abs(metrics[task]["string_match"] - string_match(answers, references, task)) < 0.006, folder

# Every Eval Ever: every record and sample is valid under its schemas.
fixtures = Path(__file__).parent.parent / "tests/fixtures/every_eval_ever"
schema = {name: json.loads((fixtures / f"{name}.schema.json").read_text()) for name in ["eval", "instance_level_eval"]}
records = sorted((exports / "eee").rglob("*.json"))
assert len(records) == len(wanted), records
for path in records:
    record = json.loads(path.read_text())
    jsonschema.validate(record, schema["eval"])
    condition = record["evaluation_results"][0]["generation_config"]["additional_details"]["condition"]
    assert abs(record["evaluation_results"][0]["score_details"]["score"] - wanted[condition]) < 1e-9
    lines = path.with_name(path.stem + "_samples.jsonl").read_text().splitlines()
    assert len(lines) == record["detailed_evaluation_results"]["total_rows"] == (written["condition"] == condition).sum()
    for line in lines:
        sample = json.loads(line)
        jsonschema.validate(sample, schema["instance_level_eval"])
        assert sample["evaluation_id"] == record["evaluation_id"]

print(f"read: {len(trials)} trials, {len(instructions)} instructions, {len(logs)} logs, {len(folders)} folders, "
      f"{len(records)} records")
