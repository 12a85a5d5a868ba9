//! Early stopping as users run it.

mod common;

use std::path::Path;

use common::{rows, run};
use serde_json::Value;

fn stopping(directory: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(directory.join("stopping.json")).unwrap()).unwrap()
}

#[test]
fn a_run_stops_when_the_difference_is_decided_and_goes_on_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let base = ["exp", "--ratio=0.9", "--n-predict=24", "--limit=40", "--out", out.to_str().unwrap()];
    let stop = [&base[..], &["--stop-when=decided"]].concat();
    let said = String::from_utf8(run(0, &stop).stderr).unwrap();
    let recorded = stopping(&out);
    let n = recorded["stopped_after"].as_u64().expect("it stopped") as usize;
    assert!(said.contains(&format!("stopped after {n} of 40 examples: decided holds")), "{said}");
    assert!(n < 40 && rows(&out, "trials.csv").len() == 2 * n, "{n} examples");
    // The examples are the first of a shuffled order, not the first of the file.
    let order: Vec<&str> = recorded["order"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    let mut visited: Vec<String> = rows(&out, "trials.csv").into_keys().map(|mut key| key.swap_remove(0)).collect();
    visited.dedup();
    let mut expected = order[..n].to_vec();
    assert!(!expected.is_sorted() && order.len() == 40);
    expected.sort_unstable();
    assert_eq!(visited, expected);

    // The same command again finds nothing to do.
    let before = std::fs::read(out.join("trials.csv")).unwrap();
    let said = String::from_utf8(run(0, &stop).stderr).unwrap();
    assert!(said.contains("nothing to do") && said.contains("leave --stop-when out to go on"), "{said}");
    assert!(before == std::fs::read(out.join("trials.csv")).unwrap() && recorded == stopping(&out));

    // The report says when and why, and gives the interval that survives it.
    let report = |arguments: &[&str]| run(0, &[&["report", out.to_str().unwrap()], arguments].concat()).stdout;
    let stats: Value = serde_json::from_slice(&report(&["--json"])).unwrap();
    assert_eq!(stats["warnings"][0]["kind"], "stopped");
    assert!(!stats["warnings"].to_string().contains("unfinished"));
    let anytime = &stats["comparisons"][0]["anytime"];
    assert!(anytime["high"].as_f64().unwrap() < 0.0 && anytime["n"] == n, "{anytime}");
    let cited =
        format!("(anytime [{:.2}, {:.2}])", -anytime["high"].as_f64().unwrap(), -anytime["low"].as_f64().unwrap());
    assert!(stats["comparisons"][0]["sentence"].as_str().unwrap().contains(&cited), "{cited}");
    let methods = String::from_utf8(report(&["--methods"])).unwrap();
    assert!(methods.contains(&format!("it held after {n} of 40 examples")), "{methods}");

    // Without the rule the run continues, and keeps its rows.
    run(0, &base);
    assert_eq!(rows(&out, "trials.csv").len(), 80);
    assert!(std::fs::read(out.join("trials.csv")).unwrap().starts_with(&before));
}

#[test]
fn rules_that_cannot_work_are_refused_in_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let refused = |more: &[&str]| {
        let base = ["exp", "--ratio=0.5", "--limit=2", "--n-predict=4", "--out", out.to_str().unwrap()];
        String::from_utf8(run(2, &[&base[..], more].concat()).stderr).unwrap()
    };
    for rule in ["width<0", "width<x", "width>0.1", "decided:2", "decided:", "soon"] {
        assert!(refused(&["--stop-when", rule]).contains(&format!("`{rule}` is no stopping rule; write width<W")));
    }
    assert!(refused(&["--stop-when=decided", "--shard=1/2"]).contains("leave out one of the two"));
    assert!(refused(&["--stop-when=decided", "--no-baseline"]).contains("leave --no-baseline out"));
    let only_full = ["exp", "--policy=none", "--limit=2", "--stop-when=decided", "--out", out.to_str().unwrap()];
    let stderr = String::from_utf8(run(2, &only_full).stderr).unwrap();
    assert!(stderr.contains("give a policy beside `none`"), "{stderr}");
    assert!(!out.exists(), "nothing is begun");
}
