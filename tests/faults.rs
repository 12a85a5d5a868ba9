//! Faults of the system, injected into the real binary: it ends with one sentence that names the mend, or goes on; each
//! row that it reported is safe, and the same command finishes the run.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{kvllama, real_model, rows};

/// `tests/faults/shim.c` as a library to preload; `None`, with a message, where there is no C compiler.
fn shim() -> Option<&'static Path> {
    static SHIM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = SHIM.get_or_init(|| {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
        let cc =
            Command::new("cc").args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]).arg(&library).arg(source).status();
        if let Err(error) = &cc {
            // Written past the test harness: a skip must be seen.
            let line =
                format!("SKIPPED: no faults are injected, because the C compiler `cc` cannot be run ({error})\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
        }
        cc.ok().map(|status| assert!(status.success(), "tests/faults/shim.c")).map(|()| library)
    });
    made.as_deref()
}

const RUN: &str = "exp --policy random --ratio 0.3,0.6 --limit 3 --n-predict 8 --parallel 2 --threads 1 --quiet --out";

fn arguments(out: &Path) -> Vec<String> {
    RUN.split(' ').map(str::to_owned).chain([out.display().to_string()]).collect()
}

/// The rows of a run without any fault.
fn whole() -> &'static Path {
    static WHOLE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let directory = WHOLE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        assert!(kvllama(arguments(&directory.path().join("run"))).output().unwrap().status.success());
        directory
    });
    directory.path()
}

/// The records of `trials.csv` that are whole and not of failed trials, byte for byte.
fn finished(out: &Path) -> Vec<csv::ByteRecord> {
    let Ok(mut reader) = csv::ReaderBuilder::new().flexible(true).from_path(out.join("trials.csv")) else {
        return Vec::new();
    };
    let columns = reader.byte_headers().unwrap().clone();
    let error = columns.iter().position(|column| column == b"error").unwrap();
    let whole = |record: &csv::ByteRecord| record.get(error).is_some_and(<[u8]>::is_empty);
    reader.byte_records().map(Result::unwrap).filter(whole).collect()
}

/// Runs `faulty`, which makes a command of the arguments; what it leaves must be a beginning of the whole run, and a
/// command without the fault must finish it. Returns the exit code and what was said.
fn survived(faulty: impl FnOnce(Vec<String>) -> Command) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let output = faulty(arguments(&out)).output().unwrap();
    let finished = finished(&out);
    let again = kvllama(arguments(&out)).output().unwrap();
    assert!(again.status.success(), "{output:?}, then {again:?}");
    let (trials, instructions) = (rows(&out, "trials.csv"), rows(&out, "instructions.csv"));
    assert_eq!(trials.len(), 9);
    let whole = whole().join("run");
    assert!(trials == rows(&whole, "trials.csv") && instructions == rows(&whole, "instructions.csv"), "{output:?}");
    let after = self::finished(&out);
    assert!(finished.iter().all(|row| after.contains(row)), "a finished row changed");
    (output.status.code(), said(&output))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// As [`survived`], with a fault of the shim.
fn with_fault(fault: &str) -> Option<(Option<i32>, String)> {
    let shim = shim()?;
    Some(survived(|arguments| {
        let mut command = kvllama(arguments);
        command.env("LD_PRELOAD", shim).env("FAULT", fault);
        command
    }))
}

/// As [`survived`], under a limit of the shell: `ulimit -n 8`.
fn under_limit(limit: &str) -> (Option<i32>, String) {
    survived(|arguments| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{limit} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_kvllama")]).args(arguments);
        command
    })
}

/// Exit code 1 and one sentence that has all of `parts`.
fn assert_failed((code, said): (Option<i32>, String), parts: &[&str]) {
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("error: ") && said.lines().count() == 1, "{said}");
    assert!(parts.iter().all(|part| said.contains(part)), "{parts:?}: {said}");
}

#[test]
fn memory_that_is_refused_ends_the_run_with_size_and_mend() {
    // At the start: the model, its context and Rust's own vectors. After two rows: whatever still allocates.
    for fault in ["memory 4000000 0", "memory 60000 0", "memory 1 2", "memory 30000 2", "memory 500000 2"] {
        let Some(ended) = with_fault(fault) else { return };
        assert_failed(ended, &["out of memory", "lower --parallel, --ctx or --batch", "finished rows are safe"]);
    }
}

