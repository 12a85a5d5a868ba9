//! A primary comparison: named before the first trial, kept since, and tested alone.

mod common;

use common::run;
use serde_json::Value;

#[test]
fn the_primary_comparison_is_named_first_kept_and_tested_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let exp = |code: i32, out: &str, more: &[&str]| {
        let grid = "exp --policy streaming,random --ratio 0.25,0.5 --n-predict 24 --quiet --parallel 1";
        let grid: Vec<&str> = grid.split(' ').collect();
        let output = run(code, &[&grid[..], &["--out", &path(out)], more].concat());
        String::from_utf8(output.stderr).unwrap()
    };
    let primary = ["--primary", "streaming@0.5 vs random@0.5"];
    exp(0, "one", &[&["--limit", "4", "--shard", "1/2"][..], &primary].concat());
    exp(0, "two", &[&["--limit", "8", "--shard", "2/2"][..], &primary].concat());
    exp(0, "one", &["--limit", "8", "--shard", "1/2"]);
    let said = exp(2, "one", &["--limit", "8", "--shard", "1/2", "--primary", "random"]);
    assert!(said.contains("already holds trials") && said.contains("\"streaming@0.5 vs random@0.5\""), "{said}");
    let said = exp(2, "other", &["--primary", "h2o"]);
    assert!(said.contains("names `h2o`, which is not in this run"), "{said}");
    assert!(!directory.path().join("other").exists(), "refused before anything is written");

    run(0, &["merge", &path("one"), &path("two"), "--out", &path("all")]);
    let report: Value = serde_json::from_slice(&run(0, &["report", "--json", &path("all")]).stdout).expect("JSON");
    let result = &report["primaries"][0];
    assert_eq!(result["named"], "streaming@0.5 vs random@0.5");
    let (streaming, random) = (2, 4);
    let compared = report["comparisons"].as_array().unwrap().iter();
    let exploratory = compared.clone().find(|one| one["a"] == streaming && one["b"] == random).unwrap();
    assert_eq!(result["result"]["p"], exploratory["earned"]["p_permutation"], "its level is not shared");
    assert!(exploratory["earned"]["p_holm"].as_f64().unwrap() > 0.0 && compared.len() > 1);
    assert_eq!(result["sentence"], report["summary"][0]);
    let methods = String::from_utf8(run(0, &["report", "--methods", &path("all")]).stdout).unwrap();
    assert!(methods.contains("streaming@0.5 with random@0.5. It was tested alone, at 5%"), "{methods}");

    exp(0, "without", &["--limit", "8", "--shard", "2/2"]);
    let refused = run(2, &["merge", &path("one"), &path("without"), "--out", &path("mixed")]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the primary comparison is"));
}
