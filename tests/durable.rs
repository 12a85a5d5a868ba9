//! A run directory that was changed from outside: repaired, or refused with file, line and remedy; never silently
//! accepted.
#![cfg(unix)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use common::{kvllama, rows, run};
use proptest::prelude::*;

const FILES: [&str; 3] = ["trials.csv", "instructions.csv", "manifest.json"];

fn arguments(out: &Path) -> Vec<String> {
    let text = "exp --policy random --ratio 0.5 --limit 3 --n-predict 8 --parallel 1 --out";
    text.split(' ').map(str::to_owned).chain([out.display().to_string()]).collect()
}

fn finished(out: &Path) -> PathBuf {
    assert!(kvllama(arguments(out)).status().unwrap().success());
    out.to_owned()
}

/// Exit code 2 and one sentence that names the file; returns the sentence.
fn refused(output: &std::process::Output, file: &str) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(file), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("error")).count(), 1, "{said}");
    said
}

/// The damage that a spreadsheet, an editor or an accident does to line `at` of `text` (0 is the header).
fn damage(text: &str, at: usize, kind: usize) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = text.split_inclusive('\n').map(|line| line.as_bytes().to_vec()).collect();
    let line = &mut lines[at];
    match kind {
        0 => line.splice(line.len() - 1.., *b",stray\n").for_each(drop),
        1 => line.splice(line.len() - 1.., *b"\r\n").for_each(drop),
        2 => line.insert(line.len() / 2, 0),
        3 => line.splice(0..0, *b"\xef\xbb\xbf").for_each(drop),
        4 => line.iter_mut().filter(|byte| **byte == b',').for_each(|byte| *byte = b';'),
        5 => line.insert(line.len() / 2, 0xff),
        _ => *line = b"garbage\n".to_vec(),
    }
    lines.concat()
}

#[test]
fn damage_at_any_line_is_refused_and_changes_no_byte() {
    let directory = tempfile::tempdir().unwrap();
    let out = finished(&directory.path().join("run"));
    let whole = FILES.map(|name| fs::read_to_string(out.join(name)).unwrap());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(48));
    runner
        .run(&(0..3usize, 0..1000usize, 0..7usize), |(file, at, kind)| {
            // In JSON a CRLF, or a byte order mark after the start, may be valid.
            let n_lines = whole[file].lines().count();
            let at = at % n_lines;
            // Within a response every line is text.
            let before: String = whole[file].split_inclusive('\n').take(at).collect();
            let within = before.matches('"').count() % 2 == 1 || whole[file].lines().nth(at).unwrap().contains('"');
            if (file < 2 && within) || (file == 2 && [1, 2, 3, 4].contains(&kind)) || (kind == 3 && at > 0) {
                return Ok(());
            }
            for (name, text) in FILES.iter().zip(&whole) {
                fs::write(out.join(name), text).unwrap();
            }
            let path = out.join(FILES[file]);
            let damaged = damage(&whole[file], at, kind);
            fs::write(&path, &damaged).unwrap();
            for command in ["score", "report"] {
                let output = kvllama([command, out.to_str().unwrap()]).output().unwrap();
                prop_assert!(!output.status.success(), "{command} took {kind} in line {at} of {}", FILES[file]);
                let said = refused(&output, FILES[file]);
                let line = format!("line {}", at + 1);
                prop_assert!(at == 0 || file == 2 || said.contains(&line), "{command}, {kind} in {line}: {said}");
            }
            prop_assert!(fs::read(&path).unwrap() == damaged);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_column_that_is_gone_or_a_quote_that_stays_open_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let out = finished(&directory.path().join("run"));
    let path = out.join("trials.csv");
    let whole = fs::read_to_string(&path).unwrap();
    let less: String = whole.lines().map(|line| format!("{}\n", line.split_once(',').unwrap().1)).collect();
    let last = whole.trim_end().rfind('\n').unwrap() + 1;
    let open = format!("{}\"{}", &whole[..last], &whole[last..]);
    for damaged in [less, open] {
        fs::write(&path, &damaged).unwrap();
        refused(&kvllama(arguments(&out)).output().unwrap(), "trials.csv");
        assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    }
}

#[test]
fn trials_whose_instructions_are_gone_are_run_again() {
    let directory = tempfile::tempdir().unwrap();
    let out = finished(&directory.path().join("run"));
    let before = (rows(&out, "trials.csv"), rows(&out, "instructions.csv"));
    let path = out.join("instructions.csv");
    let text = fs::read_to_string(&path).unwrap();
    let half: Vec<_> = text.split_inclusive('\n').take(text.lines().count() / 2).collect();
    fs::write(&path, half.concat()).unwrap();
    fs::write(out.join(".kvllama-x7Yz"), "a write that was killed").unwrap();
    let scored = kvllama(["score", out.to_str().unwrap()]).output().unwrap();
    refused(&scored, "instructions.csv");
    let output = kvllama(arguments(&out)).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("instructions.csv lacks rows of"), "{output:?}");
    assert!((rows(&out, "trials.csv"), rows(&out, "instructions.csv")) == before);
    assert!(!out.join(".kvllama-x7Yz").exists());
    fs::remove_file(&path).unwrap();
    assert!(kvllama(arguments(&out)).status().unwrap().success());
    assert!((rows(&out, "trials.csv"), rows(&out, "instructions.csv")) == before);
}

