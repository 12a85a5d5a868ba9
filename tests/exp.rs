//! The experiment as users run it: rows survive crashes and stops, and are the same every time.
#![cfg(unix)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use common::{kvllama, rows, run};
use serde_json::json;

/// Nine conditions on a few examples of the embedded model: about a second of work.
fn grid(out: &Path) -> Vec<String> {
    let text = "exp --policy random,streaming --ratio 0.5,0.1 --positions keep,compact --limit 3 --n-predict 16 --parallel 1 --out";
    let mut arguments: Vec<_> = text.split(' ').map(str::to_owned).collect();
    arguments.push(out.display().to_string());
    arguments
}

fn reference(directory: &Path) {
    let output = kvllama(grid(directory)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8_lossy(&output.stderr).lines().filter(|line| line.starts_with('[')).count();
    assert_eq!(lines, 27, "one line per trial in a pipe");
}

#[test]
fn the_same_seed_gives_the_same_rows_in_any_order_of_conditions() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("a"), directory.path().join("b"));
    reference(&first);
    let second_text = second.display().to_string();
    run(
        0,
        &[
            "exp",
            "--policy=streaming,none,random",
            "--ratio=0.10,0.50",
            "--positions=compact,keep",
            "--limit=3",
            "--n-predict=16",
            "--parallel=1",
            "--out",
            &second_text,
        ],
    );
    for name in ["trials.csv", "instructions.csv"] {
        assert_eq!(rows(&first, name), rows(&second, name), "{name}");
    }
    let trials = rows(&first, "trials.csv");
    assert_eq!(trials.len(), 3 * 9);
    for (key, row) in &trials {
        let number = |column: &str| row[column].parse::<usize>().unwrap();
        assert_eq!(number("n_kept") + number("n_evicted"), number("n_prompt") - 1, "{key:?}");
        assert!(row["error"].is_empty() && !row["mean_score"].is_empty());
    }
}

#[test]
fn sampling_is_seeded_by_example_and_repeat() {
    let directory = tempfile::tempdir().unwrap();
    let draw = |name: &str, more: &[&str]| {
        let out = directory.path().join(name);
        let base = [
            "exp",
            "--ratio=0.5",
            "--limit=2",
            "--repeats=2",
            "--n-predict=16",
            "--temp=1.5",
            "--top-k=40",
            "--parallel=1",
            "--out",
        ];
        run(0, &[&base[..], &[out.to_str().unwrap()], more].concat());
        rows(&out, "trials.csv")
    };
    let first = draw("a", &[]);
    assert_eq!(first, draw("b", &[]));
    let responses = |repeat: &str| -> Vec<String> {
        first.iter().filter(|(key, _)| key[2] == repeat).map(|(_, row)| row["response"].clone()).collect()
    };
    assert_ne!(responses("0"), responses("1"), "repeats draw anew");
    let other = draw("c", &["--seed=2"]);
    assert!(first.iter().any(|(key, row)| other[key]["response"] != row["response"]), "another seed, other draws");
}

