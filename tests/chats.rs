//! Chats: the model's own answers, turn by turn, in a cache that is cut before each of them. tests/reference.rs compares
//! logits after several cuts with an independent implementation.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use common::{kvllama, rows, run};
use kvllama::evict::{Ratio, parse_ranges};
use serde_json::{Value, json};

type Rows = BTreeMap<Vec<String>, BTreeMap<String, String>>;

/// Chats in the language of the embedded model: with a system turn, without, and one that begins with a given answer.
fn chats() -> Vec<Value> {
    let chat = |id: &str, messages: &[(&str, &str)]| {
        let messages: Vec<_> =
            messages.iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
        json!({"id": id, "messages": messages, "instructions": [{"type": "punctuation:no_comma"}]})
    };
    vec![
        chat(
            "system",
            &[
                ("system", "You are a helpful assistant. Use only lowercase letters. No commas are allowed."),
                ("user", "Tell me about the owl."),
                ("user", "Tell me about the rocket. Include the word lantern."),
                ("user", "Please describe the boat."),
            ],
        ),
        chat("plain", &[("user", "Tell me about the fox. No commas are allowed."), ("user", "And the castle?")]),
        chat(
            "given",
            &[
                ("user", "Tell me about the fox."),
                ("assistant", "The fox is old."),
                ("user", "Tell me about the island."),
                ("user", "Tell me about the statue."),
            ],
        ),
    ]
}

fn write(path: &Path, examples: &[Value]) -> PathBuf {
    let lines: Vec<_> = examples.iter().map(Value::to_string).collect();
    std::fs::write(path, lines.join("\n")).unwrap();
    path.to_owned()
}

fn exp(data: &Path, out: &Path, more: &[&str]) -> Rows {
    let (data, out) = (data.to_str().unwrap(), out.to_str().unwrap());
    run(0, &[&["exp", "--data", data, "--out", out, "--n-predict=24", "--threads=1"], more].concat());
    rows(out.as_ref(), "trials.csv")
}

fn key(example: &str, condition: &str, turn: usize) -> Vec<String> {
    [example, condition, "0", &turn.to_string()].map(str::to_owned).to_vec()
}

/// Every turn of a chat with the whole cache gives the answer that a fresh reading of everything said so far gives, as
/// llama.cpp's own chat does: the same template, the same greedy tokens.
#[test]
fn without_eviction_a_chat_is_a_plain_chat() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let real = common::real_model("smollm2-135m-instruct-q4_1.gguf");
    for model in std::iter::once("default").chain(real.as_deref()) {
        // Quantized weights compute many tokens otherwise than one, so that one of two near-equal tokens may win.
        let options = ["--model", model, "--policy=none", "--fresh", "--batch=1"];
        let chats = chats();
        let found = exp(&write(&at("chats.jsonl"), &chats), &at("chats"), &options);
        let mut fresh = Vec::new();
        for chat in &chats {
            let (id, messages) = (chat["id"].as_str().unwrap(), chat["messages"].as_array().unwrap());
            let (mut said, mut turn) = (Vec::new(), 0);
            for (index, message) in messages.iter().enumerate() {
                said.push(message.clone());
                let answered = messages.get(index + 1).is_some_and(|next| next["role"] == "assistant");
                if message["role"] != "user" || answered {
                    continue;
                }
                let instructions = &chat["instructions"];
                fresh.push(json!({"id": format!("{id}-{turn}"), "messages": said, "instructions": instructions}));
                let answer = &found[&key(id, "none", turn)]["response"];
                said.push(json!({"role": "assistant", "content": answer}));
                turn += 1;
            }
        }
        let fresh = exp(&write(&at("fresh.jsonl"), &fresh), &at("fresh"), &options);
        assert_eq!((found.len(), fresh.len()), (7, 7));
        for (of, row) in &found {
            let alone = &fresh[&key(&format!("{}-{}", of[0], of[3]), "none", 0)];
            for column in ["n_prompt", "response", "stop_reason"] {
                assert_eq!(row[column], alone[column], "{model}, {of:?}: {column}");
            }
        }
    }
}

