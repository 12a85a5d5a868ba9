//! One instruction forgotten at a time: on the embedded model its own tokens decide whether it is followed.

mod common;

use common::{rows, run};
use serde_json::Value;

#[test]
fn an_instruction_is_forgotten_with_its_own_tokens_and_only_then() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let exp = |out: &str, more: &[&str]| {
        let forget = ["exp", "--policy=forget:instruction,forget:filler", "--n-predict=160", "--quiet", "--out", out];
        run(0, &[&forget[..], more].concat())
    };
    // Cut short and continued, in two shards, with several lanes and with one.
    exp(&path("one"), &["--limit=6", "--shard=1/2", "--repeats=2"]);
    exp(&path("one"), &["--limit=24", "--shard=1/2"]);
    exp(&path("two"), &["--limit=24", "--shard=2/2"]);
    run(0, &["merge", &path("one"), &path("two"), "--out", &path("all")]);

    let trials = rows(&directory.path().join("all"), "trials.csv");
    let instructions = rows(&directory.path().join("all"), "instructions.csv");
    let of = |condition: &str| trials.values().filter(|row| row["condition"] == condition).collect::<Vec<_>>();
    let n_instructions = instructions.values().filter(|row| row["condition"] == "none").count();
    assert_eq!([of("none").len(), of("forget:instruction").len()], [24, n_instructions], "greedy repeats run once");
    for row in of("forget:instruction") {
        let own: Vec<_> = instructions
            .values()
            .filter(|one| ["example_id", "condition", "repeat"].iter().all(|column| one[*column] == row[*column]))
            .filter(|one| one["instruction"] == row["repeat"])
            .collect();
        assert_eq!(own[0]["n_tokens"], row["n_evicted"], "its tokens and no others");
        assert_eq!((own[0]["survival"].as_str(), row["ratio"].as_str()), ("0.0", ""));
    }
    let report: Value = serde_json::from_slice(&run(0, &["report", "--json", &path("all")]).stdout).unwrap();
    let share = |what: &str| report["forgotten"][0][what]["point"].as_f64().unwrap();
    assert!(share("own") <= 0.15 && share("others") >= 0.95 && share("filler") >= 0.98, "{}", report["forgotten"]);
    assert!(report["warnings"].as_array().unwrap().iter().all(|warning| warning["kind"] != "unfinished"));

    let refused = run(2, &["probe", "--policy=forget:instruction", "--prompt=Say owl."]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("use it with `kvllama exp`"));
}