#[test]
fn conditions_side_by_side_give_the_rows_of_one_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("alone");
    reference(&out);
    let alone = rows(&out, "trials.csv");
    let out = directory.path().join("lanes");
    let output = kvllama(grid(&out)).args(["--parallel=4"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lanes = rows(&out, "trials.csv");
    assert!(alone.keys().eq(lanes.keys()));
    let mut same = 0;
    for (key, row) in &alone {
        for column in ["n_kept", "evicted_ranges", "seed"] {
            assert_eq!(row[column], lanes[key][column], "{key:?}");
        }
        same += usize::from(row["response"] == lanes[key]["response"]);
    }
    // Low bits differ with the batch, so late tokens may differ; on this grid few answers are long enough.
    assert!(same * 10 >= alone.len() * 9, "only {same} of {} answers are the same", alone.len());
}

#[test]
fn moved_and_never_heard_memories_predict_alike_alone_and_side_by_side() {
    let directory = tempfile::tempdir().unwrap();
    let trials = |name: &str, more: &[&str]| {
        let out = directory.path().join(name);
        let base =
            ["exp", "--policy=random,streaming", "--ratio=0.25,0.75", "--limit=2", "--n-predict=12", "--fidelity"];
        run(0, &[&base[..], &["--out", out.to_str().unwrap()], more].concat());
        rows(&out, "trials.csv")
    };
    // One has lanes with their own cells, the other has lanes that share them.
    for (name, modes) in [("moved", "--positions=compact,keep"), ("unheard", "--memory=text,kv")] {
        let alone = trials(&format!("{name} alone"), &[modes, "--parallel=1"]);
        let lanes = trials(&format!("{name} lanes"), &[modes, "--parallel=auto"]);
        assert_eq!(alone.len(), 2 * 9);
        for (key, row) in alone.iter().filter(|(_, row)| row["policy"] != "none") {
            let other = &lanes[key];
            assert!(
                row["error"].is_empty() && other["error"].is_empty(),
                "{key:?}: {} {}",
                row["error"],
                other["error"]
            );
            assert_eq!(row["evicted_ranges"], other["evicted_ranges"], "{key:?}");
            let kl = |row: &BTreeMap<String, String>| row["kl_mean"].parse::<f64>().unwrap();
            let (one, many) = (kl(row), kl(other));
            assert!((one - many).abs() < 0.02 + 0.02 * one, "{key:?}: {one} alone, {many} side by side");
        }
    }
}

#[test]
fn dense_lanes_give_the_rows_of_shared_ones() {
    let directory = tempfile::tempdir().unwrap();
    // Answers end at different times, so lanes change their places; seven jobs a prompt share three lanes.
    let trials = |name: &str, more: &[&str]| {
        let out = directory.path().join(name);
        let base = ["exp", "--policy=random,streaming", "--ratio=0.25,0.5,0.9", "--limit=6", "--fidelity"];
        run(0, &[&base[..], &["--out", out.to_str().unwrap()], more].concat());
        rows(&out, "trials.csv")
    };
    let shared = trials("shared", &["--dense=off", "--parallel=3"]);
    let moved = trials("moved", &["--dense=off", "--parallel=1", "--positions=compact"]);
    for (dense, shared) in [
        (trials("dense", &["--dense=on", "--parallel=3"]), &shared),
        (trials("dense alone", &["--dense=on", "--parallel=1"]), &shared),
        (trials("dense moved", &["--dense=on", "--parallel=3", "--positions=compact"]), &moved),
    ] {
        assert!(dense.keys().eq(shared.keys()));
        let mut same = 0;
        for (key, row) in shared {
            let number = |row: &BTreeMap<String, String>| row["kl_mean"].parse().unwrap_or(0.0);
            let (one, other): (f64, f64) = (number(row), number(&dense[key]));
            assert!((one - other).abs() < 0.02 + 0.02 * one, "{key:?}: {one} shared, {other} dense");
            same += usize::from(row["response"] == dense[key]["response"]);
        }
        assert!(same * 10 >= shared.len() * 9, "only {same} of {} answers are the same", shared.len());
    }
}

#[test]
fn speed_is_measured_in_turn_and_again_in_every_repeat() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let out_text = out.display().to_string();
    let text = "exp --policy random --ratio 0.5 --limit 2 --n-predict 4 --repeats 2 --measure-speed --out";
    let arguments: Vec<_> = text.split(' ').chain([out_text.as_str()]).collect();
    run(0, &arguments);
    let mut reader = csv::Reader::from_path(out.join("trials.csv")).unwrap();
    let trials: Vec<BTreeMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    let order: Vec<_> = trials.iter().map(|row| format!("{} {}", row["condition"], row["repeat"])).collect();
    assert_eq!(order, ["none 0", "random@0.5 0", "none 1", "random@0.5 1"].repeat(2));
    run(2, &[&arguments[..], &["--parallel", "2"]].concat());
    // The report: the geometric mean over examples of the ratio of the mean speeds.
    run(0, &["report", &out_text]);
    let stats = std::fs::read_to_string(out.join("stats.json")).unwrap();
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    let speed = |row: &BTreeMap<String, String>| row["tokens_per_s"].parse::<f64>().unwrap();
    let ratios = trials.chunks(4).map(|rows| (speed(&rows[1]) + speed(&rows[3])) / (speed(&rows[0]) + speed(&rows[2])));
    let expected = ratios.map(f64::ln).sum::<f64>() / 2.0;
    let found = stats["conditions"][1]["speed"]["times_full"]["point"].as_f64().unwrap();
    assert!((found - expected.exp()).abs() < 1e-9, "{found} {expected}");
}

