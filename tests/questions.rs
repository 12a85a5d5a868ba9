//! Several questions about one context: read once, cut once, each answered for itself.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{rows, run};
use serde_json::{Value, json};

type Rows = BTreeMap<Vec<String>, BTreeMap<String, String>>;

const CONTEXT: &str = "The hammer was old and yellow. Anna had three whales and one bridge. The golden farmer found the broken \
                       basket every week. The careful farmer borrowed the flute near the old mill. No commas are allowed.";
const QUESTIONS: [&str; 3] =
    ["Tell me about the owl.", "Please describe the boat. Include the word lantern.", "Tell me about the fox."];

/// The same questions about one context, and as examples of their own.
fn data() -> (Value, Vec<Value>) {
    let rule = json!({"type": "punctuation:no_comma", "text": "No commas are allowed."});
    let own = |question: &str| match question.contains("lantern") {
        true => vec![
            json!({"type": "keywords:existence", "kwargs": {"keywords": ["lantern"]}, "text": "Include the word lantern."}),
        ],
        false => Vec::new(),
    };
    let questions = QUESTIONS.map(|question| json!({"content": question, "instructions": own(question)}));
    let shared = json!({
        "id": "shared", "context": CONTEXT, "messages": [{"role": "user", "content": CONTEXT}],
        "instructions": [rule], "questions": questions,
    });
    let alone = QUESTIONS.iter().enumerate().map(|(number, question)| {
        let instructions = [vec![rule.clone()], own(question)].concat();
        json!({
            "id": format!("alone-{number}"), "context": CONTEXT, "question": question,
            "messages": [{"role": "user", "content": format!("{CONTEXT}\n\n{question}")}],
            "instructions": instructions,
        })
    });
    (shared.clone(), alone.collect())
}

fn write(directory: &Path, name: &str, examples: &[Value]) -> String {
    let path = directory.join(name);
    std::fs::write(&path, examples.iter().map(|one| one.to_string() + "\n").collect::<String>()).unwrap();
    path.display().to_string()
}

fn exp(data: &str, out: &Path, more: &[&str]) -> Rows {
    let out_text = out.to_str().unwrap();
    let fixed = ["exp", "--data", data, "--out", out_text, "--n-predict=24", "--threads=1"];
    run(0, &[&fixed, more].concat());
    rows(out, "trials.csv")
}

const GRID: [&str; 3] = ["--policy=streaming,snapkv", "--ratio=0.5", "--scope=prompt,context"];

#[test]
fn each_question_is_answered_as_if_it_were_asked_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, alone) = data();
    let shared = write(directory.path(), "shared.jsonl", &[shared]);
    let alone = write(directory.path(), "alone.jsonl", &alone);
    let one_by_one = [&GRID[..], &["--parallel=1"]].concat();
    let shared_rows = exp(&shared, &directory.path().join("shared"), &one_by_one);
    let alone_rows = exp(&alone, &directory.path().join("alone"), &one_by_one);
    assert_eq!(shared_rows.len(), alone_rows.len(), "a row for each question and condition");
    let (mut cut_once, mut cuts) = (BTreeMap::new(), 0);
    for (key, row) in &shared_rows {
        let [example, condition, repeat, question] = key.as_slice() else { panic!("{key:?}") };
        assert_eq!(example, "shared");
        let other = [format!("alone-{question}"), condition.clone(), repeat.clone(), "0".to_owned()];
        let other = &alone_rows[other.as_slice()];
        for column in ["n_prompt", "evicted_ranges", "response", "rule_score"] {
            assert_eq!(row[column], other[column], "{key:?}: {column}");
        }
        if row["scope"] == "context" {
            cuts += 1;
            cut_once.entry(condition).or_insert_with(|| row["evicted_ranges"].clone());
            assert_eq!(cut_once[condition], row["evicted_ranges"], "{condition}: all questions see the same cut cache");
        }
    }
    assert_eq!((cut_once.len(), cuts), (2, 6));

    // Side by side, and after an interruption that left some rows, it is the same run.
    let lanes = directory.path().join("lanes");
    let together = exp(&shared, &lanes, &[&GRID[..], &["--parallel=8"]].concat());
    assert!(together.keys().eq(shared_rows.keys()));
    assert!(together.iter().all(|(key, row)| row["evicted_ranges"] == shared_rows[key]["evicted_ranges"]));
    let out = directory.path().join("shared");
    for name in ["trials.csv", "instructions.csv"] {
        let text = std::fs::read_to_string(out.join(name)).unwrap();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let headers = reader.headers().unwrap().clone();
        let mut kept = csv::Writer::from_path(out.join(name)).unwrap();
        kept.write_record(&headers).unwrap();
        let turn = headers.iter().position(|column| column == "turn").unwrap();
        reader
            .records()
            .map(Result::unwrap)
            .filter(|row| &row[turn] == "1")
            .for_each(|row| kept.write_record(&row).unwrap());
        kept.flush().unwrap();
    }
    assert_eq!(exp(&shared, &out, &one_by_one), shared_rows, "a continued run has the same rows");
}

#[test]
fn questions_are_reported_merged_and_exported_and_no_chat() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = data();
    let other = {
        let mut other = shared.clone();
        other["id"] = json!("second");
        other
    };
    let data = write(directory.path(), "data.jsonl", &[shared, other]);
    let path = |name: &str| directory.path().join(name).display().to_string();
    for shard in ["1", "2"] {
        let out = path(shard);
        let split = format!("--shard={shard}/2");
        let mut output = common::kvllama([
            "exp",
            "--data",
            &data,
            "--out",
            &out,
            "--n-predict=8",
            "--policy=random",
            "--ratio=0.5",
            "--scope=context",
            &split,
        ]);
        assert!([Some(0), Some(2)].contains(&output.output().unwrap().status.code()), "a shard may be empty");
    }
    let parts: Vec<String> =
        ["1", "2"].into_iter().map(path).filter(|one| Path::new(one).join("trials.csv").exists()).collect();
    let whole = path("whole");
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    run(0, &[&["merge"], &parts[..], &["--out", &whole]].concat());
    assert_eq!(rows(whole.as_ref(), "trials.csv").len(), 2 * 2 * 3);
    run(0, &["report", &whole]);
    let stats: Value =
        serde_json::from_str(&std::fs::read_to_string(Path::new(&whole).join("stats.json")).unwrap()).unwrap();
    assert_eq!((&stats["n_examples"], &stats["turns"]), (&json!(2), &Value::Null), "questions are not turns");
    let refused = run(2, &["export", &whole, "--to", "inspect"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("several questions about one context"));
    run(0, &["export", &whole, "--to", "csv"]);
    let refused = run(2, &["exp", "--data", &data, "--out", &path("forget"), "--policy", "forget:instruction"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("write each question as an example"));
}