#[test]
fn a_ratio_counts_all_that_was_read_and_what_is_gone_stays_gone() {
    let directory = tempfile::tempdir().unwrap();
    let data = write(&directory.path().join("chats.jsonl"), &chats());
    let policies = "--policy=streaming,random,snapkv,tova,h2o,keydiff,expected-attention,lagkv,sinks+random";
    let options = [policies, "--ratio=0.5,0.75", "--memory=kv,text"];
    let found = exp(&data, &directory.path().join("all"), &[&options[..], &["--parallel=1"]].concat());
    assert_eq!(found.len(), 7 * (1 + 9 * 2 * 2));
    let mut gone: Vec<usize> = Vec::new();
    for (of, row) in &found {
        let ratio: Ratio = row["ratio"].parse().unwrap();
        let number = |column: &str| row[column].parse::<usize>().unwrap();
        let read = number("n_prompt") - 1;
        assert_eq!(
            (number("n_kept"), number("n_evicted")),
            (ratio.survivors(read), read - ratio.survivors(read)),
            "{of:?}"
        );
        let ranges = &row["evicted_ranges"];
        let evicted: Vec<usize> =
            if ranges.is_empty() { Vec::new() } else { parse_ranges(ranges).unwrap().into_iter().flatten().collect() };
        if of[3] != "0" {
            assert!(gone.iter().all(|position| evicted.contains(position)), "{of:?}");
        }
        gone = evicted;
    }
    // The first turn is the trial of the first prompt alone.
    let alone: Vec<Value> = chats()
        .into_iter()
        .take(2)
        .map(|mut chat| {
            let messages = chat["messages"].as_array_mut().unwrap();
            let first = messages.iter().position(|message| message["role"] == "user").unwrap();
            messages.truncate(first + 1);
            chat
        })
        .collect();
    let alone = write(&directory.path().join("alone.jsonl"), &alone);
    let alone = exp(&alone, &directory.path().join("alone"), &[&options[..], &["--parallel=1"]].concat());
    for (of, row) in &alone {
        for column in ["evicted_ranges", "response", "n_prompt", "seed"] {
            assert_eq!(row[column], found[of][column], "{of:?}: {column}");
        }
    }
    // Side by side, near-equal tokens and scores may change places, in few of the chats.
    let beside = exp(&data, &directory.path().join("beside"), &[&options[..], &["--parallel=8"]].concat());
    let same = |column: &str| found.iter().filter(|(of, row)| beside[*of][column] == row[column]).count();
    println!("of {}: {} answers, {} evictions", found.len(), same("response"), same("evicted_ranges"));
    assert!(beside.len() == found.len() && same("response") * 10 >= found.len() * 9);
    assert!(same("evicted_ranges") * 10 >= found.len() * 9);
}

