//! Every policy and every wrapper in every mode: it runs, or is refused before the run in one sentence. A new policy is
//! in these tests by itself.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{kvllama, rows, run};
use serde_json::{Value, json};

type Rows = BTreeMap<Vec<String>, BTreeMap<String, String>>;

/// Filters for `qfilters`, and examples with a system message, a context and an instruction.
struct Setting {
    directory: tempfile::TempDir,
    filters: String,
    data: String,
}

fn setting() -> Setting {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (filters, data) = (at("filters.npz"), at("data.jsonl"));
    run(0, &["calibrate", "--data=demo", "--limit=4", "--out", &filters]);
    let context = "The lamp in the hall is red. The fox has a small key. ".repeat(5);
    let example = |id: &str| {
        let user = format!("{context}Tell me about the {id}. No commas are allowed.");
        json!({
            "id": id, "context": context,
            "messages": [{"role": "system", "content": "You are a helpful assistant. Use only lowercase letters."},
                         {"role": "user", "content": user}],
            "instructions": [{"type": "punctuation:no_comma", "text": "No commas are allowed."}],
        })
    };
    let lines: Vec<_> = ["owl", "boat", "fox", "rocket"].map(|id| example(id).to_string()).into();
    std::fs::write(&data, lines.join("\n")).unwrap();
    Setting { directory, filters, data }
}