#[test]
fn billions_of_repeats_are_not_listed_in_memory() {
    let said = run(0, &["exp", "--policy=random", "--ratio=0.5", "--repeats=4294967295", "--limit=2", "--dry-run"]);
    assert!(String::from_utf8_lossy(&said.stdout).contains("4294967295 repeats"));
}

#[test]
fn more_conditions_may_join_a_run_whatever_auto_makes_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run").display().to_string();
    let base = ["exp", "--ratio=0.5", "--limit=2", "--n-predict=4", "--parallel=auto", "--out", &out];
    let said = run(0, &base).stderr;
    assert!(String::from_utf8_lossy(&said).contains("parallel: 2 conditions side by side"));
    let said = run(0, &[&base[..], &["--ratio=0.1..0.9:0.1"]].concat()).stderr;
    assert!(String::from_utf8_lossy(&said).contains("conditions side by side"));
    assert_eq!(rows(Path::new(&out), "trials.csv").len(), 2 * 10);
    // One at a time is a different computation.
    let said = run(2, &[&base[..], &["--parallel=1"]].concat()).stderr;
    assert!(String::from_utf8_lossy(&said).contains("parallel was \"more than 1\" and is now \"1\""));
}

#[test]
fn a_scope_is_cut_alike_alone_and_side_by_side() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data.jsonl");
    let line = |id: &str, context: &str| {
        let content = format!("{context} Tell me about the owl. Use the word lantern.");
        json!({
            "id": id, "context": context, "messages": [{"role": "user", "content": content}],
            "instructions": [{"type": "keywords:existence", "kwargs": {"keywords": ["lantern"]}, "text": "Use the word lantern."}],
        })
        .to_string()
    };
    let contexts = ["Maria carried the old muffin near the station.", "Simon washed the letter. The bread was empty."];
    std::fs::write(&data, contexts.map(|context| line(&context[..5], context)).join("\n")).unwrap();
    let trials = |parallel: &str| {
        let out = directory.path().join(parallel);
        let base = ["exp", "--policy=random,streaming", "--ratio=0.5,0.75", "--scope=context", "--n-predict=24"];
        let data = data.to_str().unwrap();
        run(0, &[&base[..], &["--data", data, "--parallel", parallel, "--out", out.to_str().unwrap()]].concat());
        rows(&out, "trials.csv")
    };
    let (alone, lanes) = (trials("1"), trials("3"));
    assert_eq!(alone.len(), 10);
    for (key, row) in alone.iter().filter(|(_, row)| row["policy"] != "none") {
        assert_ne!(row["n_evicted"], "0", "{key:?}");
        assert_eq!(row["evicted_ranges"], lanes[key]["evicted_ranges"], "{key:?}");
    }
    let same = alone.iter().filter(|(key, row)| row["response"] == lanes[*key]["response"]).count();
    assert!(same >= 8, "only {same} of 10 answers are the same");
}

/// The records of `trials.csv`, byte for byte, but for the last, which may be torn.
fn records_but_the_last(directory: &Path) -> Vec<csv::ByteRecord> {
    let Ok(reader) = csv::ReaderBuilder::new().flexible(true).from_path(directory.join("trials.csv")) else {
        return Vec::new();
    };
    let mut records: Vec<_> = reader.into_byte_records().map(Result::unwrap).collect();
    records.pop();
    records
}

