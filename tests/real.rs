//! Real weights: SmolLM2 135M Instruct and Gemma 3 270M, which `scripts/real-models.sh` puts into `models/`. Without
//! them these tests skip with a message.

mod common;

use common::{real_model as model, rows, run};
use serde_json::Value;

const SMOLLM2: &str = "smollm2-135m-instruct-q4_1.gguf";
const GEMMA: &str = "gemma-3-270m-q4_k_m.gguf";
const POLICIES: &str =
    "streaming,random,knorm,keydiff,tova,snapkv,h2o,expected-attention,lagkv,sinks+h2o,kvzip,chunkkv+snapkv";
/// About 90 tokens in both vocabularies.
const STORY: &str = "Mara lives by the sea with a small grey dog. The dog is called Biscuit. Every morning they walk to the \
    harbour, where the boats come in with herring and mackerel. The fishermen know them both by now. In the afternoon \
    Mara mends nets on the porch, while the dog sleeps in the shade. On Sundays her brother comes over from the city and \
    cooks a soup of leeks and potatoes. ";

/// On one thread: the tests share the cores.
fn probe(model: &str, arguments: &[&str]) -> Value {
    let output = run(0, &[&["probe", "--json", "--threads=1", "--model", model], arguments].concat());
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn logits(model: &str, arguments: &[&str]) -> Vec<f32> {
    let file = tempfile::NamedTempFile::new().unwrap();
    probe(model, &[arguments, &["--logits", file.path().to_str().unwrap()]].concat());
    let bytes = std::fs::read(file.path()).unwrap();
    npyz::NpyFile::new(&bytes[..]).expect("an .npy file").into_vec().expect("float32 values")
}

#[test]
fn smollm2_follows_its_template_and_ends_its_turn() {
    let Some(model) = model(SMOLLM2) else { return };
    let said = probe(&model, &["--prompt=What is the capital of France? Answer in one word.", "--n-predict=40"]);
    assert!(said["text"].as_str().unwrap().contains("Paris"), "{}", said["text"]);
    assert_eq!(said["stop_reason"], "end_of_turn");
    let nobody_wrote = &said["preamble"];
    assert_eq!(nobody_wrote["text"], "You are a helpful AI assistant named SmolLM, trained by Hugging Face");
    let said = probe(&model, &["--prompt=Hello", "--system=Be kind.", "--n-predict=0"]);
    assert_eq!(said["preamble"], Value::Null);
}

#[test]
fn gemma_has_no_template_and_doctor_says_which_to_take() {
    let Some(model) = model(GEMMA) else { return };
    let said = run(0, &["doctor", "--model", &model]).stdout;
    let said = String::from_utf8(said).unwrap();
    assert!(
        said.contains("take --chat-template raw (the text as it is); for one that was tuned, --chat-template gemma")
    );
}

#[test]
fn nothing_evicted_is_bit_for_bit_the_full_cache() {
    for name in [SMOLLM2, GEMMA] {
        let Some(model) = model(name) else { continue };
        let prompt = ["--raw", "--prompt", &STORY[..160], "--flash-attn=off", "--continue=5,6,7"];
        let full = logits(&model, &prompt);
        assert!(full.iter().all(|logit| logit.is_finite()));
        for policy in ["streaming", "snapkv"] {
            let cut = logits(&model, &[&prompt[..], &["--policy", policy, "--ratio=0"]].concat());
            assert!(full == cut, "{name}: {policy} at ratio 0 moves the logits");
        }
    }
}

#[test]
fn streaming_keeps_sinks_and_recent_positions_and_forgets_what_was_between() {
    let Some(model) = model(SMOLLM2) else { return };
    let prompt = format!("--prompt={STORY}What is the name of Mara's dog?");
    let full = probe(&model, &[&prompt, "--n-predict=24"]);
    assert!(full["text"].as_str().unwrap().contains("Biscuit"), "{}", full["text"]);
    let cut = probe(&model, &[&prompt, "--n-predict=24", "--policy=streaming", "--ratio=0.5"]);
    let cached = cut["n_prompt"].as_u64().unwrap() - 1;
    let kept = cached / 2;
    assert_eq!(cut["kept"], serde_json::json!([[0, 4], [cached - (kept - 4), cached]]));
    assert!(!cut["text"].as_str().unwrap().contains("Biscuit"), "{}", cut["text"]);
}

#[test]
fn every_policy_runs_on_both_models() {
    let directory = tempfile::tempdir().unwrap();
    // lagkv ranks from 260 positions on, Gemma's window ends at 512.
    for (name, template, stories, least) in [(SMOLLM2, "chatml", 4, 260), (GEMMA, "raw", 7, 512)] {
        let Some(model) = model(name) else { continue };
        let line = serde_json::json!({
            "id": "a", "messages": [{"role": "user", "content": STORY.repeat(stories)}],
            "instructions": [{"type": "punctuation:no_comma"}],
        });
        let data = directory.path().join("data.jsonl");
        std::fs::write(&data, format!("{line}\n")).unwrap();
        let out = directory.path().join(name);
        let what = ["exp", "--model", &model, "--data", data.to_str().unwrap(), "--out", out.to_str().unwrap()];
        let how = ["--policy", POLICIES, "--ratio=0.5", "--n-predict=2", "--threads=1", "--chat-template", template];
        run(0, &[&what[..], &how].concat());
        let rows = rows(&out, "trials.csv");
        assert_eq!(rows.len(), 1 + POLICIES.split(',').count(), "{name}");
        for row in rows.values().filter(|row| row["policy"] != "none") {
            let cached = row["n_prompt"].parse::<usize>().unwrap() - 1;
            assert!(cached > least, "{name}: {cached} positions");
            assert_eq!(row["n_kept"], (cached / 2).to_string(), "{name} {}", row["condition"]);
        }
    }
}

#[test]
fn gemmas_local_layers_see_their_window_and_no_further() {
    let Some(model) = model(GEMMA) else { return };
    let (prompt, file) = (STORY.repeat(7), tempfile::NamedTempFile::new().unwrap());
    let how = ["--raw", "--policy=tova", "--ratio=0.5", "--n-predict=0", "--scores", file.path().to_str().unwrap()];
    let cached = probe(&model, &[&["--prompt", &prompt][..], &how].concat())["n_prompt"].as_u64().unwrap() as usize - 1;
    let written: Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
    // tova's score is the attention of the last cached query, at `cached - 1`.
    let first = cached - 512;
    assert!(first > 0, "{cached} positions");
    for (layer, heads) in written["per_head"].as_object().unwrap() {
        let scores: Vec<f64> = serde_json::from_value(heads[0].clone()).unwrap();
        let beyond = scores[..first].iter().sum::<f64>();
        let global = (layer.parse::<usize>().unwrap() + 1) % 6 == 0;
        assert_eq!(beyond > 0.0, global, "layer {layer} gives {beyond} of its attention to what is beyond the window");
        assert!(scores[first] > 0.0, "layer {layer} does not see the first position of its window");
    }
}
