//! The result folders of kvpress's `evaluation/evaluate.py`, one per condition:
//! `DATASET__MODEL__PRESS__RATIO/{predictions.csv,metrics.json,config.yaml}`.
//!
//! Where every rule is one of RULER's, the metrics are those of kvpress's own scorer; else the mean score in percent.

use serde_json::{Value, json};

use super::conditions::{Column, Trial, columns, prompts, slug, turns};
use super::{Column as Head, File, Kind, Sheet, csv, json_bytes};
use crate::data::Instruction;
use crate::report::Run;
use crate::report::table::mean;

/// Policies that are a press of kvpress's registry under another name. kvpress's `expected_attention` is Ada-KV on
/// expected attention.
const PRESSES: [(&str, &str); 11] = [
    ("none", "no_press"),
    ("streaming", "streaming_llm"),
    ("random", "random"),
    ("knorm", "knorm"),
    ("keydiff", "keydiff"),
    ("snapkv", "snapkv"),
    ("tova", "tova"),
    ("h2o", "observed_attention"),
    ("lagkv", "lagkv"),
    ("kvzip", "kvzip"),
    ("adakv+expected-attention", "expected_attention"),
];

/// The columns of `predictions.csv`, as kvpress's RULER has them, without the context.
const COLUMNS: [(&str, Kind); 8] = [
    ("question", Kind::Text),
    ("answer_prefix", Kind::Text),
    ("answer", Kind::Text),
    ("task", Kind::Text),
    ("max_new_tokens", Kind::Integer),
    ("predicted_answer", Kind::Text),
    ("compression_ratio", Kind::Number),
    ("example_id", Kind::Text),
];

pub fn of(run: &Run, excel_safe: bool) -> Vec<File> {
    let files = columns(run).into_iter().flat_map(|column| {
        let folder = folder(run, &column);
        let (predictions, metrics) = predictions(run, &column);
        [
            (format!("{folder}/predictions.csv").into(), csv::of(&predictions, excel_safe)),
            (format!("{folder}/metrics.json").into(), json_bytes(&metrics)),
            (format!("{folder}/config.yaml").into(), config(run, &column).into_bytes()),
        ]
    });
    files.collect()
}

/// What was written for the ratio: a `--ratio`, else the share that was evicted.
fn ratio(column: &Column) -> f64 {
    let columns = crate::condition::Condition::columns().zip(column.condition.cells());
    let written = columns.filter(|(name, _)| *name == "ratio").find_map(|(_, cell)| cell.parse().ok());
    written.unwrap_or_else(|| column.evicted())
}

fn press(column: &Column) -> String {
    let policy = column.condition.policy.to_string();
    let known = PRESSES.iter().find(|(ours, _)| *ours == policy).map(|(_, theirs)| (*theirs).to_owned());
    known.unwrap_or_else(|| slug(&policy).replace(['+', '-'], "_"))
}

/// What the condition has beside its policy and budget: `/compact` becomes `__compact`.
fn rest(column: &Column) -> String {
    column.name.split_once('/').map_or_else(String::new, |(_, rest)| format!("__{}", slug(rest)))
}

fn model(run: &Run) -> String {
    run.manifest.model.name.replace('/', "--")
}

fn dataset(run: &Run) -> String {
    let name = std::path::Path::new(&run.manifest.data.name);
    slug(&name.file_stem().unwrap_or(name.as_os_str()).to_string_lossy())
}

fn folder(run: &Run, column: &Column) -> String {
    let model = slug(&model(run));
    format!("{}__{model}__{}__{:.2}{}", dataset(run), press(column), ratio(column), rest(column))
}

