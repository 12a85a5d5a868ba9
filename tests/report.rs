//! The report on a small run whose numbers were computed by hand: six examples of two instructions, one failed trial,
//! one truncated answer, one hostile answer.

mod common;

use std::path::{Path, PathBuf};

use common::run;
use serde_json::Value;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/run")
}

/// A writable copy of the fixture.
fn copy(into: &Path) -> PathBuf {
    std::fs::create_dir_all(into).unwrap();
    for entry in std::fs::read_dir(fixture()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, into.join(path.file_name().unwrap())).unwrap();
    }
    into.to_owned()
}

/// `report --json` on some directories.
fn stats(directories: &[&Path]) -> Value {
    let mut arguments: Vec<String> = vec!["report".into(), "--json".into()];
    arguments.extend(directories.iter().map(|directory| directory.display().to_string()));
    let output = run(0, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn close(found: &Value, expected: f64) {
    let number = found.as_f64().unwrap_or_else(|| panic!("{found} is no number"));
    assert!((number - expected).abs() < 1e-9, "{number} is not {expected}");
}

/// A comparison by the names of its conditions.
fn comparison<'a>(stats: &'a Value, a: &str, b: &str) -> &'a Value {
    let name =
        |index: &Value| stats["conditions"][index.as_u64().unwrap() as usize]["name"].as_str().unwrap().to_owned();
    let found =
        stats["comparisons"].as_array().unwrap().iter().find(|row| name(&row["a"]) == a && name(&row["b"]) == b);
    found.unwrap_or_else(|| panic!("{b} is not compared with {a}"))
}

fn kinds(stats: &Value) -> Vec<&str> {
    stats["warnings"].as_array().unwrap().iter().map(|warning| warning["kind"].as_str().unwrap()).collect()
}

#[test]
fn numbers_are_those_worked_out_by_hand() {
    let stats = stats(&[&fixture()]);
    let conditions = stats["conditions"].as_array().unwrap();
    let expected =
        [("none", 5.5 / 6.0, 6), ("random@0.5", 0.4, 5), ("streaming@0.5", 0.75, 6), ("random@0.5/text", 0.25, 6)];
    assert_eq!(conditions.len(), expected.len());
    for (condition, (name, mean, n)) in conditions.iter().zip(expected) {
        assert_eq!(condition["name"], name);
        close(&condition["score"]["point"], mean);
        assert_eq!(condition["score"]["n"], n, "a failed trial enters no mean");
    }
    assert_eq!((&conditions[1]["n_failed"], &conditions[1]["n_trials"]), (&1.into(), &5.into()));
    close(&conditions[1]["truncated"], 0.2);
    close(&conditions[1]["all_followed"]["point"], 0.2);
    close(&conditions[1]["at_floor"], 0.4);
    close(&conditions[1]["evicted"], 6.0 / 11.0);
    close(&conditions[2]["fidelity"]["kl"]["point"], 0.25);
    close(&conditions[1]["cost"]["kv_bytes_kept"], 500.0);

    // Five comparisons; the sign-flip test enumerates all flips of so few pairs.
    assert_eq!(stats["comparisons"].as_array().unwrap().len(), 5);
    let random = comparison(&stats, "none", "random@0.5");
    close(&random["difference"]["point"], -0.5);
    assert_eq!(random["n"], 5, "only examples that both have");
    close(&random["p_permutation"], 0.25);
    close(&random["p_holm"], 1.0);
    assert_eq!((&random["changed"]["lost"], &random["changed"]["gained"]), (&6.into(), &1.into()));
    let text = comparison(&stats, "none", "random@0.5/text");
    close(&text["difference"]["point"], -2.0 / 3.0);
    close(&text["p_permutation"], 2.0 / 64.0);
    close(&text["p_holm"], 5.0 * 2.0 / 64.0);
    let policies = comparison(&stats, "random@0.5", "streaming@0.5");
    assert_eq!(policies["question"], "policy");
    close(&policies["difference"]["point"], 0.3);
    close(&policies["kl_ratio"]["point"], 0.5);
    let memory = comparison(&stats, "random@0.5", "random@0.5/text");
    assert_eq!(memory["question"], "memory");
    close(&memory["difference"]["point"], -0.2);
    close(&memory["p_permutation"], 0.5);
    let sentence = random["sentence"].as_str().unwrap();
    assert!(
        sentence.starts_with("Random at 0.5 costs 0.50 [") && sentence.ends_with("p(Holm) = 1.000; n = 5 examples")
    );
}

