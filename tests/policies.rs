//! Policies with scores, kept sets per head, rolling budgets and fidelity, on the embedded model. tests/scores.rs
//! checks that scores and logits are right; this file checks what users see.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{rows, run, tiny_model};
use serde_json::Value;

type Rows = BTreeMap<Vec<String>, BTreeMap<String, String>>;

fn exp(out: &Path, arguments: &[&str]) -> Rows {
    run(0, &[&["exp", "--quiet", "--out", out.to_str().unwrap()], arguments].concat());
    let trials = rows(out, "trials.csv");
    assert!(trials.values().all(|row| row["error"].is_empty()));
    trials
}

/// The mean of a column under a condition.
fn mean(trials: &Rows, condition: &str, column: &str) -> f64 {
    let values: Vec<f64> = trials
        .values()
        .filter(|row| row["condition"] == condition)
        .map(|row| row[column].parse().unwrap_or_else(|_| panic!("{condition} has no {column}")))
        .collect();
    assert!(!values.is_empty(), "no trial of {condition}");
    values.iter().sum::<f64>() / values.len() as f64
}

fn probe(arguments: &[&str]) -> Value {
    let output = run(0, &[&["probe", "--json"], arguments].concat());
    serde_json::from_slice(&output.stdout).expect("JSON")
}

const PROMPT: [&str; 2] =
    ["--prompt", "Tell me about the owl for my old uncle. No commas are allowed. Include the word lantern."];

#[test]
fn what_attention_keeps_is_obeyed_where_chance_forgets_and_predictions_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--policy=snapkv,random", "--ratio=0.25", "--limit=12", "--fidelity", "--parallel=4"];
    let out = directory.path().join("run");
    let trials = exp(&out, &arguments);
    assert!(mean(&trials, "snapkv@0.25", "mean_score") > mean(&trials, "random@0.25", "mean_score") + 0.2);
    assert!(mean(&trials, "snapkv@0.25", "kl_mean") < mean(&trials, "random@0.25", "kl_mean") / 2.0);
    assert!(mean(&trials, "snapkv@0.25", "nll") < mean(&trials, "random@0.25", "nll"));
    assert!(mean(&trials, "random@0.25", "top1_agree") < 1.0);
    // The full cache compared with itself: the noise floor, which the report states.
    assert!(mean(&trials, "none", "kl_mean") < 1e-6);
    assert_eq!(mean(&trials, "none", "top1_agree"), 1.0);
    let report = run(0, &["report", out.to_str().unwrap()]);
    let words = String::from_utf8_lossy(&report.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("Noise floor of predictions: the full cache, decoded alone and beside other conditions"));
}

#[test]
fn fidelity_is_the_same_beside_others_and_aside() {
    let directory = tempfile::tempdir().unwrap();
    // At ratio 0 a compacted cache predicts as the full one; its fidelity is computed in a context of its own.
    let arguments = ["--policy=random", "--ratio=0,0.5", "--positions=keep,compact", "--limit=2", "--fidelity"];
    let trials = exp(&directory.path().join("run"), &arguments);
    for condition in ["random@0", "random@0/compact"] {
        assert!(mean(&trials, condition, "kl_mean") < 1e-6, "{condition}");
        assert_eq!(mean(&trials, condition, "nll"), mean(&trials, "none", "nll"), "{condition}");
    }
    let (keep, compact) = (mean(&trials, "random@0.5", "nll"), mean(&trials, "random@0.5/compact", "nll"));
    assert!(keep > 2.0 * mean(&trials, "none", "nll") && compact > 2.0 * mean(&trials, "none", "nll"));
}

#[test]
fn heads_with_sets_of_their_own_free_nothing_and_have_fractional_survival() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let arguments =
        ["--policy=random,snapkv", "--ratio=0.5", "--granularity=token,head", "--layers=all,global", "--limit=2"];
    let trials = exp(&out, &arguments);
    for row in trials.values().filter(|row| row["policy"] != "none") {
        let by_token = row["granularity"] == "token";
        assert_eq!(row["freed"], by_token.to_string());
        assert_eq!(row["evicted_ranges"].is_empty(), !by_token);
        let number = |column: &str| row[column].parse::<usize>().unwrap();
        assert_eq!(number("n_kept"), (number("n_prompt") - 1) / 2);
        assert_eq!(number("kv_bytes_kept") < number("kv_bytes_full"), by_token);
    }
    let survival = |condition: &str| -> Vec<f64> {
        let rows = rows(&out, "instructions.csv");
        rows.values().filter(|row| row["condition"] == condition).map(|row| row["survival"].parse().unwrap()).collect()
    };
    // Random choices in each head: the mean over heads is near a half; for whole positions it is a multiple of
    // 1/n_tokens.
    assert!(survival("random@0.5/head").iter().all(|share| (0.1..0.9).contains(share)));
    assert_ne!(survival("random@0.5/head"), survival("random@0.5"));
}