#[test]
fn killed_fifty_times_a_chat_goes_on_at_its_turn() {
    let directory = tempfile::tempdir().unwrap();
    let data = write(&directory.path().join("chats.jsonl"), &chats());
    // The reference, and chats side by side.
    for (parallel, kills) in [("--parallel=1", 25), ("--parallel=4", 25)] {
        let at = |name: &str| directory.path().join(format!("{name}{parallel}"));
        let (whole, killed) = (at("whole"), at("killed"));
        let options = ["--policy=random,h2o", "--ratio=0.3..0.7:0.2", "--temp=0.7", "--repeats=2", parallel];
        let found = exp(&data, &whole, &options);
        let arguments =
            [&["exp", "--data", data.to_str().unwrap(), "--out", killed.to_str().unwrap()], &options[..]].concat();
        let arguments = [&arguments[..], &["--n-predict=24", "--threads=1"]].concat();
        // The rows of a run in the order of its file; after a kill the last one may be torn.
        let finished = |out: &Path| -> Vec<csv::StringRecord> {
            let rows = csv::Reader::from_path(out.join("trials.csv")).map(|reader| reader.into_records());
            rows.map_or(Vec::new(), |rows| rows.map_while(Result::ok).collect())
        };
        let (mut hit, mut delay, mut before) = (0, 11u64, Vec::new());
        for _ in 0..kills {
            let mut child = kvllama(&arguments).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
            delay = (delay * 48_271) % 2_147_483_647;
            sleep(Duration::from_millis(15 + delay % 80));
            hit += u32::from(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            child.wait().unwrap();
            let now = finished(&killed);
            assert!(now.starts_with(&before), "a finished row has changed");
            before = now[..now.len().saturating_sub(1)].to_vec();
        }
        assert!(hit >= 5, "only {hit} of {kills} were still running when killed");
        run(0, &arguments);
        let now = finished(&killed);
        assert!(now.starts_with(&before), "a finished row has changed");
        let keys = |rows: Vec<csv::StringRecord>| -> Vec<Vec<String>> {
            let header = csv::Reader::from_path(whole.join("trials.csv")).unwrap().headers().unwrap().clone();
            let at = |name| header.iter().position(|column| column == name).unwrap();
            let key = ["example_id", "condition", "repeat", "turn"].map(at);
            rows.iter().map(|row| key.iter().map(|&column| row[column].to_owned()).collect()).collect()
        };
        assert_eq!(keys(now), keys(finished(&whole)), "every turn once, in order");
        let (again, instructions) = (rows(&killed, "trials.csv"), rows(&killed, "instructions.csv"));
        let expected = rows(&whole, "instructions.csv");
        assert!(instructions.keys().eq(expected.keys()));
        // Side by side, low bits depend on which chats are still unfinished.
        let same = found.iter().filter(|(key, row)| again[*key]["response"] == row["response"]).count();
        assert!(
            same * 10 >= found.len() * 9,
            "{same} of {} answers are those of the run that was not killed",
            found.len()
        );
        if parallel == "--parallel=1" {
            assert_eq!((again, instructions), (found, expected));
        }
    }
}

#[test]
fn an_answer_on_disk_is_given_again_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let data = write(&directory.path().join("chats.jsonl"), &chats()[..1]);
    let out = directory.path().join("run");
    exp(&data, &out, &["--policy=none"]);
    let path = out.join("trials.csv");
    let text = std::fs::read_to_string(&path).unwrap();
    let first: String = text.split_inclusive('\n').take(2).collect();
    assert!(first.contains("the owl"), "{first}");
    // The first turn as another machine may have answered it, and the others lost.
    let other = first.replace("the owl", "an old boat");
    std::fs::write(&path, &other).unwrap();
    let found = exp(&data, &out, &["--policy=none"]);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(&other), "{text}");
    assert!(found.len() == 3 && found.values().all(|row| row["error"].is_empty()), "{text}");
    // The next turn is that of a chat in which this answer was said. (Its tokens may be others, for the same text.)
    let said = &found[&key("system", "none", 0)]["response"];
    let mut scripted = chats()[0].clone();
    scripted["messages"].as_array_mut().unwrap().insert(2, json!({"role": "assistant", "content": said}));
    let scripted = write(&directory.path().join("scripted.jsonl"), &[scripted]);
    let scripted = exp(&scripted, &directory.path().join("scripted"), &["--policy=none"]);
    assert_eq!(found[&key("system", "none", 1)]["response"], scripted[&key("system", "none", 0)]["response"]);
}

#[test]
fn layers_and_heads_that_differ_begin_as_in_their_prompt_alone() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let mut first = chats().remove(0);
    let chat = write(&at("chat.jsonl"), &[first.clone()]);
    first["messages"].as_array_mut().unwrap().truncate(2);
    let first = write(&at("first.jsonl"), &[first]);
    for modes in ["--granularity=head,layer", "--layers=global,0+2"] {
        let options = ["--policy=snapkv,random", "--ratio=0.5", modes, "--parallel=1", "--fresh"];
        let (found, alone) = (exp(&chat, &at("chat"), &options), exp(&first, &at("first"), &options));
        assert_eq!((found.len(), alone.len()), (3 * 5, 5));
        for (of, row) in &alone {
            for column in ["response", "n_kept", "evicted_ranges", "kv_bytes_kept"] {
                assert_eq!(row[column], found[of][column], "{of:?}: {column}");
            }
        }
        for (of, row) in found.iter().filter(|(of, _)| of[1] != "none") {
            let read: usize = row["n_prompt"].parse().unwrap();
            assert_eq!(row["n_kept"], ((read - 1) / 2).to_string(), "{of:?}");
        }
    }
}