#[test]
fn why_it_forgot_is_counted_by_type_place_and_survival() {
    let stats = stats(&[&fixture()]);
    let types = stats["types"].as_array().unwrap();
    assert_eq!(types[0]["name"], "keywords:existence");
    close(&types[0]["scores"][0]["point"], 5.0 / 6.0);
    close(&types[1]["scores"][2]["point"], 5.0 / 6.0);
    // The second instruction comes first in the prompt.
    let places = stats["places"].as_array().unwrap();
    assert_eq!([&places[0]["name"], &places[1]["name"]], ["first", "last"]);
    close(&places[0]["scores"][0]["point"], 5.0 / 6.0);
    close(&places[1]["scores"][0]["point"], 1.0);
    let random = &stats["survival"][0];
    assert_eq!((&random["name"], &random["n"]), (&"Random".into(), &10.into()));
    let bin = &random["bins"][1];
    assert_eq!([bin["from"].as_f64(), bin["to"].as_f64()], [Some(0.6), Some(0.8)]);
    close(&bin["followed"]["point"], 0.4);
    let (low, high) = (bin["followed"]["low"].as_f64().unwrap(), bin["followed"]["high"].as_f64().unwrap());
    assert!((low - 0.062_9).abs() < 1e-4 && (high - 0.868_7).abs() < 1e-4, "2 in 5 examples: {low} {high}");
    close(&stats["agreement"]["kappa"], 0.0);
    close(&stats["agreement"]["agreed"], 0.5);
}

#[test]
fn warnings_fire_and_only_those() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(kinds(&stats(&[&fixture()])), ["failed", "no_chance", "few_examples", "truncated", "judge_disagrees"]);
    let cut = copy(&directory.path().join("cut"));
    let path = cut.join("trials.csv");
    let rows = std::fs::read_to_string(&path).unwrap();
    let kept: Vec<&str> = rows.lines().filter(|line| !line.contains(",none,none,0,")).collect();
    std::fs::write(&path, kept.join("\n") + "\n0123456789ab,e6,torn").unwrap();
    // A few examples that changed do not make a floor of the full cache.
    let floor = copy(&directory.path().join("floor"));
    rewrite(&floor.join("trials.csv"), &["kl_mean"], |at, cell| match at {
        0 => "0.001".to_owned(),
        _ if cell.is_empty() => "0".to_owned(),
        _ => cell.to_owned(),
    });
    let found = stats(&[&floor]);
    assert_eq!(found["conditions"][0]["fidelity"]["kl"], Value::Null);
    assert_eq!(found["conditions"][2]["fidelity"]["times_floor"], Value::Null);
    let found = stats(&[&cut]);
    for kind in ["unfinished", "torn", "no_baseline"] {
        assert!(kinds(&found).contains(&kind), "{kind} is missing from {:?}", kinds(&found));
    }
    let (one, two) = (copy(&directory.path().join("one")), copy(&directory.path().join("two")));
    let manifest = std::fs::read_to_string(two.join("manifest.json")).unwrap();
    std::fs::write(two.join("manifest.json"), manifest.replace("aaaa", "cccc").replace("a CPU", "a GPU")).unwrap();
    let found = stats(&[&one, &two]);
    assert!(["mixed_models", "mixed_hardware"].iter().all(|kind| kinds(&found).contains(kind)), "{:?}", kinds(&found));
    assert!(!kinds(&found).contains(&"mixed_data"));
    let longer = std::fs::read_to_string(fixture().join("manifest.json")).unwrap();
    let longer = longer.replacen("\"seed\": 1", "\"seed\": 2", 1);
    std::fs::write(two.join("manifest.json"), longer).unwrap();
    let found = stats(&[&one, &two]);
    let settings = found["warnings"].as_array().unwrap().iter().find(|warning| warning["kind"] == "mixed_settings");
    assert!(settings.unwrap()["text"].as_str().unwrap().contains("seed (1; 2)"), "{settings:?}");
}