/// `KVLLAMA_KILLS=200` makes it longer.
#[test]
fn killed_fifty_times_no_row_is_lost_torn_doubled_or_changed() {
    let n: usize = std::env::var("KVLLAMA_KILLS").map_or(50, |text| text.parse().unwrap());
    let limit = format!("--limit={}", 3.max(n / 16));
    for shards in [1, 2] {
        let directory = tempfile::tempdir().unwrap();
        let whole = directory.path().join("whole");
        let out = |shard: usize| directory.path().join(format!("shard-{shard}"));
        assert!(kvllama(grid(&whole)).arg(&limit).output().unwrap().status.success());
        let command = |shard: usize| {
            let mut command = kvllama(grid(&out(shard)));
            command.args([&limit, &format!("--shard={shard}/{shards}")]).stderr(Stdio::null()).stdout(Stdio::null());
            command
        };
        let (mut kills, mut delay, mut seen) = (0, 7u64, vec![Vec::new(); shards + 1]);
        for _ in 0..n {
            let mut children: Vec<_> = (1..=shards).map(|shard| command(shard).spawn().unwrap()).collect();
            delay = (delay * 48_271) % 2_147_483_647;
            sleep(Duration::from_millis(15 + delay % 60));
            for (child, shard) in children.iter_mut().zip(1..) {
                kills += usize::from(child.try_wait().unwrap().is_none());
                child.kill().unwrap();
                child.wait().unwrap();
                let now = records_but_the_last(&out(shard));
                assert!(now.starts_with(&seen[shard]), "a finished row changed");
                seen[shard] = now;
            }
        }
        println!("{kills} kills, {shards} shards, {limit}");
        assert!(kills >= n * shards / 5, "only {kills} of {n} were still running when killed");
        let shards: Vec<_> = (1..=shards)
            .map(|shard| {
                assert!(command(shard).status().unwrap().success());
                out(shard)
            })
            .collect();
        let merged = directory.path().join("merged");
        assert!(kvllama(["merge"]).args(&shards).arg("--out").arg(&merged).output().unwrap().status.success());
        for name in ["trials.csv", "instructions.csv"] {
            let rows = |directory: &Path| {
                let mut rows = rows(directory, name);
                rows.values_mut().for_each(|row| drop(row.remove("run_id"))); // a shard has its own
                rows
            };
            assert_eq!(rows(&merged), rows(&whole), "{name}");
        }
    }
}

#[test]
fn ctrl_c_leaves_whole_rows_and_a_rerun_goes_on() {
    a_signal_leaves_whole_rows("-INT");
}

#[test]
fn the_signal_before_a_preemption_does_too() {
    a_signal_leaves_whole_rows("-USR1");
}

fn a_signal_leaves_whole_rows(signal: &str) {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let arguments = ["exp", "--ratio=0.5", "--limit=12", "--n-predict=64", "--out", out.to_str().unwrap()];
    let child = kvllama(arguments).stderr(Stdio::piped()).spawn().unwrap();
    let trials = out.join("trials.csv");
    while std::fs::read_to_string(&trials).map_or(0, |text| text.len()) < 2000 {
        sleep(Duration::from_millis(5));
    }
    // A second process is refused while the first holds the directory.
    let refused = run(2, &arguments);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another process is writing"));
    let kill = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains(&format!("go on with --out {}", out.display())), "{said}");
    let before = rows(&out, "trials.csv");
    assert!(!before.is_empty() && before.len() < 24, "{}", before.len());
    let again = run(0, &arguments);
    assert!(String::from_utf8_lossy(&again.stderr).contains(&format!("{} finished earlier", before.len())));
    let after = rows(&out, "trials.csv");
    assert_eq!(after.len(), 24);
    assert!(before.iter().all(|(key, row)| after[key] == *row));
}

#[test]
fn a_directory_of_another_run_is_refused_or_put_aside() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run").display().to_string();
    let base = ["exp", "--ratio=0.5", "--limit=1", "--n-predict=4", "--out", &out];
    run(0, &base);
    let other = [&base[..], &["--seed=2", "--n-predict=5"]].concat();
    let said = run(2, &other).stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("seed was 1 and is now 2") && said.contains("n-predict was 4 and is now 5"), "{said}");
    // More conditions, examples and repeats do not make it another run.
    run(0, &[&base[..], &["--ratio=0.5,0.9", "--limit=2", "--repeats=2"]].concat());
    assert_eq!(rows(Path::new(&out), "trials.csv").len(), 2 * (1 + 2 * 2), "the full cache draws nothing: one repeat");
    run(0, &[&other[..], &["--fresh"]].concat());
    assert_eq!(rows(Path::new(&out), "trials.csv").len(), 2);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "the earlier run is put aside");
}

