//! Shards become one run: it has the rows of a run that was never sharded, and works like any other.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{kvllama, run};

/// Columns that differ between any two runs.
const VARYING: [&str; 6] = ["run_id", "prefill_ms", "replay_ms", "evict_us", "decode_ms", "tokens_per_s"];

fn exp(out: &Path, more: &[&str]) {
    let base = ["exp", "--policy=random,snapkv:window=16", "--ratio=0.5", "--limit=16", "--parallel=1", "--out"];
    run(0, &[&base[..], &[out.to_str().unwrap()], more].concat());
}

/// The rows of a file, column by column, without the columns that vary.
fn rows(directory: &Path, file: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(directory.join(file)).unwrap();
    let columns = reader.headers().unwrap().clone();
    let row = |record: csv::StringRecord| {
        let cells = columns.iter().zip(record.iter()).filter(|(column, _)| !VARYING.contains(column));
        cells.map(|(column, cell)| (column.to_owned(), cell.to_owned())).collect()
    };
    reader.records().map(|record| row(record.unwrap())).collect()
}

fn merge(parts: &[PathBuf], out: &Path, code: i32, more: &[&str]) -> (String, String) {
    let mut command = kvllama(["merge"]);
    command.args(parts).arg("--out").arg(out).args(more);
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn eight_shards_merged_are_one_unsharded_run() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, merged) = (folder.path().join("whole"), folder.path().join("merged"));
    exp(&whole, &[]);
    let shards: Vec<PathBuf> = (1..=8)
        .filter_map(|index| {
            let out = folder.path().join(format!("shard-{index}"));
            let shard = format!("--shard={index}/8");
            let base = ["exp", "--policy=random,snapkv:window=16", "--ratio=0.5", "--limit=16", "--parallel=1"];
            let output = kvllama(base).arg(&shard).arg("--out").arg(&out).output().unwrap();
            // A shard may be left without an example.
            output.status.success().then_some(out)
        })
        .collect();
    assert!(shards.len() > 4);

    // All but the last: what is missing is named.
    let (most, last) = shards.split_at(shards.len() - 1);
    let (said, _) = merge(most, &merged, 0, &[]);
    assert!(!said.contains("planned trials are in no run"), "nobody planned the missing shard: {said}");
    let (said, _) = merge(last, &merged, 0, &[]);
    assert!(said.starts_with("48 trials in"), "{said}");
    for file in ["trials.csv", "instructions.csv"] {
        assert_eq!(rows(&merged, file), rows(&whole, file), "{file}");
    }
    let prompts = |directory: &Path| std::fs::read_to_string(directory.join("prompts.jsonl")).unwrap();
    assert_eq!(prompts(&merged), prompts(&whole));

    // The same merge again changes nothing and reports what it found.
    let before = std::fs::read(merged.join("trials.csv")).unwrap();
    let (said, _) = merge(&shards, &merged, 0, &[]);
    assert!(said.contains("48 were in more than one run and count once; of 0 the answers differ"), "{said}");
    assert_eq!(std::fs::read(merged.join("trials.csv")).unwrap(), before);

    // The merged run is continued, scored and reported like any other.
    exp(&merged, &["--memory=kv,text"]);
    assert_eq!(rows(&merged, "trials.csv").len(), 48 + 32);
    run(0, &["score", merged.to_str().unwrap()]);
    let report = run(0, &["report", merged.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&report.stdout);
    assert!(!text.contains("unfinished") && !text.contains("fingerprints"), "{text}");
    let methods = run(0, &["report", "--methods", merged.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&methods.stdout);
    assert!(text.contains("Random (text) at 0.5") && text.contains("SnapKV (window 16) at 0.5"), "{text}");
}

#[test]
fn runs_that_differ_are_refused_by_name_and_cut_runs_miss_trials() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other, cut, out] = ["one", "other", "cut", "out"].map(|name| folder.path().join(name));
    exp(&one, &["--limit=2"]);
    exp(&other, &["--limit=2", "--seed=7"]);
    let (_, said) = merge(&[one.clone(), other.clone()], &out, 2, &[]);
    assert!(said.contains("differ: seed is 1 and 7") && said.contains("--force"), "{said}");
    assert!(!out.exists(), "nothing is written");
    merge(&[one.clone(), other], &out, 0, &["--force"]);

    // Half of the rows of a run: the rest is missing, by condition.
    exp(&cut, &["--limit=2"]);
    let text = std::fs::read_to_string(cut.join("trials.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let end = reader.records().nth(2).map(|row| row.unwrap().position().unwrap().byte()).unwrap();
    std::fs::write(cut.join("trials.csv"), &text[..end as usize]).unwrap();
    let (said, _) = merge(&[cut], &folder.path().join("half"), 0, &[]);
    assert!(said.contains("2 trials in") && said.contains("4 planned trials are in no run"), "{said}");
    assert!(said.contains("snapkv:window=16@0.5: 2"), "{said}");

    let foreign = folder.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("notes.txt"), "mine").unwrap();
    let (_, said) = merge(&[one], &foreign, 2, &[]);
    assert!(said.contains("is not empty and holds no run"), "{said}");
}

#[test]
fn a_run_of_the_first_schema_is_merged_scored_and_reported_and_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let (sample, out) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("results/sample"), folder.path().join("out"));
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for file in ["manifest.json", "trials.csv", "instructions.csv", "prompts.jsonl"] {
        std::fs::copy(sample.join(file), copy.join(file)).unwrap();
    }
    let (said, _) = merge(std::slice::from_ref(&copy), &out, 0, &[]);
    let n = rows(&copy, "trials.csv").len();
    assert!(said.starts_with(&format!("{n} trials in")) && !said.contains("planned"), "{said}");
    run(0, &["report", out.to_str().unwrap(), "--json"]);
    run(0, &["score", copy.to_str().unwrap()]);
    assert_eq!(rows(&copy, "trials.csv").len(), n);
}
