//! `kvllama bench` measures what it claims, on a tiny model. Speed itself is not tested.

mod common;

use common::{run, tiny_model};
use serde_json::Value;

#[test]
fn every_section_is_measured_printed_and_written() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bench.json");
    let (model, json) = (tiny_model(), file.to_str().unwrap().to_owned());
    let arguments = ["bench", "--runs=1", "--threads=1", "--model", model.to_str().unwrap(), "--json", &json];
    let printed = String::from_utf8(run(0, &arguments).stdout).unwrap();
    let written: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let sections = written["sections"].as_array().unwrap();
    let names: Vec<_> = sections.iter().map(|section| section["section"].as_str().unwrap()).collect();
    assert_eq!(names, ["memory", "single", "batch", "grid", "tap", "eviction", "dense"]);
    for section in sections {
        assert!(printed.contains(&format!("### {}", section["section"].as_str().unwrap())));
        for row in section["rows"].as_array().unwrap() {
            let (what, value) = (row["what"].as_str().unwrap(), row["value"].as_f64().unwrap());
            assert!(printed.contains(&format!("| {what} |")), "{what}");
            assert!(value > 0.0 || what.contains("difference"), "{what}: {value}");
        }
    }
    // Side by side or one by one, the answers are the same, except ties that low bits decide: random weights have many.
    let grid = sections[3]["rows"].as_array().unwrap();
    let row = |part: &str| {
        let found = grid.iter().find(|row| row["what"].as_str().unwrap().contains(part));
        found.unwrap_or_else(|| panic!("no row on {part}"))["value"].as_f64().unwrap()
    };
    assert!(row("identical greedy answers") >= 50.0);
    assert!(row("difference of first logits") < 0.5, "noise, where logits span about 10");
}

#[test]
fn what_cannot_be_measured_is_refused_in_a_sentence() {
    for (arguments, expected) in [
        (&["bench", "speed"][..], "`speed` is no section of the benchmark"),
        (&["bench", "--ctx=99"], "leave --ctx out"),
        (&["bench", "--peers=."], "cannot read the embedded model"),
    ] {
        let said = String::from_utf8(run(2, arguments).stderr).unwrap();
        assert!(said.contains(expected), "{said}");
    }
}
