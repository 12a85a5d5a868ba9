//! Policies of one's own: programs that kvllama asks (`exec:`), files with scores (`scores:`). The library's own scores
//! (`own:`) have a doc test.

mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{kvllama, rows, run};
use serde_json::{Value, json};

const PROMPT: [&str; 2] =
    ["--prompt", "Tell me about the owl for my old uncle. No commas are allowed. Include the word lantern."];
const EXAMPLES: [(&str, &str); 2] = [("snapkv", "exec:examples/snapkv.py"), ("knorm", "exec:examples/knorm.py")];

/// Whether the examples can run: they need numpy.
fn numpy() -> bool {
    let found =
        Command::new("python3").args(["-c", "import numpy"]).output().is_ok_and(|output| output.status.success());
    if !found {
        // Written past the test harness: a skip must be seen.
        std::io::stderr().write_all(b"SKIPPED: python3 has no numpy; python3 -m pip install numpy\n").unwrap();
    }
    found
}

fn probe(arguments: &[&str]) -> Value {
    let output =
        run(0, &[&["probe", "--json", "--n-predict=0", "--threads=1", "--ratio=0.5"], &PROMPT[..], arguments].concat());
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Writes an executable shell script that gets each request as `$line`.
fn program(directory: &Path, hello: &str, scores: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = directory.join("mine.sh");
    let text = format!(
        "#!/bin/sh\nwhile read -r line; do case \"$line\" in\n*'\"ask\":\"hello\"'*) {hello} ;;\n*) {scores} ;;\nesac done\n"
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

const HELLO: &str = "echo '{\"protocol\": 1}'";
/// Later positions score higher, as under `streaming` without sinks.
const LATE: &str =
    "n=$(printf %s \"$line\" | sed 's/.*\"length\":\\([0-9]*\\).*/\\1/'); echo \"{\\\"scores\\\": [$(seq -s, 1 $n)]}\"";

#[test]
fn the_examples_keep_exactly_what_the_built_in_policies_keep() {
    if !numpy() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let policies = EXAMPLES.map(|(built_in, own)| format!("{built_in},{own}")).join(",");
    let arguments = ["exp", "--quiet", "--ratio=0.5,0.75", "--limit=100", "--n-predict=1", "--policy", &policies];
    run(0, &[&arguments[..], &["--out", out.to_str().unwrap()]].concat());
    let trials = rows(&out, "trials.csv");
    let mut compared = 0;
    for (key, row) in trials.iter().filter(|(key, _)| key[1].starts_with("exec:")) {
        let mut same = key.clone();
        same[1] = key[1].replace("exec:examples/", "").replace(".py", "");
        let other = &trials[&same];
        assert_eq!(row["evicted_ranges"], other["evicted_ranges"], "{key:?}");
        compared += 1;
    }
    assert_eq!(compared, 400);
    for more in [&["--granularity=head"][..], &["--granularity=layer"], &["--flash-attn=on"]] {
        for (built_in, own) in EXAMPLES {
            if more[0] != "--flash-attn=on" {
                let wrapped = ["adakv+", "chunkkv+"][usize::from(more[0].ends_with("layer"))];
                let kept = |policy: &str| {
                    probe(&[&["--policy", &format!("{wrapped}{policy}")], more].concat())["kept_by_head"].clone()
                };
                assert_eq!(kept(own), kept(built_in), "{wrapped}{own} {more:?}");
            }
            let kept = |policy: &str| probe(&[&["--policy", policy], more].concat());
            let (own, built_in) = (kept(own), kept(built_in));
            assert_eq!(
                (&own["kept"], &own["kept_by_head"]),
                (&built_in["kept"], &built_in["kept_by_head"]),
                "{more:?}"
            );
        }
    }
}

#[test]
fn a_program_gets_the_tensors_and_texts_it_asks_for() {
    if !numpy() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // Computes the attention of the last query from queries and keys, and compares it with the sums it gets.
    let text = r#"#!/usr/bin/env python3
import json, sys
import numpy as np
for line in sys.stdin:
    ask = json.loads(line)
    if ask["ask"] == "hello":
        assert ask["parameters"] == {"power": 2, "name": "x"}, ask
        needs = ["keys", "raw_keys", "values", "queries", "raw_queries", "attention_sums", "attention_maxima"]
        print(json.dumps({"protocol": 1, "needs": needs, "last": 1}), flush=True)
        continue
    text = "".join(ask["texts"])
    user = next(span for span in ask["spans"] if span["label"] == "user")
    assert text.find("owl") > 0 and ask["length"] == len(ask["tokens"]) and user["end"] <= ask["length"] + 1, text
    for layer in ask["layers"]:
        load = lambda name: np.load(layer[name]).astype(float)
        shape = (ask["length"], layer["kv_heads"])
        assert load("values").shape == (*shape, layer["d_v"]) and load("raw_keys").shape == (*shape, layer["d_k"])
        assert abs(np.linalg.norm(load("raw_keys"), axis=2) - np.linalg.norm(load("keys"), axis=2)).max() < 1e-3
        assert load("raw_queries").shape == load("queries").shape == (1, layer["heads"], layer["d_k"])
        group = layer["heads"] // layer["kv_heads"]
        logits = np.einsum("qhd,khd->hqk", load("queries"), load("keys").repeat(group, axis=1)) * layer["scale"]
        weights = np.exp(logits - logits.max(axis=2, keepdims=True))
        weights = (weights / weights.sum(axis=2, keepdims=True)).reshape(layer["kv_heads"], group, -1)
        for mine, given in [(weights.mean(axis=1), "attention_sums"), (weights.max(axis=1), "attention_maxima")]:
            assert abs(mine - load(given)).max() < 2e-3, (given, abs(mine - load(given)).max())
    print(json.dumps({"scores": list(range(ask["length"]))}), flush=True)
"#;
    let path = program(directory.path(), HELLO, LATE);
    std::fs::write(&path, text).unwrap();
    let kept = probe(&["--policy", &format!("exec:{}:power=2,name=x", path.display())])["kept"].clone();
    assert_eq!(kept, probe(&["--policy=streaming:sinks=0"])["kept"]);
}

#[test]
fn a_program_may_answer_which_positions_survive() {
    let directory = tempfile::tempdir().unwrap();
    let keep = "case \"$line\" in *'\"ask\":\"keep\"'*) n=$(printf %s \"$line\" | sed 's/.*\"length\":\\([0-9]*\\).*/\\1/'); \
                k=$(printf %s \"$line\" | sed 's/.*\"keep\":\\([0-9]*\\),.*/\\1/'); \
                echo \"{\\\"keep\\\": [$(seq -s, $((n - k)) $((n - 1)))]}\" ;; esac";
    let path = program(directory.path(), "echo '{\"protocol\": 1, \"answers\": \"keep\"}'", keep);
    let policy = format!("exec:{}", path.display());
    let kept = |policy: &str| probe(&["--policy", policy])["kept"].clone();
    assert_eq!(kept(&policy), kept("streaming:sinks=0"));
    let by_head = probe(&["--policy", &policy, "--granularity=head"]);
    assert_eq!(by_head["n_kept"], probe(&["--policy=random"])["n_kept"]);
    // Of each budget it is asked anew.
    let out = directory.path().join("run");
    let arguments = ["exp", "--quiet", "--limit=2", "--n-predict=1", "--ratio=0.25,0.75", "--protect=none"];
    run(
        0,
        &[&arguments[..], &["--policy", &format!("{policy},streaming:sinks=0"), "--out", out.to_str().unwrap()]]
            .concat(),
    );
    let trials = rows(&out, "trials.csv");
    for (key, row) in trials.iter().filter(|(key, _)| key[1].starts_with("exec:")) {
        let mut same = key.clone();
        same[1] = key[1].replace(&policy, "streaming:sinks=0");
        assert_eq!(row["evicted_ranges"], trials[&same]["evicted_ranges"]);
    }
    for (more, sentence) in [("--protect=bos", "must survive"), ("--fair", "no wrapper and no --fair")] {
        let output =
            kvllama([&["probe", "--n-predict=0", "--ratio=0.5", more, "--policy", &policy], &PROMPT[..]].concat())
                .output();
        let said = String::from_utf8_lossy(&output.as_ref().unwrap().stderr).into_owned();
        assert!(said.contains(sentence), "{more}: {said}");
    }
}

#[test]
fn a_program_that_fails_is_refused_in_one_sentence_before_the_first_trial() {
    let directory = tempfile::tempdir().unwrap();
    let cases: &[(&str, &str, &str)] = &[
        (
            "echo 'out of luck' >&2; exit 3",
            LATE,
            "ended (exit status: 3) instead of answering; its last words: out of luck",
        ),
        ("echo hello", LATE, "answered `hello`, which is no JSON object"),
        ("echo '{\"protocol\": 2}'", LATE, "speaks protocol 2"),
        ("echo '{\"protocol\": 1, \"needs\": [\"key\"]}'", LATE, "unknown variant `key`, expected one of `keys`"),
        ("echo '{\"protocol\": 1, \"last\": 0}'", LATE, "`last` below 1"),
        ("sleep 30", LATE, "gave no answer within 1 s"),
        ("exec >&-; sleep 30", LATE, "its stdout is closed"),
        ("echo '{\"error\": \"no such parameter\"}'", LATE, "says: no such parameter"),
        (HELLO, "exit 1", "ended (exit status: 1)"),
        (HELLO, "sleep 30", "gave no answer within 1 s"),
        (HELLO, "echo '{\"scores\": [NaN]}'", "no JSON object on one line (NaN is not JSON either)"),
        (HELLO, "echo '{\"scores\": [1, 2]}'", "its shape is (2,), and it must be (15,), ("),
        (HELLO, "echo '{\"scores\": [[1], [1, 2]]}'", "side by side"),
        (HELLO, "echo '{\"scores\": \"none.npy\"}'", "none.npy"),
        (HELLO, "echo '{\"score\": [1]}'", "answers without `scores`"),
        ("echo '{\"protocol\": 1}'; echo more; sleep 1", LATE, "a line that nobody asked for: `more`"),
        ("yes | tr -d '\\n'", LATE, "gave no answer within 1 s"),
    ];
    for (hello, scores, sentence) in cases {
        let path = program(directory.path(), hello, scores);
        let out = directory.path().join("run");
        let policy = format!("exec:{}:timeout=1", path.display());
        let arguments = ["exp", "--quiet", "--ratio=0.5", "--limit=2", "--n-predict=1", "--policy", &policy];
        let output = run(2, &[&arguments[..], &["--out", out.to_str().unwrap()]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(sentence) && said.lines().count() == 1, "{hello} {scores}: {said}");
        assert!(!out.exists(), "{hello} {scores}: the run was begun");
    }
    for (policy, sentence) in [("exec:./no-such-program", "cannot be started"), ("exec:Cargo.toml", "chmod +x")] {
        let output = run(2, &["exp", "--ratio=0.5", "--policy", policy]);
        assert!(String::from_utf8_lossy(&output.stderr).contains(sentence), "{policy}");
    }
    let path = program(directory.path(), HELLO, LATE);
    let output = run(2, &["exp", "--rolling=40", "--policy", &format!("exec:{}", path.display())]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("this policy scores a prompt once"));
}

#[test]
fn a_program_that_fails_later_ends_the_run_which_goes_on_when_it_is_mended() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let examples = std::fs::read_to_string("data/demo.jsonl").unwrap();
    let third: Value = serde_json::from_str(examples.lines().nth(2).unwrap()).unwrap();
    let failing = format!("case \"$line\" in *'\"example\":{}'*) exit 9 ;; *) {LATE} ;; esac", third["id"]);
    let path = program(directory.path(), HELLO, &failing);
    let policy = format!("exec:{}", path.display());
    let arguments =
        ["exp", "--quiet", "--limit=4", "--n-predict=1", "--parallel=1", "--ratio=0.5", "--policy", &policy, "--out"];
    let arguments = [&arguments[..], &[out.to_str().unwrap()]].concat();
    let output = run(1, &arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("ended (exit status: 9)"), "{said}");
    let trials = rows(&out, "trials.csv");
    assert_eq!(trials.len(), 4, "two examples, each with the full cache");
    assert!(trials.values().all(|row| row["error"].is_empty()));
    // Another program of the same name would give rows that do not belong to this run.
    program(directory.path(), HELLO, LATE);
    let output = run(2, &arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("holds another run: policy was") && said.contains("SHA-256"), "{said}");
    // The same program goes on, and only the rest is run.
    program(directory.path(), HELLO, &failing);
    run(1, &arguments);
    assert_eq!(rows(&out, "trials.csv"), trials);
    let manifest: Value = serde_json::from_slice(&std::fs::read(out.join("manifest.json")).unwrap()).unwrap();
    let sha256 = manifest["sessions"][0]["sources"][path.to_str().unwrap()].as_str().unwrap();
    assert_eq!(sha256.len(), 64);
}

#[test]
fn scores_from_a_file_rank_as_the_policy_that_made_them() {
    let directory = tempfile::tempdir().unwrap();
    let (made, file) = (directory.path().join("made.json"), directory.path().join("scores.jsonl"));
    let built_in = probe(&["--policy=snapkv", "--scores", made.to_str().unwrap()])["kept"].clone();
    let scores: Value = serde_json::from_slice(&std::fs::read(made).unwrap()).unwrap();
    let policy = format!("scores:{}", file.display());
    let write = |example: &str, scores: &Value| {
        std::fs::write(&file, json!({"example_id": example, "scores": scores}).to_string()).unwrap();
    };
    write("probe", &scores["aggregate"]);
    assert_eq!(probe(&["--policy", &policy])["kept"], built_in);
    let per_head: Vec<&Value> = scores["per_head"].as_object().unwrap().values().collect();
    write("probe", &json!(per_head));
    assert_eq!(probe(&["--policy", &policy])["kept"], built_in);
    let by_head = |policy: &str| probe(&["--policy", policy, "--granularity=head"])["kept_by_head"].clone();
    assert_eq!(by_head(&policy), by_head("snapkv"));
    let exp = |sentence: &str| {
        let output = run(2, &["exp", "--quiet", "--limit=1", "--ratio=0.5", "--policy", &policy]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(sentence) && said.lines().count() == 1, "{said}");
    };
    exp("has no scores of the example");
    let text = std::fs::read_to_string("data/demo.jsonl").unwrap();
    let id = serde_json::from_str::<Value>(text.lines().next().unwrap()).unwrap()["id"].clone();
    write(id.as_str().unwrap(), &json!([1.0, 2.0]));
    exp("positions are cached");
    std::fs::write(&file, "{\"example_id\": \"a\", \"scores\": [NaN]}\n").unwrap();
    exp("scores.jsonl:1:");
}