#[test]
fn two_hundred_turns_take_no_more_memory_than_ten() {
    let directory = tempfile::tempdir().unwrap();
    let of = |turns: usize| {
        let ask = |turn: usize| json!({"role": "user", "content": format!("Tell me about the {}.", ["owl", "fox"][turn % 2])});
        let messages: Vec<_> = (0..turns).map(ask).collect();
        let chat = json!({"id": "long", "messages": messages, "instructions": [{"type": "punctuation:no_comma"}]});
        write(&directory.path().join(format!("{turns}.jsonl")), &[chat])
    };
    let options = ["--policy=streaming,random,h2o", "--keep-last=124", "--no-baseline"];
    let cells = |data: &Path| {
        let arguments = ["exp", "--dry-run", "--json", "--n-predict=24", "--data", data.to_str().unwrap()];
        let output = run(0, &[&arguments[..], &options].concat());
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["n_ctx"].as_u64().unwrap()
    };
    assert_eq!(cells(&of(200)), cells(&of(10)));
    let found = exp(&of(200), &directory.path().join("run"), &options);
    assert_eq!(found.len(), 600);
    for row in found.values() {
        assert!(row["error"].is_empty() && row["n_kept"].parse::<usize>().unwrap() <= 128, "{row:?}");
    }
    let last = &found[&key("long", "streaming@4+124", 199)];
    assert!(last["n_prompt"].parse::<usize>().unwrap() > 3000 && !last["response"].is_empty(), "{last:?}");
    // Under a rolling budget, too.
    let rolling =
        exp(&of(10), &directory.path().join("rolling"), &["--policy=streaming", "--rolling=64", "--no-baseline"]);
    assert!(rolling.values().all(|row| row["n_kept"].parse::<usize>().unwrap() <= 64), "{rolling:?}");
}

#[test]
fn what_chats_exclude_is_said_before_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let data = write(&directory.path().join("chats.jsonl"), &chats());
    for (options, expected) in [
        (&["--policy=adakv+snapkv", "--ratio=0.5", "--granularity=head"][..], "shares its budget anew each time"),
        (&["--policy=random", "--ratio=0.5", "--scope=system"], "--scope prompt alone"),
        (&["--policy=kvzip", "--ratio=0.5"], "cannot make the model read everything a second time"),
        (&["--policy=forget:instruction"], "has no single prompt"),
        (
            &["--policy=keydiff", "--ratio=0.5", "--positions=compact"],
            "goes with --positions keep under a policy that ranks by keys",
        ),
        (&["--policy=random", "--ratio=0.5", "--fidelity"], "--fidelity compares one answer"),
        (&["--policy=random", "--ratio=0.5", "--n-predict=2000"], "lower --n-predict"),
    ] {
        let arguments = ["exp", "--data", data.to_str().unwrap(), "--out", directory.path().to_str().unwrap()];
        let output = run(2, &[&arguments[..], options].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(expected) && said.contains("example `system`"), "{options:?}: {said}");
    }
}

