//! Logs of inspect_ai (<https://inspect.aisi.org.uk/eval-logs.html>), version 2, as JSON: one per condition, because a
//! log holds one configuration. Checked with `read_eval_log` of inspect_ai 0.3.285 (`tests/export.rs`).

use serde_json::{Value, json};

use super::conditions::{Column, Trial, columns, prompts, slug, turns};
use super::{File, json_bytes};
use crate::condition::Condition;
use crate::exp::PromptRow;
use crate::report::Run;

/// The name of the score in a log.
const SCORER: &str = "instructions_followed";

pub fn of(run: &Run) -> Vec<File> {
    columns(run).iter().map(|column| (file_name(run, column).into(), json_bytes(&log(run, column)))).collect()
}

/// `2026-01-31T12-00-00+00-00_random@0.5_RUNID.json`: the form in which `inspect view` finds logs.
fn file_name(run: &Run, column: &Column) -> String {
    let started = started(run).replace(':', "-");
    format!("{started}_{}_{}.json", slug(&column.name), run.manifest.run_id)
}

/// The run's start with an offset, as Python writes it.
fn started(run: &Run) -> String {
    run.manifest.started().replace('Z', "+00:00")
}

fn log(run: &Run, column: &Column) -> Value {
    let manifest = &run.manifest;
    let generation = &manifest.generation;
    let model = model(run);
    let prompts = prompts(run);
    let samples: Vec<Value> = column
        .trials
        .iter()
        .map(|trial| sample(trial, prompts.get(trial.row.example_id.as_str()).copied(), &model))
        .collect();
    let failed = column.trials.iter().filter(|trial| !trial.row.error.is_empty()).count();
    let mut ids: Vec<&str> = column.trials.iter().map(|trial| trial.row.example_id.as_str()).collect();
    ids.dedup();
    let headline = column.headline();
    let metric =
        |name: &str, value: Option<f64>| value.map(|value| (name.to_owned(), json!({"name": name, "value": value})));
    let metrics: serde_json::Map<String, Value> = [
        metric("mean", headline.as_ref().map(|headline| headline.mean)),
        metric("stderr", headline.as_ref().and_then(super::conditions::Headline::error)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let axes: serde_json::Map<String, Value> =
        Condition::columns().map(str::to_owned).zip(column.condition.cells().into_iter().map(Value::from)).collect();
    let sampling = &generation.sampling;
    json!({
        "version": 2,
        "status": "success",
        "eval": {
            "run_id": manifest.run_id,
            "created": started(run),
            "task": format!("kvllama/{}", column.name),
            "task_id": format!("{}-{}", manifest.run_id, slug(&column.name)),
            "task_version": 0,
            "task_args": axes,
            "dataset": {"name": manifest.data.name, "samples": ids.len(), "sample_ids": ids, "shuffled": false},
            "model": model,
            "model_generate_config": {
                "max_tokens": generation.n_predict, "temperature": sampling.temperature, "top_p": sampling.top_p,
                "top_k": sampling.top_k, "seed": generation.seed,
            },
            "config": {"epochs": manifest.repeats(), "limit": null},
            "packages": {"kvllama": manifest.build().kvllama},
            "metadata": {
                "condition": column.name, "model_sha256": manifest.model.sha256, "data_sha256": manifest.data.sha256,
                "evicted": column.evicted(),
            },
        },
        "plan": {
            "name": "kvllama",
            "steps": [{"solver": "evict", "params": {"condition": column.name}}, {"solver": "generate", "params": {}}],
        },
        "results": {
            "total_samples": column.trials.len(),
            "completed_samples": column.trials.len() - failed,
            "scores": [{"name": SCORER, "scorer": SCORER, "reducer": "mean", "params": {}, "metrics": metrics}],
        },
        "stats": {"started_at": started(run), "completed_at": started(run), "model_usage": {}},
        "samples": samples,
    })
}

/// inspect_ai names models as PROVIDER/NAME.
fn model(run: &Run) -> String {
    format!("llama-cpp/{}", run.manifest.model.file_name().trim_end_matches(".gguf"))
}

fn sample(trial: &Trial, prompt: Option<&PromptRow>, model: &str) -> Value {
    let row = trial.row;
    let turns = prompt.map(turns).unwrap_or_default();
    let mut messages: Vec<Value> =
        turns.iter().map(|(role, text)| json!({"role": role, "content": text, "source": "input"})).collect();
    let input = messages.clone();
    let answer = json!({"role": "assistant", "content": row.response, "source": "generate", "model": model});
    messages.push(answer.clone());
    let stop = match row.stop_reason.as_str() {
        "length" => "max_tokens",
        "" => "unknown",
        _ => "stop",
    };
    let instructions: Vec<Value> = trial
        .instructions
        .iter()
        .map(|row| {
            json!({
                "type": row.kind, "score": row.score, "survival": row.survival, "n_tokens": row.n_tokens,
                "pass_strict": row.pass_strict, "pass_loose": row.pass_loose,
            })
        })
        .collect();
    let score = row.mean_score.map(|value| {
        json!({SCORER: {
            "value": value, "answer": row.response, "explanation": trial.verdicts(),
            "metadata": {"instructions": instructions}, "history": [],
        }})
    });
    let error = (!row.error.is_empty())
        .then(|| json!({"message": row.error, "traceback": row.error, "traceback_ansi": row.error}));
    let seconds = (row.prefill_ms + row.decode_ms) / 1e3;
    json!({
        "id": row.example_id,
        "epoch": row.repeat + 1,
        "input": if input.is_empty() { Value::from("") } else { input.into() },
        "target": "",
        "messages": messages,
        "output": {
            "model": model,
            "choices": [{"message": answer, "stop_reason": stop}],
            "completion": row.response,
            "usage": {
                "input_tokens": row.n_prompt, "output_tokens": row.n_generated,
                "total_tokens": row.n_prompt + row.n_generated,
            },
            "time": seconds,
        },
        "scores": score,
        "metadata": {
            "condition": row.condition, "seed": row.seed, "n_kept": row.n_kept, "n_evicted": row.n_evicted,
            "evicted_ranges": row.evicted_ranges, "kl_mean": row.kl_mean, "top1_agree": row.top1_agree,
        },
        "store": {},
        "events": [],
        "model_usage": {},
        "attachments": {},
        "error": error,
        "total_time": seconds,
    })
}