#[test]
fn fair_shares_leave_every_instruction_its_part() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let policies = "--policy=streaming,snapkv,h2o,tova";
    let trials = exp(&out, &[policies, "--ratio=0.5", "--fair=budget,scores", "--no-baseline", "--limit=6"]);
    let ranges = |condition: &str| -> Vec<&str> {
        trials.values().filter(|row| row["condition"] == condition).map(|row| row["evicted_ranges"].as_str()).collect()
    };
    for policy in ["snapkv", "h2o", "tova"] {
        let (budget, scores) = (ranges(&format!("{policy}@0.5/fair")), ranges(&format!("{policy}@0.5/fair=scores")));
        assert!(budget.len() == 6 && scores.len() == 6 && budget != scores, "{policy}");
    }
    for row in rows(&out, "instructions.csv").values() {
        let (tokens, survival): (f64, f64) = (row["n_tokens"].parse().unwrap(), row["survival"].parse().unwrap());
        // A part of the prompt misses its quota by less than one position; an instruction may be two parts.
        assert!((survival - 0.5).abs() * tokens <= 2.0, "{row:?}");
    }
}

#[test]
fn layers_chosen_by_number_forget_alone_and_all_of_them_together_forget_all() {
    let answer = |more: &[&str]| {
        let found =
            probe(&[&["--policy=knorm", "--ratio=0.5", "--flash-attn=off", "--n-predict=24"], more, &PROMPT].concat());
        (found["tokens_out"].clone(), found["n_kept"].clone())
    };
    let all = answer(&[]);
    assert_eq!(answer(&["--layers=0-5"]), all);
    let one = answer(&["--layers=5"]);
    assert!(one.1 == all.1 && one.0 != all.0);
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let trials = exp(&out, &["--policy=random", "--ratio=0.5", "--layers=each,0+5", "--limit=1", "--n-predict=2"]);
    let mut layers: Vec<_> = trials.values().map(|row| (row["layers"].as_str(), row["freed"].as_str())).collect();
    layers.sort_unstable();
    let hidden = ["0", "0+5", "1", "2", "3", "4", "5"].map(|layer| (layer, "false"));
    assert_eq!(layers, [&hidden[..], &[("all", "true")]].concat());
}

#[test]
fn what_survives_depends_on_no_other_trial_no_shard_and_no_resume() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    // `--as-published` leaves random as it is.
    let grids: [&[&str]; 3] = [
        &["--policy=context-shift,h2o:recent=50,snapkv:window=8,maxpool=1", "--fair=no"],
        &["--policy=snapkv,h2o,tova,random", "--fair=scores", "--fair-weight=instruction=3", "--protect=bos"],
        &["--policy=streaming,snapkv,h2o,random", "--as-published"],
    ];
    for (index, grid) in grids.iter().enumerate() {
        let arguments = [*grid, &["--ratio=0.5", "--n-predict=2", "--no-baseline"][..]].concat();
        let kept = |trials: Rows| -> Vec<(Vec<String>, [String; 2])> {
            let cells = |row: &BTreeMap<String, String>| [row["evicted_ranges"].clone(), row["n_kept"].clone()];
            trials.iter().map(|(key, row)| (key.clone(), cells(row))).collect()
        };
        let alone =
            kept(exp(&at(&format!("{index}alone")), &[&arguments[..], &["--limit=4", "--parallel=1"]].concat()));
        assert_eq!(alone.len() % 4, 0);
        let beside = at(&format!("{index}beside"));
        exp(&beside, &[&arguments[..], &["--limit=2", "--parallel=3"]].concat());
        assert_eq!(kept(exp(&beside, &[&arguments[..], &["--limit=4", "--parallel=3"]].concat())), alone, "{grid:?}");
        let shards = ["1/2", "2/2"].map(|shard| {
            let out = at(&format!("{index}shard{}", &shard[..1]));
            exp(&out, &[&arguments[..], &["--limit=4", "--parallel=3", "--shard", shard]].concat());
            out
        });
        let merged = at(&format!("{index}merged"));
        let [a, b] = shards.each_ref().map(|shard| shard.to_str().unwrap());
        run(0, &["merge", a, b, "--out", merged.to_str().unwrap()]);
        assert_eq!(kept(rows(&merged, "trials.csv")), alone, "{grid:?}");
    }
}