/// The settings under kvpress's names. The condition's own name stands where kvpress prints its press.
fn config(run: &Run, column: &Column) -> String {
    let generation = &run.manifest.generation;
    let command = format!("kvllama {} {}", run.manifest.build().kvllama, column.name);
    let fields = [
        ("dataset", json!(dataset(run))),
        ("data_dir", Value::Null),
        ("model", json!(run.manifest.model.name)),
        ("device", Value::Null),
        ("press_name", json!(press(column))),
        ("compression_ratio", json!(ratio(column))),
        ("key_channel_compression_ratio", Value::Null),
        ("fraction", json!(1.0)),
        ("max_new_tokens", json!(generation.n_predict)),
        ("max_context_length", Value::Null),
        // kvllama evicts when the model has read the question too.
        ("query_aware", json!(true)),
        ("needle_depth", Value::Null),
        ("press_init_command", json!(command)),
        ("seed", json!(generation.seed)),
    ];
    // JSON scalars are YAML scalars.
    fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
}

fn predictions(run: &Run, column: &Column) -> (Sheet, Value) {
    let prompts = prompts(run);
    let ratio = ratio(column);
    let finished = column.trials.iter().filter(|trial| trial.row.error.is_empty());
    let mut rows = Vec::new();
    let mut tasks: Vec<(String, Vec<f64>)> = Vec::new();
    let mut all_ruler = true;
    for trial in finished {
        let prompt = prompts.get(trial.row.example_id.as_str());
        let asked = prompt.map(|prompt| &*prompt.instructions).unwrap_or_default();
        let ruler = ruler(asked);
        all_ruler &= ruler.is_some();
        let (task, references, score) = match ruler {
            Some((task, references)) => {
                let score = matched(task, &references, trial);
                (task.to_owned(), references, Some(score))
            }
            None => (dataset(run), Vec::new(), trial.row.mean_score),
        };
        let question =
            prompt.map(|prompt| turns(prompt).iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n\n"));
        rows.push(vec![
            question.unwrap_or_default().into(),
            "".into(),
            Value::from(references).to_string().into(),
            task.as_str().into(),
            run.manifest.generation.n_predict.into(),
            trial.row.response.as_str().into(),
            ratio.into(),
            trial.row.example_id.as_str().into(),
        ]);
        match tasks.iter_mut().find(|(known, _)| *known == task) {
            Some((_, scores)) => scores.extend(score),
            None => tasks.push((task, score.into_iter().collect())),
        }
    }
    let metric = if all_ruler { "string_match" } else { "score" };
    let percent = |scores: &[f64]| mean(scores.iter().copied()).map(|mean| (mean * 1e4).round() / 1e2);
    let metrics = tasks.iter().map(|(task, scores)| (task.clone(), json!({metric: percent(scores)}))).collect();
    let columns = COLUMNS.map(|(name, kind)| Head { name: name.to_owned(), kind }).to_vec();
    (Sheet { columns, rows }, Value::Object(metrics))
}

/// RULER's task and references, if all instructions are of one RULER rule: kvpress tells the rule from the task's name.
fn ruler(asked: &[Instruction]) -> Option<(&'static str, Vec<String>)> {
    let task = match asked.first()?.kind.as_str() {
        "ruler:string_match_all" => "niah",
        "ruler:string_match_part" => "qa",
        _ => return None,
    };
    let references = asked.iter().map(|instruction| {
        let references = instruction.kwargs.get("references")?.as_array()?;
        (instruction.kind == asked[0].kind)
            .then(|| references.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect::<Vec<_>>())
    });
    Some((task, references.collect::<Option<Vec<_>>>()?.concat()))
}

/// kvpress's `string_match_all` and `string_match_part` on one answer.
fn matched(task: &str, references: &[String], trial: &Trial) -> f64 {
    let answer: String = trial.row.response.trim().chars().filter(|letter| *letter > '\u{1f}').collect();
    let answer = answer.trim().to_lowercase();
    let hits = references.iter().filter(|reference| answer.contains(&reference.to_lowercase())).count();
    if task == "qa" { f64::from(u8::from(hits > 0)) } else { hits as f64 / references.len().max(1) as f64 }
}
