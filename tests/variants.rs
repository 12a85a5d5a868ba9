//! criticalkv, duo, qfilters, policies as published, and fair scores, against an independent reference: float64 PyTorch
//! code written from the papers (`scripts/reference/variants.py`), on a tiny Gemma 3.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{run, tiny_model};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Fixture {
    /// The text that filters are measured on, in pieces of so many tokens.
    calibration: String,
    piece: usize,
    system: String,
    question: String,
    chat: Value,
    cases: Vec<Case>,
}

/// What a policy keeps: one set at granularity `token`, else by layer and KV head.
#[derive(Deserialize)]
struct Case {
    prompt: String,
    policy: String,
    granularity: String,
    ratio: String,
    options: Vec<String>,
    kept: Value,
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn read_npy(bytes: &[u8]) -> Vec<f32> {
    npyz::NpyFile::new(bytes).expect("an .npy file").into_vec().expect("float32 values")
}

/// The largest difference, in parts of the largest expected value.
fn off(actual: &[f32], expected: &[f32]) -> f32 {
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0f32, |max, value| max.max(value.abs()));
    assert_eq!(actual.len(), expected.len());
    largest(&mut actual.iter().zip(expected).map(|(a, b)| a - b)) / largest(&mut expected.iter().copied())
}

/// The values of an object by layer, in the order of layers.
fn by_layer(object: &Value) -> Vec<&Value> {
    let layers: BTreeMap<usize, &Value> =
        object.as_object().expect("by layer").iter().map(|(layer, value)| (layer.parse().unwrap(), value)).collect();
    layers.into_values().collect()
}

#[test]
fn variants_score_and_keep_what_the_reference_does() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let Fixture { calibration, piece, system, question, chat, cases } =
        serde_json::from_slice(&std::fs::read(fixture("variants/cases.json")).unwrap()).unwrap();
    let others: Value = serde_json::from_slice(&std::fs::read(fixture("scores/cases.json")).unwrap()).unwrap();
    let model = tiny_model();
    let model = ["--model", model.to_str().unwrap(), "--threads=1", "--flash-attn=off"];

    let (text, filters) = (at("text.txt"), at("filters.npz"));
    std::fs::write(&text, calibration).unwrap();
    let piece = piece.to_string();
    run(0, &[&["calibrate", "--data", &text, "--length", &piece, "--out", &filters], &model[..]].concat());
    let mut archive = zip::ZipArchive::new(std::fs::File::open(&filters).unwrap()).unwrap();
    let mut measured = Vec::new();
    for layer in 0..archive.len() - 1 {
        let mut bytes = Vec::new();
        let mut entry = archive.by_name(&format!("layer_{layer}.npy")).unwrap();
        std::io::copy(&mut entry, &mut bytes).unwrap();
        measured.extend(read_npy(&bytes));
    }
    let error = off(&measured, &read_npy(&std::fs::read(fixture("variants/filters.npy")).unwrap()));
    println!("filters: {error:.1e} of the largest");
    assert!(error < 1e-3, "the filters are off by {error}");

    let scores = at("scores.json");
    for Case { prompt, policy, granularity, ratio, options, kept } in &cases {
        let name = policy.replace("qfilters", &format!("qfilters:file={filters}"));
        let mut arguments =
            vec!["probe", "--json", "--kv-type=f32", "--n-predict=0", "--policy", &name, "--ratio", ratio];
        arguments.extend(model);
        arguments.extend(options.iter().map(String::as_str));
        if !options.iter().any(|option| option == "--as-published") {
            arguments.extend(["--granularity", granularity]);
        }
        let expected = std::fs::read(fixture(&format!("variants/{prompt}-{policy}.npy"))).ok();
        if expected.is_some() {
            arguments.extend(["--scores", &scores]);
        }
        let tokens: Vec<_> = others["prompts"][prompt]["tokens"].as_array().into_iter().flatten().collect();
        let tokens = tokens.iter().map(|token| token.to_string()).collect::<Vec<_>>().join(",");
        match prompt.as_str() {
            "chat" => arguments.extend(["--system", &system, "--prompt", &question]),
            _ => arguments.extend(["--tokens", &tokens]),
        }
        let said: Value = serde_json::from_slice(&run(0, &arguments).stdout).expect("JSON");
        let what = format!("{prompt} {policy} {options:?} by {granularity} at {ratio}");
        if prompt == "chat" {
            assert_eq!(said["tokens"], chat, "the reference has other tokens");
        }
        if granularity == "token" {
            assert_eq!(said["kept"], *kept, "{what}");
        } else {
            assert_eq!(serde_json::to_value(by_layer(&said["kept_by_head"])).unwrap(), *kept, "{what}");
        }
        if let Some(expected) = expected {
            let written: Value = serde_json::from_slice(&std::fs::read(&scores).unwrap()).unwrap();
            let layers = by_layer(written.get("second").unwrap_or(&written["per_head"]));
            let heads =
                layers.into_iter().flat_map(|heads| serde_json::from_value::<Vec<Vec<f32>>>(heads.clone()).unwrap());
            let error = off(&heads.flatten().collect::<Vec<_>>(), &read_npy(&expected));
            println!("{what}: {error:.1e} of the largest");
            assert!(error < 1e-3, "{what}: off by {error}");
        }
    }
    assert_eq!(cases.len(), 93);
}