#[test]
fn hostile_chats_are_refused_in_a_sentence_with_their_line() {
    let directory = tempfile::tempdir().unwrap();
    let user = |text: &str| json!({"role": "user", "content": text});
    let rule = json!({"type": "punctuation:no_comma"});
    let chat = |messages: Vec<Value>, rule: Value| json!({"id": "x", "messages": messages, "instructions": [rule]});
    let missing = |turn: Value| json!({"type": "punctuation:no_comma", "turn": turn});
    for (name, example, expected) in [
        ("no text", chat(vec![user("Hi."), json!({"role": "user"})], rule.clone()), "missing field `content`"),
        ("empty text", chat(vec![user("Hi."), user(" ")], rule.clone()), "is empty"),
        ("role", chat(vec![user("Hi."), json!({"role": "robot", "content": "Hi."})], rule.clone()), "`robot`"),
        (
            "system late",
            chat(vec![user("Hi."), json!({"role": "system", "content": "Hi."}), user("Hi.")], rule.clone()),
            "system",
        ),
        ("endless", chat(vec![user("Hi."); 10_000], rule.clone()), "a chat has at most 1000 turns"),
        (
            "turn",
            chat(vec![user("Hi."), user("Ho.")], missing(json!(2))),
            "there is no turn 2: the model gives 2 answers",
        ),
        ("range", chat(vec![user("Hi."), user("Ho.")], missing(json!("1..9"))), "there is no turn 1..9"),
        ("negative", chat(vec![user("Hi."), user("Ho.")], missing(json!(-1))), "`turn` is `-1`"),
    ] {
        let data = write(&directory.path().join("hostile.jsonl"), &[chats()[0].clone(), example]);
        let (data, out) = (data.to_str().unwrap(), directory.path().join("run"));
        for arguments in [&["data", "check", data][..], &["exp", "--data", data, "--out", out.to_str().unwrap()]] {
            let output = run(2, arguments);
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(expected) && said.contains("line 2"), "{name}: {said}");
            assert!(!said.contains("panicked") && !out.exists(), "{name}: {said}");
        }
    }
}

#[test]
fn the_report_follows_standing_rules_turn_by_turn() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let options = ["--policy=streaming", "--ratio=0.5", "--limit=5"];
    let trials = exp(Path::new("chats-demo"), &out, &options);
    assert_eq!(trials.len(), 5 * 6 * 2);
    run(0, &["report", out.to_str().unwrap()]);
    let stats: Value = serde_json::from_slice(&std::fs::read(out.join("stats.json")).unwrap()).unwrap();
    let turns = &stats["turns"];
    assert_eq!(turns["chats"], 5);
    // The first three instructions of these chats stand in the system message, the others in user messages.
    let verdicts = rows(&out, "instructions.csv");
    let names: Vec<&str> =
        stats["conditions"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    for (index, name) in names.iter().enumerate() {
        let standing = &turns["conditions"][index];
        let mut whole: BTreeMap<(&str, &str), bool> = BTreeMap::new();
        for turn in 0..6 {
            let here: Vec<((&str, &str), f64)> = verdicts
                .iter()
                .filter(|(of, _)| of[1] == *name && of[3] == turn.to_string() && of[4].parse::<usize>().unwrap() < 3)
                .map(|(of, row)| ((of[0].as_str(), of[4].as_str()), row["score"].parse().unwrap()))
                .collect();
            assert_eq!(here.len(), 15);
            let mean = here.iter().map(|(_, score)| score).sum::<f64>() / 15.0;
            assert!((standing["scores"][turn]["point"].as_f64().unwrap() - mean).abs() < 1e-9, "{name}, turn {turn}");
            for (rule, score) in here {
                *whole.entry(rule).or_insert(true) &= score >= 0.5;
            }
            let unbroken = whole.values().filter(|&&whole| whole).count() as f64 / 15.0;
            let found = standing["unbroken"].get(turn).map(|one| one["point"].as_f64().unwrap());
            // The curve ends with the last rule at risk.
            assert!((found.unwrap_or(0.0) - unbroken).abs() < 1e-9, "{name}, turn {turn}: {found:?}, not {unbroken}");
        }
    }
    assert_eq!(turns["comparisons"][0]["n"], 5);
    let export = |code, to| {
        run(code, &["export", out.to_str().unwrap(), "--to", to, "--out", directory.path().join(to).to_str().unwrap()])
    };
    export(0, "csv");
    assert_eq!(rows(&directory.path().join("csv"), "trials.csv").len(), trials.len(), "every turn is exported");
    let said = export(2, "inspect").stderr;
    assert!(String::from_utf8_lossy(&said).contains("holds one answer for each example"));
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("What a chat forgets, turn by turn") && page.contains("\"turns\":6"));
}
