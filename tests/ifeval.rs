//! `kvllama score --ifeval`: the official verdicts, and what happens to bad input.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use kvllama::score::ifeval;
use serde_json::Value;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/ifeval");

fn json_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn verdicts_agree_with_the_official_ones() {
    let data = Path::new(DATA);
    if !data.exists() {
        // Written past the test harness, which would hide it.
        let _ = writeln!(std::io::stderr(), "SKIPPED verdicts_agree_with_the_official_ones: no IFEval data at {DATA}");
        return;
    }
    let prompts = data.join("input_data.jsonl");
    let scored = ifeval::score(&ifeval::read(&data.join("gpt4_responses.jsonl"), Some(&prompts)).unwrap());

    let prompts: HashMap<String, Value> =
        json_lines(&prompts).into_iter().map(|prompt| (prompt["key"].to_string(), prompt)).collect();
    let expected = json_lines(&data.join("gpt4_expected.jsonl"));
    assert_eq!(scored.len(), expected.len());
    for (ours, official) in scored.iter().zip(&expected) {
        assert_eq!(ours.key, official["key"]);
        let prompt = &prompts[&ours.key.to_string()];
        for (index, kind) in prompt["instruction_id_list"].as_array().unwrap().iter().enumerate() {
            // The official code counts a random letter instead of these two.
            if matches!(prompt["kwargs"][index]["letter"].as_str(), Some("#" | "!")) {
                continue;
            }
            let at = format!("{kind} of {}", ours.key);
            assert_eq!(ours.follow_list_strict[index], official["follow_list_strict"][index], "strict {at}");
            assert_eq!(ours.follow_list_loose[index], official["follow_list_loose"][index], "loose {at}");
        }
    }
}

const PROMPTS: &str = r#"{"key": 1, "prompt": "p", "instruction_id_list": ["punctuation:no_comma", "startend:quotation"], "kwargs": [{}, {"x": null}]}
{"key": "two", "prompt": "q", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [null]}
"#;

fn score(directory: &Path, responses: &str) -> Output {
    std::fs::write(directory.join("responses.jsonl"), responses).unwrap();
    std::fs::write(directory.join("prompts.jsonl"), PROMPTS).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvllama"));
    command.args([
        "score",
        "--ifeval",
        "responses.jsonl",
        "--prompts",
        "prompts.jsonl",
        "--out",
        "out.jsonl",
        "--json",
    ]);
    command.current_dir(directory).output().unwrap()
}

#[test]
fn responses_are_joined_with_their_prompts_by_key_or_by_prompt() {
    let directory = tempfile::tempdir().unwrap();
    let output = score(
        directory.path(),
        "{\"key\": 1, \"response\": \"**a**\\n\\\"b\\\"\"}\n\n{\"prompt\": \"q\", \"response\": \"\"}\n",
    );
    assert!(output.status.success(), "{output:?}");
    let out = std::fs::read_to_string(directory.path().join("out.jsonl")).unwrap();
    assert_eq!(
        out,
        "{\"key\":1,\"follow_all_strict\":false,\"follow_list_strict\":[true,false],\"follow_all_loose\":true,\"follow_list_loose\":[true,true]}\n\
         {\"key\":\"two\",\"follow_all_strict\":false,\"follow_list_strict\":[false],\"follow_all_loose\":false,\"follow_list_loose\":[false]}\n"
    );
    let accuracies: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(accuracies["prompt_loose"], 0.5);
    assert_eq!(accuracies["instruction_strict"], 1.0 / 3.0);
}

#[test]
fn a_bad_line_is_named_and_nothing_is_written() {
    let good = "{\"key\": 1, \"response\": \"a\"}\n";
    for (bad, what) in [
        ("{\"key\": 1", "EOF"),
        ("{\"key\": 1}", "`response` is missing"),
        ("{\"key\": 3, \"response\": \"a\"}", "`instruction_id_list` is missing"),
        ("{\"key\": 4, \"response\": \"a\", \"instruction_id_list\": [\"a:b\"], \"kwargs\": [{}]}", "`a:b`"),
        ("{\"key\": 4, \"response\": \"a\", \"instruction_id_list\": [\"a:b\"], \"kwargs\": []}", "must be as many"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let output = score(directory.path(), &format!("{good}{bad}\n"));
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains("responses.jsonl line 2") && message.contains(what), "{message}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "only the two inputs are there");
    }
}
