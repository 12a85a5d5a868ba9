//! Records of Every Eval Ever (<https://github.com/evaleval/every_eval_ever>), schema 0.3.0: per condition an aggregate
//! `DATASET/DEVELOPER/MODEL/UUID.json` and its samples in `UUID_samples.jsonl`.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::conditions::{Column, columns, prompts, slug, turns};
use super::{File, json_bytes};
use crate::condition::Condition;
use crate::exp::PromptRow;
use crate::report::Run;

const SCHEMA: &str = "0.3.0";

pub fn of(run: &Run) -> Vec<File> {
    let model = Model::of(run);
    let data = slug(&dataset(run));
    let folder = format!("{data}/{}/{}", slug(&model.developer), slug(&model.name));
    let files = columns(run).into_iter().filter(|column| column.headline().is_some()).flat_map(|column| {
        let stem = format!("{folder}/{}", uuid(&[&run.manifest.run_id, &column.name]));
        let samples = samples(run, &column, &model);
        let lines: String = samples.iter().map(|sample| format!("{sample}\n")).collect();
        let detail = json!({
            "format": "jsonl", "file_path": format!("data/{stem}_samples.jsonl"), "hash_algorithm": "sha256",
            "checksum": crate::hex(&Sha256::digest(&lines)), "total_rows": samples.len(),
        });
        let aggregate = aggregate(run, &column, &model, detail);
        [
            (format!("{stem}.json").into(), json_bytes(&aggregate)),
            (format!("{stem}_samples.jsonl").into(), lines.into_bytes()),
        ]
    });
    files.collect()
}

/// The model as `DEVELOPER/NAME`; `unknown` if the name does not come from the hub.
struct Model {
    developer: String,
    name: String,
}

impl Model {
    fn of(run: &Run) -> Self {
        let name = run.manifest.model.name.split(':').next().unwrap_or_default();
        match name.split_once('/') {
            Some((developer, repo))
                if !run.manifest.model.name.ends_with(".gguf") || run.manifest.model.name.contains(':') =>
            {
                Model { developer: developer.to_owned(), name: repo.to_owned() }
            }
            _ if name == crate::models::EMBEDDED => Model { developer: "kvllama".into(), name: "default".into() },
            _ => {
                let name = run.manifest.model.file_name().trim_end_matches(".gguf").to_owned();
                Model { developer: "unknown".into(), name }
            }
        }
    }

    fn id(&self) -> String {
        format!("{}/{}", self.developer, self.name)
    }
}

fn dataset(run: &Run) -> String {
    let name = std::path::Path::new(&run.manifest.data.name);
    name.file_stem().unwrap_or(name.as_os_str()).to_string_lossy().into_owned()
}