#[test]
fn a_context_larger_than_the_memory_names_its_size_and_the_mend() {
    let prompt = "--prompt=Tell me about the owl.";
    let command = "ulimit -v 4000000 && exec \"$0\" \"$@\"";
    let output = Command::new("sh")
        .args(["-c", command, env!("CARGO_BIN_EXE_kvllama"), "probe", prompt, "--ctx=9000000", "--threads=1"])
        .output()
        .unwrap();
    assert_failed((output.status.code(), said(&output)), &["context of 9000000 positions", "MB", "a smaller --ctx"]);
}

#[test]
fn a_row_torn_within_a_write_is_finished_taken_back_or_dropped() {
    for (fault, code) in [("short 2", Some(0)), ("interrupted 2", Some(0)), ("killed 2", None)] {
        let Some((ended, said)) = with_fault(fault) else { return };
        assert!(ended == code && said.is_empty(), "{fault}: {ended:?} {said}");
    }
    assert_failed(with_fault("full 2").unwrap(), &["trials.csv", "No space left", "free some space"]);
    assert_failed(with_fault("lying 2").unwrap(), &["confirmed", "trials.csv than it stored", "another disk"]);
    assert_failed(with_fault("sync").unwrap(), &["cannot write", "Input/output error"]);
}

#[test]
fn the_largest_file_that_may_be_written_is_an_error_and_no_signal() {
    // 24 blocks of 512 bytes, by POSIX: enough for the prompts, too little for the rows.
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run").display().to_string();
    let text = "exp --policy random --ratio 0.3 --limit 1 --repeats 20 --n-predict 8 --threads 1 --quiet --out";
    let arguments: Vec<&str> = text.split(' ').chain([out.as_str()]).collect();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 24 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_kvllama")]).args(&arguments);
    let output = command.output().unwrap();
    assert_failed((output.status.code(), said(&output)), &[".csv", "File too large", "ulimit -f"]);
    assert!(kvllama(&arguments).output().unwrap().status.success());
    assert_eq!(rows(Path::new(&out), "trials.csv").len(), 21, "one baseline and 20 repeats");
}

#[test]
fn few_open_files_are_an_error_that_names_the_limit() {
    for n in [5, 6, 8] {
        let (code, said) = under_limit(&format!("ulimit -n {n}"));
        assert_failed((code, said), &["Too many open files", "ulimit -n"]);
    }
    let (code, said) = under_limit("ulimit -n 16");
    assert!(code == Some(0), "16 are enough: {said}");
}

#[test]
fn threads_that_cannot_be_started_are_an_error_that_names_the_limit() {
    // Of the first template, and of the handlers of two signals.
    for n in [0, 6, 7] {
        let Some(ended) = with_fault(&format!("threads {n}")) else { return };
        assert_failed(ended, &["Resource temporarily unavailable", "ulimit -u"]);
    }
    let mut command = kvllama(["probe", "--prompt=Tell me about the owl.", "--threads=8"]);
    let output = command.env("LD_PRELOAD", shim().unwrap()).env("FAULT", "threads 5").output().unwrap();
    assert_failed((output.status.code(), said(&output)), &["--threads 8: cannot start a thread", "ulimit -u"]);
}

#[test]
fn a_wall_clock_that_jumps_changes_no_row() {
    // By 13 years, and before 1970.
    for fault in ["clock 400000000", "clock 2000000000"] {
        let Some(ended) = with_fault(fault) else { return };
        assert_eq!(ended, (Some(0), String::new()));
    }
}

#[test]
fn an_interrupt_stops_a_long_graph_within_two_seconds() {
    let Some(model) = real_model("smollm2-135m-instruct-q4_1.gguf") else { return };
    let directory = tempfile::tempdir().unwrap();
    let prompt = directory.path().join("prompt.txt");
    std::fs::write(&prompt, "The owl looked at the moon and thought about the sea. ".repeat(560)).unwrap();
    let prompt = prompt.display().to_string();
    // The whole prompt in one graph, which takes minutes.
    let text = "probe --raw --ratio 0.5 --policy random --n-predict 1 --threads 1 --ctx 8192 --batch 8192";
    let arguments = text.split(' ').chain(["--model", &model, "--prompt-file", &prompt]);
    let mut child = kvllama(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    sleep(Duration::from_secs(4));
    assert!(child.try_wait().unwrap().is_none(), "it computes");
    let asked = Instant::now();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}