#[test]
fn what_is_no_run_or_no_file_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let foreign = directory.path().join("thesis");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("chapter.tex"), "x").unwrap();
    refused(&kvllama(arguments(&foreign)).output().unwrap(), "thesis");
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);

    let wrapped = directory.path().join("wrapped");
    fs::create_dir(&wrapped).unwrap();
    fs::write(wrapped.join("exp.log"), "of a shell script").unwrap();
    finished(&wrapped);

    fs::remove_file(wrapped.join("trials.csv")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(wrapped.join("trials.csv")).status().unwrap().success());
    for command in [arguments(&wrapped), vec!["report".into(), wrapped.display().to_string()]] {
        refused(&kvllama(command).output().unwrap(), "trials.csv");
    }
}

/// Starts a run that takes a while, and waits for its first row.
fn going_on(out: &Path) -> std::process::Child {
    let text = "exp --policy random --ratio 0.1..0.9:0.1 --repeats 40 --n-predict 32 --out";
    let arguments = text.split(' ').map(str::to_owned).chain([out.display().to_string()]);
    let child = kvllama(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while fs::read_to_string(out.join("trials.csv")).map_or(0, |text| text.lines().count()) < 3 {
        sleep(Duration::from_millis(20));
    }
    child
}

#[test]
fn a_directory_that_vanishes_ends_the_run_and_a_lock_that_vanishes_still_holds() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let child = going_on(&out);
    fs::remove_file(out.join(".lock")).unwrap();
    for command in [arguments(&out), vec!["score".into(), out.display().to_string()]] {
        let said = refused(&kvllama(command).output().unwrap(), "run");
        assert!(said.contains("another process is writing"), "{said}");
    }
    fs::rename(&out, directory.path().join("elsewhere")).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("was deleted or replaced while it was being written"), "{said}");
}

#[test]
fn plans_beyond_all_bounds_are_planned_lazily_or_refused() {
    for (code, text) in [
        (0, "exp --policy random --ratio 0.5 --repeats 4294967295 --limit 1 --dry-run"),
        (2, "exp --policy random --ratio 0.5 --n-predict 18446744073709551615 --dry-run"),
        (2, "exp --policy streaming --rolling 64 --every 18446744073709551615 --dry-run"),
        (2, "exp --policy random --ratio 0.5 --ctx 10"),
    ] {
        let output = run(code, &text.split(' ').collect::<Vec<_>>());
        assert!(code == 0 || output.stderr.iter().filter(|byte| **byte == b'\n').count() == 1, "{output:?}");
    }
    let out = tempfile::tempdir().unwrap();
    let mut child = going_on(&out.path().join("run"));
    child.kill().unwrap();
    child.wait().unwrap();
}
