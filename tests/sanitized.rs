//! The C++ layer under AddressSanitizer and UndefinedBehaviorSanitizer, and the whole program under the former's
//! allocator and leak check. Without a compiler that has them, the tests skip with a message.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod common;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use common::{kvllama, tiny_model};

/// Of llama.cpp, as build.rs found them.
const LLAMA_SOURCE: &str = env!("KVLLAMA_LLAMA_SOURCE");
const LLAMA_LIBRARIES: &str = env!("KVLLAMA_LLAMA_LIBRARIES");

/// Writes past the test harness: a skip must be seen.
fn skip(why: &str) {
    std::io::stderr().write_all(format!("SKIPPED: no sanitizer: {why}\n").as_bytes()).unwrap();
}

/// Whether a leak check can run here: it needs the right to trace processes.
fn checks_leaks(output: &Output) -> bool {
    let refused = String::from_utf8_lossy(&output.stderr).contains("LeakSanitizer has encountered a fatal error");
    if refused {
        skip("LeakSanitizer may not trace processes here");
    }
    !refused
}

#[test]
fn the_shim_reads_and_writes_nothing_invalid_and_leaks_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("shim");
    let kvtap = root.join("vendor/kvtap");
    let mut compiler = Command::new("c++");
    compiler.args(["-std=c++17", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize=vptr"]);
    compiler.arg("-fno-sanitize-recover=all").arg("-o").arg(&program).arg("-I").arg(&kvtap);
    compiler.args(["include", "ggml/include", "src"].map(|folder| format!("-I{LLAMA_SOURCE}/{folder}")));
    compiler.arg(root.join("tests/sanitized/shim.cpp"));
    compiler.args(["gather", "guard", "kvtap", "tap"].map(|name| kvtap.join(name).with_extension("cpp")));
    compiler.args(["", "64"].map(|bits| format!("-L{LLAMA_LIBRARIES}{bits}")));
    compiler.args(["-lllama", "-lggml", "-lggml-cpu", "-lggml-base", "-lgomp", "-lpthread", "-ldl"]);
    let compiled = match compiler.output() {
        Ok(compiled) => compiled,
        Err(error) => return skip(&format!("the C++ compiler `c++` cannot be run: {error}")),
    };
    let said = String::from_utf8_lossy(&compiled.stderr);
    if said.contains("libasan") || said.contains("cannot find -lasan") {
        return skip("the compiler has no libasan");
    }
    assert!(compiled.status.success(), "{said}");
    let output = Command::new(&program).arg(tiny_model()).arg("24").output().unwrap();
    if checks_leaks(&output) {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_run_leaks_nothing_however_many_trials_it_has() {
    let found = Command::new("cc").arg("-print-file-name=libasan.so").output();
    let library = found.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if !Path::new(&library).is_absolute() {
        return skip("`cc` has no libasan.so");
    }
    let directory = tempfile::tempdir().unwrap();
    for (name, conditions) in [
        ("shared", "--policy snapkv,streaming --ratio 0.5 --positions keep,compact --memory kv,text --fidelity"),
        ("heads", "--policy adakv+snapkv --ratio 0.5 --granularity head"),
        ("dense", "--policy kvzip,random --ratio 0.9 --dense on"),
    ] {
        let out = directory.path().join(name).display().to_string();
        let text = "exp --limit 2 --repeats 2 --temp 1 --n-predict 8 --threads 1 --quiet --out";
        let arguments = text.split(' ').chain([out.as_str()]).chain(conditions.split(' '));
        let output = kvllama(arguments).env("LD_PRELOAD", &library).output().unwrap();
        if checks_leaks(&output) {
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