#[test]
fn a_rolling_budget_generates_beyond_the_cache() {
    for (policy, more) in
        [("streaming", "--positions=compact"), ("random", "--every=3"), ("h2o", "--every=8"), ("keydiff", "--every=8")]
    {
        let arguments = ["--policy", policy, more, "--rolling=40", "--n-predict=700", "--ignore-eos"];
        let found = probe(&[&arguments[..], &PROMPT].concat());
        // The context holds 256 cells; prompt and answer are 732 tokens.
        assert_eq!(found["tokens_out"].as_array().unwrap().len(), 700, "{policy}");
        assert!(found["n_kept"].as_u64().unwrap() < 40, "{policy}");
    }
}

#[test]
fn a_large_rolling_budget_changes_nothing() {
    let answer = |arguments: &[&str]| {
        let found = probe(&[arguments, &["--flash-attn=off"], &PROMPT].concat());
        (found["text"].clone(), found["n_evicted"].clone())
    };
    let full = answer(&["--policy=none"]);
    assert_eq!(answer(&["--policy=streaming", "--rolling=400"]), full);
    assert_eq!(answer(&["--policy=h2o", "--rolling=400"]), full);
}

/// The model computes slightly other attention under flash attention, in half precision: weights may differ by 2% of the
/// largest, as they do between the two ways to compute. Beyond the sliding window of 256 positions, masks differ by layer.
#[test]
fn scores_are_the_same_under_flash_attention() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("scores.json");
    let text = "Tell me about the owl and its friends in the dark wood. ".repeat(25);
    for policy in ["snapkv:window=16", "tova", "h2o"] {
        let heads = |flash: &[&str]| -> Vec<f64> {
            let file = file.to_str().unwrap();
            let arguments = ["probe", "--json", "--prompt", &text, "--policy", policy, "--ratio=0.5", "--n-predict=0"];
            run(0, &[&arguments[..], &["--threads=1", "--scores", file], flash].concat());
            let written: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
            let layers = written["per_head"].as_object().unwrap().values();
            layers.flat_map(|heads| serde_json::from_value::<Vec<Vec<f64>>>(heads.clone()).unwrap()).flatten().collect()
        };
        let off = heads(&["--flash-attn=off"]);
        let largest = off.iter().copied().filter(|score| *score <= 1.0).fold(0.0, f64::max);
        for flash in [&["--flash-attn=on"][..], &["--kv-type=q8_0"]] {
            let on = heads(flash);
            assert_eq!(on.len(), off.len());
            let error = off.iter().zip(&on).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            println!("{policy} {flash:?}: {:.4} of the largest score", error / largest);
            assert!(error <= 0.02 * largest, "{policy} {flash:?}: off by {error}, largest {largest}");
        }
    }
}

#[test]
fn what_cannot_be_had_is_refused_in_a_sentence() {
    let tiny = tiny_model();
    let tiny = ["--model", tiny.to_str().unwrap()];
    let cases: &[(&[&str], &str)] = &[
        (&["--policy=snapkv", "--ratio=0.5", "--granularity=head", "--flash-attn=on"], "needs flash attention off"),
        (&["--policy=h2o", "--ratio=0.5", "--granularity=head", "--kv-type=q8_0"], "quantized values need it"),
        (&["--policy=knorm", "--ratio=0.5", "--granularity=head", "--positions=compact"], "--positions keep"),
        (&["--policy=knorm", "--ratio=0.5", "--layers=global", "--memory=text"], "--memory kv"),
        (&["--policy=sinks+streaming", "--ratio=0.5"], "leaves sinks nothing to choose"),
        (&["--policy=streaming", "--rolling=4"], "leaves no recent positions"),
        (&["--policy=streaming", "--rolling=64", "--ratio=0.5"], "--rolling is a budget"),
        (&["--policy=streaming", "--every=4", "--ratio=0.5"], "--every belongs to --rolling"),
        (&["--policy=streaming", "--keep-first=4", "--keep-last=4", "--fair"], "--fair shares out a --ratio"),
        (&["--policy=random", "--ratio=0.5", "--scores=s.json"], "has no scores to write"),
        (&["--policy=random", "--ratio=0.5", "--layers=6"], "has no such layers"),
        (&["--policy=random", "--ratio=0.5", "--layers=each"], "probe looks at one condition"),
        (&["--policy=random", "--ratio=0.5", "--layers=1", "--flash-attn=on"], "needs flash attention off"),
    ];
    for (arguments, sentence) in cases {
        let output = run(2, &[&["probe"], &PROMPT[..], *arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(sentence), "{arguments:?}: {said}");
    }
    // Each prompt of a window gets its own context: 24 positions are beyond the tiny model's.
    let long: Vec<String> = (0..40).map(|token| (10 + token).to_string()).collect();
    let rolling = ["probe", "--tokens", &long.join(","), "--policy=streaming", "--rolling=30", "--positions=compact"];
    let output = run(2, &[&rolling[..], &tiny].concat());
    assert!(String::from_utf8_lossy(&output.stderr).contains("sliding window"));
}
