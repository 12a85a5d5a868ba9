//! `probe` against an independent reference: float64 logits of a tiny Gemma 3 from `scripts/reference`, in which an
//! eviction is an attention mask. The difference with nothing evicted is the error floor of the arithmetic.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kvllama::condition::{Memory, Positions};
use kvllama::engine::{Chat, Entries, Reader, Rule, Speaker};
use kvllama::evict::{KeepSet, Layers};
use kvllama::llama::{ContextSettings, FlashAttn, LoadSettings, Model, Prompt, Sampler, Sampling};
use serde::Deserialize;

/// One line of `cases.json`.
#[derive(Deserialize)]
struct Case {
    name: String,
    prompt: String,
    tokens: Vec<u32>,
    evict: Vec<(u32, u32)>,
    positions: String,
    memory: String,
    #[serde(rename = "continue")]
    forced: Vec<u32>,
    expected: String,
}

impl Case {
    /// The logits that the binary writes for this case, with further options.
    fn probe(&self, out: &Path, more: &[&str]) -> Vec<f32> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvllama"));
        command
            .args(["probe", "--kv-type", "f32", "--flash-attn", "off", "--n-predict", "0"])
            // More threads would spend their time waiting for each other on matrices this small.
            .args(["--threads", "1"])
            .args(["--positions", &self.positions, "--memory", &self.memory])
            .args(["--tokens", &comma_separated(&self.tokens), "--continue", &comma_separated(&self.forced)])
            .arg("--model")
            .arg(fixture("model.gguf"))
            .arg("--logits")
            .arg(out)
            .args(more);
        if !self.evict.is_empty() {
            let ranges: Vec<String> = self.evict.iter().map(|(start, end)| format!("{start}..{end}")).collect();
            command.args(["--evict", &ranges.join(",")]);
        }
        let output = command.output().expect("the binary starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {}: {stderr}", self.name, output.status);
        let (logits, rows) = read_npy(out);
        assert_eq!(rows, 1 + self.forced.len() as u64, "{}: rows of logits", self.name);
        assert!(logits.iter().all(|logit| logit.is_finite()), "{}: a logit is not finite", self.name);
        logits
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference").join(name)
}

fn comma_separated(tokens: &[u32]) -> String {
    tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// The values of a two-dimensional float32 array, and its number of rows.
fn read_npy(path: &Path) -> (Vec<f32>, u64) {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let array = npyz::NpyFile::new(&bytes[..]).expect("an .npy file");
    assert_eq!(array.shape().len(), 2, "{}: dimensions", path.display());
    let rows = array.shape()[0];
    (array.into_vec().expect("float32 values"), rows)
}

fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "number of logits");
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn range(logits: &[f32]) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    max - logits.iter().copied().fold(f32::INFINITY, f32::min)
}

