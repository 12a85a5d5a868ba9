//! Running the binary, and reading what it leaves.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The tiny random model of the reference: loads in milliseconds.
#[allow(dead_code)] // not every test file needs it
pub fn tiny_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference/model.gguf")
}

/// The path of a real model, if it is here.
#[allow(dead_code)]
pub fn real_model(name: &str) -> Option<String> {
    let directory = std::env::var_os("KVLLAMA_MODELS").map_or_else(|| PathBuf::from("models"), PathBuf::from);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory).join(name);
    if !path.is_file() {
        // Written past the test harness: a skip must be seen.
        let line = format!("SKIPPED: {} is not here; scripts/real-models.sh gets it\n", path.display());
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return None;
    }
    Some(path.display().to_string())
}

/// What kvllama reads of its environment.
const ENVIRONMENT: [&str; 9] = [
    "RUST_LOG",
    "NO_COLOR",
    "HF_TOKEN",
    "HF_ENDPOINT",
    "KVLLAMA_MODELS",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
];

/// A `kvllama` command with a clean environment.
pub fn kvllama<I: IntoIterator<Item = S>, S: AsRef<str>>(arguments: I) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvllama"));
    command.args(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
    for variable in ENVIRONMENT {
        command.env_remove(variable);
    }
    command
}

/// Runs to the end; panics, with what it said, unless it exits with `code`.
#[allow(dead_code)]
pub fn run(code: i32, arguments: &[&str]) -> Output {
    let output = kvllama(arguments).output().expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    output
}

/// The rows of a CSV by key (example, condition, repeat, turn, instruction), without what a clock decides.
#[allow(dead_code)]
pub fn rows(directory: &Path, name: &str) -> BTreeMap<Vec<String>, BTreeMap<String, String>> {
    const CLOCK: [&str; 5] = ["prefill_ms", "replay_ms", "evict_us", "decode_ms", "tokens_per_s"];
    const KEY: [&str; 5] = ["example_id", "condition", "repeat", "turn", "instruction"];
    let mut reader = csv::Reader::from_path(directory.join(name)).expect("a CSV");
    let mut found = BTreeMap::new();
    for row in reader.deserialize::<BTreeMap<String, String>>() {
        let mut row = row.expect("a whole row");
        row.retain(|column, _| !CLOCK.contains(&column.as_str()));
        let key: Vec<_> = KEY.iter().filter_map(|column| row.get(*column).cloned()).collect();
        assert!(found.insert(key.clone(), row).is_none(), "{name} holds {key:?} twice");
    }
    found
}