/// The same for the same run and condition, in the form of a UUID (of version 4, as the schema asks).
fn uuid(parts: &[&str]) -> String {
    let mut hash = Sha256::digest(parts.join("\n"));
    hash[6] = 0x40 | (hash[6] & 0x0f);
    hash[8] = 0x80 | (hash[8] & 0x3f);
    let hex = crate::hex(&hash[..16]);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn evaluation_id(run: &Run, column: &Column, model: &Model) -> String {
    format!("kvllama/{}/{}/{}/{}", dataset(run), model.id(), run.manifest.run_id, column.name)
}

/// Seconds since 1970 of the run's start, as text.
fn timestamp(run: &Run) -> String {
    let format = &time::format_description::well_known::Rfc3339;
    let started = time::OffsetDateTime::parse(run.manifest.started(), format);
    started.map_or_else(|_| "0".to_owned(), |time| time.unix_timestamp().to_string())
}

/// Key-value pairs, all values text, as the schema asks.
fn details(pairs: impl IntoIterator<Item = (String, String)>) -> Value {
    let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    Value::Object(pairs.map(|(name, value)| (name, value.into())).collect::<Map<_, _>>())
}

fn aggregate(run: &Run, column: &Column, model: &Model, detail: Value) -> Value {
    let manifest = &run.manifest;
    let generation = &manifest.generation;
    let headline = column.headline().expect("columns without scores are left out");
    let axes = Condition::columns().map(str::to_owned).zip(column.condition.cells());
    let session = manifest.sessions.last();
    let mut uncertainty = json!({"num_samples": headline.n});
    if let (Some(deviation), Some(error)) = (headline.deviation, headline.error()) {
        uncertainty["standard_deviation"] = deviation.into();
        uncertainty["standard_error"] = json!({"value": error, "method": "analytic"});
    }
    json!({
        "schema_version": SCHEMA,
        "evaluation_id": evaluation_id(run, column, model),
        "evaluation_timestamp": manifest.started(),
        "retrieved_timestamp": timestamp(run),
        "source_metadata": {
            "source_name": "kvllama", "source_type": "evaluation_run", "source_organization_name": "unknown",
            "evaluator_relationship": "third_party",
        },
        "eval_library": {
            "name": "kvllama", "version": manifest.build().kvllama,
            "additional_details": details([("git_commit".to_owned(), manifest.build().git_commit.clone())]),
        },
        "model_info": {
            "name": manifest.model.file_name(),
            "id": model.id(),
            "developer": model.developer,
            "inference_engine": {"name": "llama.cpp", "version": manifest.build().llama_cpp},
            "additional_details": {
                "deployment_type": "self_deployed", "model_availability": "open_weights",
                "file_sha256": manifest.model.sha256, "file_size": manifest.model.file_size.to_string(),
            },
        },
        "evaluation_results": [{
            "evaluation_result_id": "instructions_followed",
            "evaluation_name": dataset(run),
            "source_data": {
                "dataset_name": dataset(run), "source_type": "other",
                "additional_details": details([("sha256".to_owned(), manifest.data.sha256.clone())]),
            },
            "metric_config": {
                "evaluation_description": "Mean over examples of the share of instructions followed, after entries of \
                                           the KV cache were evicted as the condition says",
                "metric_id": "instructions_followed", "metric_name": "Instructions followed", "metric_kind": "accuracy",
                "metric_unit": "proportion", "lower_is_better": false, "score_type": "continuous", "min_score": 0.0,
                "max_score": 1.0,
            },
            "score_details": {"score": headline.mean, "uncertainty": uncertainty},
            "generation_config": {
                "generation_args": {
                    "temperature": generation.sampling.temperature, "top_p": generation.sampling.top_p,
                    "top_k": generation.sampling.top_k, "max_tokens": generation.n_predict,
                    "execution_command": session.map(|session| session.command.join(" ")).unwrap_or_default(),
                },
                "additional_details": details([("condition".to_owned(), column.name.clone())].into_iter().chain(axes)),
            },
        }],
        "detailed_evaluation_results": detail,
    })
}

fn samples(run: &Run, column: &Column, model: &Model) -> Vec<Value> {
    let prompts = prompts(run);
    let scored = column.trials.iter().filter_map(|trial| Some((trial, trial.row.mean_score?)));
    scored
        .map(|(trial, score)| {
            let row = trial.row;
            let prompt: Option<&&PromptRow> = prompts.get(row.example_id.as_str());
            let raw: Vec<String> =
                prompt.map(|prompt| turns(prompt).into_iter().map(|(_, text)| text).collect()).unwrap_or_default();
            let formatted = prompt.map(|prompt| prompt.pieces.concat());
            json!({
                "schema_version": SCHEMA,
                "evaluation_id": evaluation_id(run, column, model),
                "model_id": model.id(),
                "evaluation_name": dataset(run),
                "evaluation_result_id": "instructions_followed",
                "sample_id": row.example_id,
                "interaction_type": "single_turn",
                "input": {"raw": raw.join("\n\n"), "formatted": formatted, "reference": []},
                "output": {"raw": [row.response]},
                "answer_attribution": [{
                    "turn_idx": 0, "source": "output.raw", "extracted_value": row.response,
                    "extraction_method": "whole_response", "is_terminal": true,
                }],
                "evaluation": {"score": score, "is_correct": crate::score::is_full(score)},
                "token_usage": {
                    "input_tokens": row.n_prompt, "output_tokens": row.n_generated,
                    "total_tokens": row.n_prompt + row.n_generated,
                },
                "performance": {
                    "latency_ms": row.prefill_ms + row.decode_ms, "time_to_first_token_ms": row.prefill_ms,
                    "generation_time_ms": row.decode_ms,
                },
                "metadata": details([
                    ("condition".to_owned(), row.condition.clone()),
                    ("repeat".to_owned(), row.repeat.to_string()),
                    ("seed".to_owned(), row.seed.to_string()),
                    ("evicted_ranges".to_owned(), row.evicted_ranges.clone()),
                ]),
            })
        })
        .collect()
}