#[test]
fn ratio_zero_is_no_eviction_bit_for_bit() {
    let directory = tempfile::tempdir().unwrap();
    let logits = |name: &str, arguments: &[&str]| {
        let path = directory.path().join(name);
        let base = ["probe", "--prompt=Tell me about the owl for my old uncle.", "--continue=40,41,42", "--logits"];
        run(0, &[&base[..], &[path.to_str().unwrap()], arguments].concat());
        std::fs::read(path).unwrap()
    };
    let none = logits("none", &["--policy=none"]);
    for (index, arguments) in [
        &["--policy=random", "--ratio=0"][..],
        &["--policy=streaming", "--ratio=0.0"],
        &["--policy=streaming", "--keep-first=500", "--keep-last=500"],
        &["--policy=random", "--ratio=0", "--positions=compact"],
        &["--policy=random", "--ratio=0", "--memory=text"],
    ]
    .iter()
    .enumerate()
    {
        assert!(logits(&index.to_string(), arguments) == none, "{arguments:?}");
    }
    assert!(logits("cut", &["--policy=random", "--ratio=0.3"]) != none);
}

#[test]
fn evicted_positions_are_really_gone() {
    for (ratio, positions) in [("0.25", "keep"), ("0.5", "compact"), ("0.9", "keep")] {
        let output = run(
            0,
            &[
                "probe",
                "--prompt=Tell me about the owl for my old uncle. Use the word lantern. Avoid commas.",
                "--json",
                "--policy=random",
                "--ratio",
                ratio,
                "--positions",
                positions,
                "--n-predict=1",
            ],
        );
        let probe: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let number = |name: &str| probe[name].as_u64().unwrap_or_else(|| panic!("{name} in {probe}"));
        let cached = number("n_prompt") - 1;
        assert_eq!(number("cells_used_before"), cached);
        assert_eq!(number("cells_used_after"), number("n_kept"));
        assert_eq!(number("n_kept") + number("n_evicted"), cached);
        assert_eq!(number("next_pos"), if positions == "compact" { number("n_kept") } else { cached });
    }
}

#[test]
fn types_of_the_cache_are_an_axis() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let text = "exp --ratio 0.5 --limit 3 --n-predict 8 --fidelity --kv-type f16,q8_0,q8_0/q4_0 --out";
    let mut arguments: Vec<_> = text.split(' ').collect();
    let out_text = out.display().to_string();
    arguments.push(&out_text);
    run(0, &arguments);
    let trials = rows(&out, "trials.csv");
    assert_eq!(trials.len(), 3 * 6);
    let mean = |condition: &str, column: &str| {
        let of = trials.values().filter(|row| row["condition"] == condition);
        of.map(|row| row[column].parse::<f64>().unwrap()).sum::<f64>() / 3.0
    };
    let bytes = |condition: &str| mean(condition, "kv_bytes_kept");
    // 34 bytes for 32 numbers, and 18: the sizes of ggml's blocks.
    assert!((bytes("none/kv=q8_0") / bytes("none") - 34.0 / 64.0).abs() < 1e-6);
    assert!((bytes("none/kv=q8_0/q4_0") / bytes("none") - (34.0 + 18.0) / 128.0).abs() < 1e-6);
    assert!((bytes("random@0.5/kv=q8_0") / bytes("random@0.5") - 34.0 / 64.0).abs() < 1e-6);
    let kl = |condition: &str| mean(condition, "kl_mean");
    assert!(kl("none").abs() < 1e-9, "the full cache of the first type is the measure");
    assert!(kl("none") < kl("none/kv=q8_0") && kl("none/kv=q8_0") < kl("none/kv=q8_0/q4_0"));
    assert!(kl("none/kv=q8_0/q4_0") < kl("random@0.5"));

    run(0, &["report", &out_text]);
    let stats: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("stats.json")).unwrap()).unwrap();
    let compared: Vec<_> = stats["comparisons"].as_array().unwrap().iter().collect();
    let pair = |a: &str, b: &str| {
        let name = |index: &serde_json::Value| stats["conditions"][index.as_u64().unwrap() as usize]["name"].clone();
        compared.iter().any(|found| name(&found["a"]) == a && name(&found["b"]) == b)
    };
    assert!(pair("none/kv=q8_0", "random@0.5/kv=q8_0"), "each type has its own full cache: {:?}", compared.first());
    assert!(!pair("none", "random@0.5/kv=q8_0"));
    assert!(pair("none", "none/kv=q8_0") && pair("random@0.5", "random@0.5/kv=q8_0"));
}