#[test]
fn logits_after_an_eviction_equal_the_independent_reference() {
    let cases: Vec<Case> = serde_json::from_slice(&fs::read(fixture("cases.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Logits and error floor of each prompt with nothing evicted; this case comes first.
    let mut full: HashMap<&str, (Vec<f32>, f32)> = HashMap::new();
    let mut wrong = Vec::new();
    for case in &cases {
        let out = folder.path().join(&case.expected);
        let logits = case.probe(&out, &[]);
        let (expected, _) = read_npy(&fixture(&case.expected));
        let error = max_difference(&logits, &expected);
        let (uncut, floor) = full.entry(&case.prompt).or_insert_with(|| {
            assert!(case.evict.is_empty(), "{}: the first case of a prompt evicts nothing", case.name);
            (logits.clone(), error)
        });
        if case.evict.is_empty() {
            let limit = 1e-4 * range(&expected);
            assert!(error <= limit, "{}: off by {error:e} with nothing evicted, at most {limit:e}", case.name);
        } else {
            // Without a real change, agreement would prove nothing.
            let moved = max_difference(&logits, uncut);
            assert!(moved > 1000.0 * *floor, "{}: the eviction moved the logits by {moved:e} only", case.name);
        }
        // Survivors that are copied together compute the same, with flash attention or without.
        if !case.evict.is_empty() && case.memory == "kv" {
            let dense = max_difference(&case.probe(&out, &["--dense"]), &expected);
            if dense > 3.0 * *floor {
                wrong.push(format!("{}, dense: off by {dense:e}, {:.1} times the floor", case.name, dense / *floor));
            }
            // Flash attention itself is less exact.
            let fused =
                |more: &[&str]| max_difference(&case.probe(&out, &[&["--flash-attn", "on"], more].concat()), &expected);
            let (shared, dense) = (fused(&[]), fused(&["--dense"]));
            if dense > 3.0 * shared.max(*floor) {
                wrong.push(format!("{}, dense with flash attention: off by {dense:e}, else {shared:e}", case.name));
            }
        }
        if error > 3.0 * *floor {
            wrong.push(format!("{}: off by {error:e}, {:.1} times the floor", case.name, error / *floor));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// A chat of three turns that was cut before each answer. No answer is generated: what a turn reads begins with the last
/// answer.
#[derive(Deserialize)]
struct Chatted {
    name: String,
    positions: String,
    turns: Vec<Turn>,
    expected: String,
}

#[derive(Deserialize)]
struct Turn {
    tokens: Vec<i32>,
    /// Of all tokens that were read so far, in ascending order.
    evict: Vec<usize>,
}

#[test]
fn logits_in_the_third_turn_of_a_chat_equal_the_independent_reference() {
    let model = Model::from_file(&fixture("model.gguf"), &LoadSettings::default(), None).unwrap();
    let kv_type = "f32".parse().unwrap();
    let settings = ContextSettings { n_ctx: 256, kv_type, flash_attn: FlashAttn::Off, ..ContextSettings::default() };
    let chats: Vec<Chatted> = serde_json::from_slice(&fs::read(fixture("chats.json")).unwrap()).unwrap();
    let logits = |chat: &Chatted, cut: bool| -> Vec<f32> {
        let mut reader = Reader::private(&model, settings.clone()).unwrap();
        let mut sampler = Sampler::new(&Sampling::default(), 0);
        let mut state = Chat::default();
        for turn in &chat.turns {
            let choose = |entries: &Entries| {
                let evicted = |origin: &usize| cut && turn.evict.contains(origin);
                let evicted = entries.origins.iter().enumerate().filter(|(_, origin)| evicted(origin));
                Ok(KeepSet::without(entries.origins.len(), evicted.map(|(index, _)| index).collect()))
            };
            let positions = if chat.positions == "keep" { Positions::Keep } else { Positions::Compact };
            let (layers, groups) = (Layers::All, Vec::new());
            let rule = Rule {
                rolling: None,
                positions,
                memory: Memory::Kv,
                layers,
                groups,
                score: None,
                choose: Box::new(choose),
            };
            let text = Prompt::from_tokens(&model, turn.tokens.clone()).unwrap();
            let speaker = Speaker { chat: &mut state, rule, text: &text, sampler: &mut sampler, given: None };
            reader.turns(&mut [speaker], 0).unwrap();
        }
        reader.context().logits(0).unwrap().to_vec()
    };
    let mut floor = f32::INFINITY;
    for chat in &chats {
        let (expected, _) = read_npy(&fixture(&chat.expected));
        let found = logits(chat, true);
        let error = max_difference(&found, &expected);
        // The first chat of each kind evicts nothing.
        if chat.turns.iter().all(|turn| turn.evict.is_empty()) {
            floor = error;
            assert!(error <= 1e-4 * range(&expected), "{}: off by {error:e} with nothing evicted", chat.name);
        } else {
            let moved = max_difference(&found, &logits(chat, false));
            assert!(moved > 1000.0 * floor, "{}: the evictions moved the logits by {moved:e} only", chat.name);
        }
        println!("{}: {error:e}, {:.1} times the floor", chat.name, error / floor);
        assert!(error <= 3.0 * floor, "{}: off by {error:e}, {:.1} times the floor", chat.name, error / floor);
    }
}
