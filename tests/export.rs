//! A run in the formats of other tools, read by these tools. `scripts/check-export.py` needs pandas, pyarrow, inspect_ai
//! and jsonschema from PyPI (`KVLLAMA_PYTHON` names an interpreter that has them); without them its part is skipped with
//! a message.

mod common;

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use common::run;

/// Exports the run into a folder per format.
fn exported(run_directory: &Path, out: &Path) {
    for format in ["parquet", "csv", "inspect", "kvpress", "eee"] {
        let place = out.join(format);
        run(0, &["export", run_directory.to_str().unwrap(), "--to", format, "--out", place.to_str().unwrap()]);
    }
}

fn python() -> String {
    std::env::var("KVLLAMA_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

#[test]
fn other_tools_read_what_is_exported() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    let new_run = |name: &str, options: &[&str]| {
        let out = place(name);
        let first = ["exp", "--quiet", "--threads", "1", "--out", out.to_str().unwrap()];
        run(0, &first.into_iter().chain(options.iter().copied()).collect::<Vec<_>>());
        exported(&out, &place(&format!("{name}-export")));
    };
    new_run(
        "rules",
        &["--policy", "random,streaming", "--ratio", "0.5", "--limit", "3", "--repeats", "2", "--fidelity"],
    );
    new_run(
        "recall",
        &["--data", "recall", "--policy", "snapkv", "--ratio", "0.5", "--limit", "2", "--n-predict", "8"],
    );

    // What can be seen without Python: every trial is there, with its axes and the reasons of its verdicts.
    let mut reader = csv::Reader::from_path(place("rules-export/csv/instructions.csv")).unwrap();
    let columns = reader.headers().unwrap().clone();
    let at = |name: &str| columns.iter().position(|column| column == name).unwrap();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert!(rows.iter().all(|row| !row[at("reason")].is_empty() && !row[at("text")].is_empty()), "{:?}", rows[0]);
    assert!(rows.iter().any(|row| &row[at("policy")] == "random" && &row[at("ratio")] == "0.5"));
    assert!(place("recall-export/kvpress/recall__default__snapkv__0.50/config.yaml").exists());

    let needed = "import pandas, pyarrow, inspect_ai, jsonschema";
    if !Command::new(python()).args(["-c", needed]).output().is_ok_and(|output| output.status.success()) {
        let _ = std::io::stderr().write_all(b"SKIPPED: exports were not read by Python, which lacks the packages\n");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/check-export.py");
    for name in ["rules", "recall"] {
        let output = Command::new(python()).arg(&script).args([place(name), place(&format!("{name}-export"))]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn what_is_no_run_or_no_csv_is_refused() {
    let refused = |arguments: &[&str], part: &str| {
        let said = run(2, arguments).stderr;
        assert!(String::from_utf8_lossy(&said).contains(part), "{}", String::from_utf8_lossy(&said));
    };
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/run");
    refused(&["export", "tests", "--to", "csv"], "holds no run");
    refused(&["export", fixture, "--to", "parquet", "--excel-safe"], "--excel-safe is for CSV files");
    refused(&["export", fixture, "--to", "xlsx"], "invalid value 'xlsx'");
}
