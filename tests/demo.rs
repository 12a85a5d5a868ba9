//! The demo set and the model embedded for it.

use std::collections::HashSet;
use std::io::Write as _;
use std::process::Command;

use kvllama::data;
use kvllama::exp::prompt_of;
use kvllama::llama::{LoadSettings, Model};
use kvllama::models;

#[test]
fn the_demo_prompts_have_the_lengths_and_the_variety_they_promise() {
    let model = Model::from_bytes("default", models::EMBEDDED_GGUF, &LoadSettings::default(), None).unwrap();
    let examples = data::bundled::find("demo").unwrap().examples().unwrap();
    assert!(examples.len() >= 120);
    for example in &examples {
        let prompt = prompt_of(&model, example).unwrap();
        assert!((80..=600).contains(&prompt.tokens.len()), "{}: {} tokens", example.id, prompt.tokens.len());
        let located = example.instructions.iter().filter_map(|one| example.locate(one.text.as_deref()?)).count();
        assert_eq!(located, example.instructions.len(), "{}", example.id);
    }
    let kinds: HashSet<_> = examples.iter().flat_map(|one| &one.instructions).map(|one| &one.kind).collect();
    assert!(kinds.len() >= 16, "{kinds:?}");
    assert!(examples.iter().any(|example| example.messages[0].role.as_str() == "system"));
}

#[test]
fn training_cannot_have_drawn_a_demo_prompt() {
    let root = env!("CARGO_MANIFEST_DIR");
    let check = [&format!("{root}/scripts/train-default-model/demo.py"), "--check", &format!("{root}/data/demo.jsonl")];
    match Command::new("python3").args(check).env("PYTHONDONTWRITEBYTECODE", "1").output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            // Written past the test harness, which would hide it.
            let _ = writeln!(std::io::stderr(), "SKIPPED training_cannot_have_drawn_a_demo_prompt: python3: {error}");
        }
    }
}
