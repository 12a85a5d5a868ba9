//! What reads files and replies of strangers, as functions of bytes: for libFuzzer (`fuzz/`), and for the tests here,
//! which replay its corpus and break it at random. Each must return, whatever the bytes are, and refuse with exit code 2.
//!
//! Compiled only in tests and with the feature `fuzz`.

use std::ffi::OsString;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::condition::Condition;
use crate::evict::{Budget, Layers, PolicySpec, Protect, parse_ratios};
use crate::exp::{INSTRUCTIONS, MANIFEST, Primary, Shard, TRIALS};
use crate::llama::{Template, Turn};
use crate::{Result, data, judge, llama, own, report, score};

#[cfg(test)]
mod tests;

/// A function that reads bytes, and its name, which is that of its folder in `fuzz/corpus`.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 11] = [
    ("data", examples),
    ("trials", |bytes| run_directory(TRIALS, bytes)),
    ("instructions", |bytes| run_directory(INSTRUCTIONS, bytes)),
    ("manifest", |bytes| run_directory(MANIFEST, bytes)),
    ("config", config),
    ("grammars", grammars),
    ("template", template),
    ("gguf", gguf),
    ("judge", judge_reply),
    ("rules", rules),
    ("exec", exec_reply),
];

/// Runs the target with this name.
///
/// # Panics
/// If there is none, or if the target does not refuse as it should.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target");
    target(bytes);
}

/// What is refused is the user's to mend.
fn check<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            assert_eq!(error.exit_code(), 2, "{error}");
            assert!(!error.sentence().contains(char::is_control), "{error}");
            None
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A data set, and what `data check` finds in it.
fn examples(bytes: &[u8]) {
    let text = text(bytes);
    check(data::parse(&text, "examples.jsonl"));
    data::survey(&text);
}

/// A run directory with this file of a stranger beside two whole ones, up to its report.
fn run_directory(name: &str, bytes: &[u8]) {
    let files = [
        (MANIFEST, include_str!("../../fuzz/corpus/manifest/run.json")),
        (TRIALS, include_str!("../../fuzz/corpus/trials/run.csv")),
        (INSTRUCTIONS, include_str!("../../fuzz/corpus/instructions/run.csv")),
    ];
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    for (file, whole) in files {
        let content = if file == name { bytes } else { whole.as_bytes() };
        std::fs::write(directory.path().join(file), content).expect("a file in it");
    }
    if let Some(runs) = check(report::load(&[directory.path().to_owned()])) {
        let analysis = report::analyze(&runs, 0.95, 1);
        report::terminal::render(&analysis, 80);
        report::methods::paragraphs(&runs, &analysis);
    }
}

/// `exp --config FILE`.
fn config(bytes: &[u8]) {
    in_file(bytes, |path| {
        let config = format!("--config={}", path.display());
        let typed = ["kvllama", "exp", &config].map(OsString::from).to_vec();
        check(crate::cli::understands(typed));
    });
}

/// What is typed: policies, ratios, layers, ...
fn grammars(bytes: &[u8]) {
    let text = text(bytes);
    if let Some(specs) = check(PolicySpec::parse_list(&[&text])) {
        for spec in specs.iter().filter(|spec| spec.is_open()) {
            assert_eq!(spec.to_string().parse::<PolicySpec>().expect("its own name").resolved(), spec.resolved());
        }
    }
    if let Some(ratios) = check(parse_ratios(&text)) {
        ratios.iter().for_each(|ratio| assert!(ratio.survivors(100) > 0));
    }
    check(text.parse::<Budget>());
    check(text.parse::<Layers>());
    check(text.parse::<Protect>());
    check(text.parse::<Shard>());
    check(text.parse::<Primary>());
    let _ = serde_json::from_str::<Condition>(&text);
}

/// A chat template of a model file. The limit of memory acts in the program only.
fn template(bytes: &[u8]) {
    let turn = |role: &str, content: &str| Turn { role: role.to_owned(), content: content.to_owned() };
    let turns = [turn("system", "Be brief."), turn("user", " Tell me about the owl.\n")];
    check(Template::new(text(bytes)).render(&turns, "<bos>", "<eos>"));
}

/// A model file, as far as kvllama itself reads it.
fn gguf(bytes: &[u8]) {
    in_file(bytes, |path| {
        let _ = llama::check_gguf(path);
    });
}

/// A reply of a judge, read as each backend reads it.
fn judge_reply(bytes: &[u8]) {
    judge::read_as_each(&text(bytes));
}

/// An instruction as JSON in the first line, and an answer in the others.
fn rules(bytes: &[u8]) {
    #[derive(Deserialize)]
    struct Instruction {
        r#type: String,
        #[serde(default)]
        kwargs: Map<String, Value>,
    }
    let text = text(bytes);
    let (instruction, answer) = text.split_once('\n').unwrap_or((&text, ""));
    let Ok(Instruction { r#type, kwargs }) = serde_json::from_str(instruction) else { return };
    if let Some(checked) = check(score::check(&r#type, &kwargs, answer)) {
        assert!((0.0..=1.0).contains(&checked.score) && (checked.loose || !checked.strict));
    }
}

/// A line that a program of `exec:` answers.
fn exec_reply(bytes: &[u8]) {
    if let Ok(reply) = serde_json::from_slice(bytes) {
        own::read_reply(&reply);
    }
}

fn in_file(bytes: &[u8], read: impl FnOnce(&Path)) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("it can be written");
    read(file.path());
}
