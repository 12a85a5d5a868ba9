//! Scores, kept sets, and logits with a kept set per head, against an independent reference: float64 PyTorch code
//! written from the papers (`scripts/reference/scores.py`), on a tiny Gemma 3.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{run, tiny_model};
use serde::Deserialize;
use serde_json::Value;

const POLICIES: [&str; 9] =
    ["knorm", "keydiff", "tova", "h2o", "snapkv", "expected-attention", "lagkv", "kvzip:chunk=2048", "kvzip:chunk=100"];

#[derive(Deserialize)]
struct Cases {
    prompts: BTreeMap<String, Prompt>,
    kept: Vec<Kept>,
    logits: Vec<Logits>,
}

#[derive(Deserialize)]
struct Prompt {
    tokens: Vec<u32>,
    #[serde(rename = "continue")]
    forced: Vec<u32>,
}

/// At granularity `token`, on the mean over layers and KV heads.
#[derive(Deserialize)]
struct Kept {
    prompt: String,
    policy: String,
    ratio: String,
    kept: Value,
}

/// At ratio 0.5.
#[derive(Deserialize)]
struct Logits {
    prompt: String,
    policy: String,
    granularity: String,
    layers: String,
    expected: String,
}

/// What a wrapped policy keeps: one set at granularity `token`, else by layer and KV head.
#[derive(Deserialize)]
struct Wrapped {
    prompt: String,
    policy: String,
    granularity: String,
    ratio: String,
    kept: Value,
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scores").join(name)
}

fn cases() -> Cases {
    serde_json::from_slice(&std::fs::read(fixture("cases.json")).unwrap()).unwrap()
}

/// The values of a float32 array.
fn read_npy(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    npyz::NpyFile::new(&bytes[..]).expect("an .npy file").into_vec().expect("float32 values")
}

fn probe(prompt: &Prompt, arguments: &[&str]) -> Value {
    let list = |tokens: &[u32]| tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let (model, tokens, forced) = (tiny_model(), list(&prompt.tokens), list(&prompt.forced));
    let base = ["probe", "--json", "--kv-type=f32", "--flash-attn=off", "--n-predict=0", "--threads=1"];
    let prompt = ["--model", model.to_str().unwrap(), "--tokens", &tokens, "--continue", &forced];
    serde_json::from_slice(&run(0, &[&base, &prompt[..], arguments].concat()).stdout).expect("JSON")
}

fn largest(values: impl IntoIterator<Item = f32>) -> f32 {
    values.into_iter().fold(0.0, |max, value| max.max(value.abs()))
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    largest(a.iter().zip(b).map(|(a, b)| a - b))
}

#[test]
fn scores_per_layer_and_head_and_what_they_keep_equal_the_reference() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("scores.json");
    let cases = cases();
    for (name, prompt) in &cases.prompts {
        for policy in POLICIES {
            for case in cases.kept.iter().filter(|case| case.prompt == *name && case.policy == policy) {
                let said =
                    probe(prompt, &["--policy", policy, "--ratio", &case.ratio, "--scores", file.to_str().unwrap()]);
                assert_eq!(said["kept"], case.kept, "{name} {policy} at {}", case.ratio);
            }
            let written: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            let by_layer: BTreeMap<usize, Vec<Vec<f32>>> =
                serde_json::from_value::<BTreeMap<String, _>>(written["per_head"].clone())
                    .unwrap()
                    .into_iter()
                    .map(|(layer, heads)| (layer.parse().unwrap(), heads))
                    .collect();
            let actual: Vec<f32> = by_layer.into_values().flatten().flatten().collect();
            let expected = read_npy(&fixture(&format!("{name}-{}.npy", policy.replace(":chunk=", "-"))));
            // What a policy protects gets the largest score plus 1.
            let protects = matches!(policy, "tova" | "snapkv" | "expected-attention") || policy.starts_with("kvzip");
            let scale = largest(expected.iter().copied()) - f32::from(u8::from(protects));
            let error = difference(&actual, &expected) / scale;
            // lagkv's scores are ranks: two values closer than float32 resolves may change places.
            let allowed = if policy == "lagkv" { 1.01 / 128.0 } else { 1e-3 };
            println!("{name} {policy}: {error:.1e} of the largest score");
            assert!(error <= allowed, "{name} {policy}: off by {error} of the largest score");
        }
    }
}

#[test]
fn wrappers_share_budgets_and_keep_what_the_reference_keeps() {
    let wrapped: Vec<Wrapped> = serde_json::from_slice(&std::fs::read(fixture("wrapped.json")).unwrap()).unwrap();
    let cases = cases();
    for case in &wrapped {
        let Wrapped { prompt, policy, granularity, ratio, kept } = case;
        let said = probe(&cases.prompts[prompt], &["--policy", policy, "--granularity", granularity, "--ratio", ratio]);
        if granularity == "token" {
            assert_eq!(said["kept"], *kept, "{policy} at {ratio}");
        } else {
            let by_layer = said["kept_by_head"].as_object().expect("sets by layer");
            let by_layer: BTreeMap<usize, &Value> =
                by_layer.iter().map(|(layer, heads)| (layer.parse().unwrap(), heads)).collect();
            assert_eq!(
                serde_json::to_value(by_layer.into_values().collect::<Vec<_>>()).unwrap(),
                *kept,
                "{policy} at {ratio}"
            );
        }
    }
    assert_eq!(wrapped.len(), 24);
}

#[test]
fn logits_under_sets_of_each_head_or_layer_stay_within_the_error_floor() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("logits.npy");
    let logits = |prompt: &Prompt, arguments: &[&str]| {
        probe(prompt, &[arguments, &["--logits", file.to_str().unwrap()]].concat());
        read_npy(&file)
    };
    let cases = cases();
    for (name, prompt) in &cases.prompts {
        let whole = read_npy(&fixture(&format!("{name}-none.npy")));
        let floor = difference(&logits(prompt, &[]), &whole);
        assert!(floor < 1e-3, "{name}: the arithmetic itself is off by {floor}");
        for case in cases.logits.iter().filter(|case| case.prompt == *name) {
            let how = ["--policy", &case.policy, "--ratio=0.5", "--granularity", &case.granularity];
            let actual = logits(prompt, &[&how[..], &["--layers", &case.layers]].concat());
            let expected = read_npy(&fixture(&case.expected));
            let (error, effect) = (difference(&actual, &expected), difference(&expected, &whole));
            println!("{}: {:.2} times the floor", case.expected, error / floor);
            assert!(effect > 100.0 * floor, "{}: hiding shows no effect, and proves nothing", case.expected);
            assert!(error <= 3.0 * floor, "{}: off by {error}, floor {floor}", case.expected);
        }
    }
}