impl Setting {
    /// Every policy, and every wrapper around snapkv, with the options that it needs.
    fn policies(&self) -> Vec<(String, Vec<&'static str>)> {
        let listed: Value = serde_json::from_slice(&run(0, &["policies", "--json"]).stdout).unwrap();
        let names = listed.as_array().unwrap().iter().map(|policy| policy["name"].as_str().unwrap().to_owned());
        // tests/own.rs has the policies of one's own.
        let names = names
            .filter(|name| name != "none" && !["exec:", "scores:", "own:"].iter().any(|own| name.starts_with(own)));
        let options = |name: String| {
            let options = match name.as_str() {
                forget if forget.starts_with("forget:") => vec![],
                "duo" | "adakv+POLICY" => vec!["--ratio=0.5", "--granularity=head"],
                "pyramidkv+POLICY" => vec!["--ratio=0.5", "--granularity=layer"],
                _ => vec!["--ratio=0.5"],
            };
            let file = format!("qfilters:file={}", self.filters);
            (name.replace("POLICY", "snapkv").replace("qfilters", &file), options)
        };
        names.map(options).collect()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs each policy in a mode; those that `refused` names are refused. A mode with a budget of its own replaces the
    /// ratio.
    fn each(&self, mode: &[&str], data: &str, refused: &[&str]) {
        let own_budget = mode.iter().any(|option| option.starts_with("--rolling"));
        for (index, (policy, options)) in self.policies().iter().enumerate() {
            let out = self.at(&format!("{index}"));
            let options = options.iter().filter(|option| !(own_budget && option.starts_with("--ratio")));
            let mut arguments = vec!["exp", "--quiet", "--limit=2", "--n-predict=3", "--threads=1", "--policy", policy];
            arguments.extend(options.chain(mode));
            arguments.extend(["--data", data, "--out", out.to_str().unwrap()]);
            let said = kvllama(&arguments).output().unwrap();
            let sentence = String::from_utf8_lossy(&said.stderr);
            let is_refused = refused.iter().any(|name| policy.starts_with(name));
            assert_eq!(said.status.code(), Some(if is_refused { 2 } else { 0 }), "{policy} {mode:?}: {sentence}");
            if is_refused {
                assert_one_sentence(&sentence, &format!("{policy} {mode:?}"));
                assert!(!out.join("trials.csv").exists(), "{policy} {mode:?} was refused after the run had begun");
            } else {
                let trials = rows(&out, "trials.csv");
                assert!(trials.values().all(|row| row["error"].is_empty()), "{policy} {mode:?}");
                assert!(trials.values().any(|row| row["n_evicted"] != "0"), "{policy} {mode:?} evicts nothing");
            }
        }
    }
}

fn assert_one_sentence(said: &str, what: &str) {
    assert!(said.starts_with("error: ") && said.trim().lines().count() == 1, "{what}: {said}");
    assert!(!said.contains("panicked"), "{what}: {said}");
}

#[test]
fn a_scope_and_protected_spans() {
    let setting = setting();
    let mode = ["--scope=context", "--protect=bos,instruction"];
    setting.each(&mode, &setting.data, &["forget:"]);
}

#[test]
fn fair_shares() {
    let setting = setting();
    setting.each(&["--fair"], &setting.data, &["forget:", "context-shift"]);
}

#[test]
fn a_rolling_budget() {
    let setting = setting();
    let refused = ["context-shift", "kvzip", "duo", "adakv+", "pyramidkv+", "forget:"];
    setting.each(&["--rolling=24", "--every=4"], &setting.data, &refused);
}

#[test]
fn a_chat() {
    let setting = setting();
    let messages = ["Tell me about the owl. No commas are allowed.", "Tell me about the rocket.", "And the boat?"]
        .map(|text| json!({"role": "user", "content": text}));
    let chat = json!({"id": "chat", "messages": messages, "instructions": [{"type": "punctuation:no_comma"}]});
    let data = setting.at("chats.jsonl");
    std::fs::write(&data, chat.to_string()).unwrap();
    let refused = ["kvzip", "duo", "adakv+", "pyramidkv+", "forget:"];
    setting.each(&[], data.to_str().unwrap(), &refused);
}

/// What survives and what is answered, by trial.
fn outcome(trials: Rows) -> Vec<(Vec<String>, [String; 3])> {
    let cells = |row: &BTreeMap<String, String>| {
        assert!(row["error"].is_empty(), "{row:?}");
        ["evicted_ranges", "n_kept", "response"].map(|column| row[column].clone())
    };
    trials.iter().map(|(key, row)| (key.clone(), cells(row))).collect()
}

#[test]
fn side_by_side_resumed_and_in_shards() {
    let setting = setting();
    let filters = format!("qfilters:file={}", setting.filters);
    let of_token: Vec<String> = setting
        .policies()
        .into_iter()
        .filter(|(policy, options)| options == &["--ratio=0.5"] && !policy.contains("qfilters"))
        .map(|(policy, _)| policy)
        .chain([filters.clone()])
        .collect();
    let of_head = format!("duo,adakv+snapkv,pyramidkv+h2o,adakv+criticalkv+snapkv,criticalkv+kvzip,{filters}");
    let of_token = of_token.join(",");
    let grids: [&[&str]; 2] =
        [&["--policy", &of_token], &["--policy", &of_head, "--granularity=head", "--layers=global", "--no-baseline"]];
    for (index, grid) in grids.iter().enumerate() {
        let exp = |name: &str, more: &[&str]| -> PathBuf {
            let out = setting.at(&format!("{index}{name}"));
            let how =
                ["exp", "--quiet", "--data", &setting.data, "--ratio=0.5", "--n-predict=3", "--threads=1", "--out"];
            run(0, &[&how[..], &[out.to_str().unwrap()], grid, more].concat());
            out
        };
        let read = |directory: &Path| outcome(rows(directory, "trials.csv"));
        let alone = read(&exp("alone", &["--parallel=1"]));
        assert_eq!(alone.len() % 4, 0);
        exp("beside", &["--limit=2", "--parallel=4"]);
        assert_eq!(read(&exp("beside", &["--parallel=4"])), alone, "{grid:?}");
        let shards =
            ["1/2", "2/2"].map(|shard| exp(&format!("shard{}", &shard[..1]), &["--parallel=4", "--shard", shard]));
        let merged = setting.at(&format!("{index}merged"));
        let [a, b] = shards.each_ref().map(|shard| shard.to_str().unwrap());
        run(0, &["merge", a, b, "--out", merged.to_str().unwrap()]);
        assert_eq!(read(&merged), alone, "{grid:?}");
    }
}

#[test]
fn hostile_names_and_parameters_are_refused_in_one_sentence() {
    let long = "a".repeat(5_000);
    let hostile = [
        "",
        " ",
        ":",
        "+",
        "=",
        ",",
        "snapkv:",
        "snapkv:window",
        "snapkv:window=",
        "snapkv:window=0",
        "snapkv:window=-1",
        "snapkv:window=1e3",
        "snapkv:window=99999999999999999999999",
        "snapkv:window=16,window",
        "snapkv:window=16;kernel=5",
        "snapkv:Window=16",
        "snapkv:kernel=５",
        "snapkv::window=16",
        "snapkv:window=16:kernel=5",
        "h2o:recent=101",
        "lagkv:lag=0",
        "kvzip:chunk=15",
        "duo:recent=0",
        "chunkkv+snapkv:chunk=0",
        "criticalkv+snapkv:first=101",
        "pyramidkv+snapkv:beta=0",
        "sinks+sinks+knorm",
        "chunkkv+criticalkv+snapkv",
        "criticalkv+knorm",
        "criticalkv+random",
        "adakv+duo",
        "+snapkv",
        "snapkv+",
        "snapkv+sinks",
        "none:x=1",
        "sinks+none",
        "qfilters",
        "qfilters:file=",
        "qfilters:file=/nowhere/\u{7}",
        "qfilters:file=/",
        "qfilters:window=3",
        "exec:",
        "exec:/nowhere",
        "scores:",
        "own:x",
        "forget:",
        "forget:nothing",
        "../../etc/passwd",
        "snapkv:window=16\nkernel=5",
        &long,
    ];
    for policy in hostile {
        let said =
            kvllama(["probe", "--prompt=Tell me about the owl.", "--ratio=0.5", "--threads=1", "--policy", policy])
                .output()
                .unwrap();
        let sentence = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(2), "{policy:?}: {sentence}");
        assert_one_sentence(&sentence, &format!("{policy:?}"));
    }
}