#[test]
fn earned_scores_are_those_worked_out_by_hand() {
    let directory = tempfile::tempdir().unwrap();
    let run = copy(&directory.path().join("run"));
    // Half of the prompts forbid commas, the other half ask for a word that is in some foreign answers; the rest is for
    // a judge.
    let path = run.join("prompts.jsonl");
    let prompts = std::fs::read_to_string(&path).unwrap();
    let (commas, pebble) =
        (r#""type": "punctuation:no_comma""#, r#""type": "keywords:existence", "kwargs": {"keywords": ["pebble"]}"#);
    let line = |(at, line): (usize, &str)| {
        let line = line.replace(pebble, r#""rubric": "It is kind.""#);
        if at < 3 { line } else { line.replace(commas, &pebble.replace("pebble", "1 under")) }
    };
    let lines: Vec<String> = prompts.lines().enumerate().map(line).collect();
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    let found = stats(&[&run]);
    let (none, streaming) = (&found["conditions"][0]["earned"], &found["conditions"][2]["earned"]);
    // No foreign answer has a comma; a third of the others' holds "1 under".
    let chance = (1.0 + 1.0 / 3.0) / 2.0;
    close(&none["chance"]["point"], chance);
    close(&none["earned"]["point"], 1.0);
    close(&streaming["passed"]["point"], 5.0 / 6.0);
    close(&streaming["earned"]["point"], 0.5);
    let cost = &comparison(&found, "none", "streaming@0.5")["earned"];
    close(&cost["difference"]["point"], -0.5);
    close(&cost["p_permutation"], 1.0);
    assert_eq!((&found["chance"]["n_rules"], &found["chance"]["rubrics"]), (&6.into(), &6.into()));
    std::fs::remove_file(path).unwrap();
    let found = stats(&[&run]);
    assert_eq!(found["conditions"][0]["earned"], Value::Null);
    assert!(kinds(&found).contains(&"no_rules"), "{:?}", kinds(&found));
}

/// Rewrites cells of a CSV: `change` sees the index of the row and the cell.
fn rewrite(path: &Path, columns: &[&str], change: impl Fn(usize, &str) -> String) {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let header = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let mut writer = csv::Writer::from_path(path).unwrap();
    writer.write_record(&header).unwrap();
    for (at, row) in rows.iter().enumerate() {
        let cell =
            |(name, cell): (&str, &str)| if columns.contains(&name) { change(at, cell) } else { cell.to_owned() };
        writer.write_record(header.iter().zip(row).map(cell)).unwrap();
    }
    writer.flush().unwrap();
}

#[test]
fn what_no_one_scored_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let some = copy(&directory.path().join("some"));
    rewrite(&some.join("instructions.csv"), &["score", "pass_strict"], |at, cell| {
        if at % 2 == 0 { String::new() } else { cell.to_owned() }
    });
    let found = stats(&[&some]);
    let warnings = found["warnings"].as_array().unwrap();
    let said =
        warnings.iter().find(|warning| warning["kind"] == "unjudged").expect("a warning")["text"].as_str().unwrap();
    assert!(said.contains("of 46 instructions") && said.contains("`kvllama judge DIR"), "{said}");
    // The report of a run without scores has a page too.
    let none = copy(&directory.path().join("none"));
    rewrite(&none.join("instructions.csv"), &["score", "pass_strict", "pass_loose", "judge_score"], |_, _| {
        String::new()
    });
    rewrite(&none.join("instructions.csv"), &["type"], |_, _| "rubric".to_owned());
    rewrite(&none.join("trials.csv"), &["rule_score", "judge_score", "mean_score"], |_, _| String::new());
    let shown = run(0, &["report", none.to_str().unwrap()]);
    let screen = String::from_utf8(shown.stdout).unwrap();
    assert!(screen.contains("No answer is scored yet.") && screen.contains("23 trials are not scored yet"), "{screen}");
    let page = std::fs::read_to_string(none.join("report.html")).unwrap();
    assert!(page.contains("No answer is scored yet."));
}

#[test]
fn runs_are_compared_on_their_common_examples() {
    let directory = tempfile::tempdir().unwrap();
    let (whole, part) = (copy(&directory.path().join("whole")), copy(&directory.path().join("part")));
    for name in ["trials.csv", "instructions.csv"] {
        let rows = std::fs::read_to_string(part.join(name)).unwrap();
        let rows = rows.replace("e6,", "other,");
        std::fs::write(part.join(name), rows).unwrap();
    }
    let stats = stats(&[&whole, &part]);
    assert_eq!((&stats["n_examples"], &stats["n_left_out"]), (&5.into(), &2.into()));
    let between: Vec<_> =
        stats["comparisons"].as_array().unwrap().iter().filter(|row| row["question"] == "run").collect();
    assert_eq!(between.len(), 4, "one per condition that both have");
    for row in between {
        assert_eq!((&row["n"], &row["difference"]["point"]), (&5.into(), &0.0.into()));
    }
    let shards = copy(&directory.path().join("shards"));
    let rows = std::fs::read_to_string(shards.join("trials.csv")).unwrap();
    let rows = (1..=6).fold(rows, |rows, n| rows.replace(&format!(",e{n},"), &format!(",shard{n},")));
    std::fs::write(shards.join("trials.csv"), rows).unwrap();
    let refused = run(2, &["report", whole.to_str().unwrap(), shards.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no example in common"));
}

#[test]
fn the_page_holds_an_answer_as_text_only() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let shown = run(0, &["report", fixture().to_str().unwrap(), "--out", out.to_str().unwrap()]);
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains(r"\u003c/script>\u003cscript>document.title"), "the answer is there");
    assert!(page.contains("punctuation:<wbr>no_<wbr>comma"), "names may be broken");
    // Six examples, the index and our own script.
    assert_eq!([page.matches("<script").count(), page.matches("</script>").count()], [8, 8]);
    for markup in ["<img", "<!--", "<b>12", "<i>comma", "http://", "https://", "src="] {
        let outside_data = page.replace("src=x onerror", "");
        assert!(!outside_data.contains(markup), "{markup} must not be in the page");
    }
    let written: Value = serde_json::from_slice(&std::fs::read(out.join("stats.json")).unwrap()).unwrap();
    assert_eq!(written, stats(&[&fixture()]), "the same numbers every time");
    let screen = String::from_utf8(shown.stdout).unwrap();
    let row = screen.lines().find(|line| line.starts_with("Random at 0.5  ") && line.contains(" + "));
    assert!(row.is_some_and(|row| row.contains("−0.50 [")) && screen.contains("warning: 1 trial failed"), "{screen}");
    assert!(!fixture().join("report.html").exists());
}

#[test]
fn figures_are_written_as_svg_and_png() {
    let directory = tempfile::tempdir().unwrap();
    run(0, &["report", fixture().to_str().unwrap(), "--json", "--figures", directory.path().to_str().unwrap()]);
    let names = [
        "score-by-ratio",
        "differences-baseline",
        "score-by-type",
        "score-by-place",
        "followed-by-survival",
        "score-by-divergence",
    ];
    for name in names {
        let svg = std::fs::read_to_string(directory.path().join(format!("{name}.svg"))).unwrap();
        assert!(svg.starts_with("<svg xmlns") && svg.trim_end().ends_with("</svg>"), "{name}");
        let png = std::fs::read(directory.path().join(format!("{name}.png"))).unwrap();
        assert!(png.starts_with(b"\x89PNG") && png.len() > 5_000, "{name}: {} bytes", png.len());
    }
    let curve = |directory: &Path| std::fs::read_to_string(directory.join("score-by-ratio.svg")).unwrap();
    let single = curve(directory.path());
    assert!(single.contains("fraction of the cached prompt evicted"));
    assert!(single.contains("class=\"whisker\"") && !single.contains("class=\"band\""), "one ratio makes no curve");
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/results/sample");
    run(0, &["report", sample, "--json", "--figures", directory.path().to_str().unwrap()]);
    assert!(curve(directory.path()).contains("class=\"band"), "a curve has a band");
}

#[test]
fn methods_say_what_was_done() {
    let output = run(0, &["report", fixture().to_str().unwrap(), "--methods"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "tiny (0.0 MB, tiny 1M F32, SHA-256 aaaaaaaaaaaa)",
        "6 examples of the data set hand",
        "the full cache; Random at 0.5; StreamingLLM at 0.5; Random (text) at 0.5",
        "at most 16 tokens were generated greedily",
        "1 trial failed and is excluded",
        "Holm's correction over all 5 comparisons",
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

#[test]
fn what_the_methods_cite_is_in_the_bibliography() {
    let printed = |options: &[&str]| {
        let fixture = fixture();
        let arguments = [&["report", fixture.to_str().unwrap()], options].concat();
        String::from_utf8(run(0, &arguments).stdout).unwrap()
    };
    let (methods, entries) = (printed(&["--methods"]), printed(&["--bibtex"]));
    let cited: Vec<&str> = methods.split('@').skip(1).map(|rest| rest.split([']', ';']).next().unwrap()).collect();
    assert_eq!(cited, ["kvllama", "llamacpp", "xiao2023streamingllm", "zhou2023ifeval"]);
    for key in cited {
        assert!(entries.contains(&format!("{{{key},\n")), "{key} is not in: {entries}");
    }
    assert!(!entries.contains("snapkv"), "only what was used");
    assert!(printed(&["--methods", "--bibtex"]).ends_with(&entries));
}

#[test]
#[ignore = "measures time: cargo test --release --test report -- --ignored"]
fn a_hundred_thousand_rows_take_less_than_six_seconds() {
    let directory = tempfile::tempdir().unwrap();
    let large = copy(&directory.path().join("large"));
    for name in ["trials.csv", "instructions.csv", "prompts.jsonl"] {
        let text = std::fs::read_to_string(large.join(name)).unwrap();
        let (header, rows) =
            if name == "prompts.jsonl" { ("", text.as_str()) } else { text.split_at(text.find('\n').unwrap() + 1) };
        let copies = (0..4_200).map(|copy| {
            (1..=6).fold(rows.to_owned(), |rows, n| {
                rows.replace(&format!("e{n},"), &format!("e{n}-{copy},"))
                    .replace(&format!("\"e{n}\""), &format!("\"e{n}-{copy}\""))
            })
        });
        std::fs::write(large.join(name), header.to_owned() + &copies.collect::<String>()).unwrap();
    }
    let start = std::time::Instant::now();
    run(0, &["report", large.to_str().unwrap()]);
    let took = start.elapsed();
    assert!(took.as_secs_f64() < 6.0, "100,800 trials took {took:?}");
}

#[test]
fn what_is_no_run_is_refused_in_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let said = |arguments: &[&str]| String::from_utf8(run(2, arguments).stderr).unwrap();
    let empty = directory.path().to_str().unwrap();
    assert!(said(&["report", empty]).contains("there is no manifest.json in it"));
    let fixture = fixture();
    let fixture = fixture.to_str().unwrap();
    assert!(said(&["report", fixture, fixture]).contains("is given twice"));
    assert!(said(&["report", fixture, "--level", "5"]).contains("--level is 5"));
}
