//! The run directory: durable rows, resume, lock.
//!
//! A trial is committed by its row in `trials.csv`. Its rows in `instructions.csv` are written and
//! synced before; without a trial they are orphans, which the next start drops.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use csv::ByteRecord;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{InstructionRow, Key, Manifest, Session, TrialRow};
use crate::{Error, Result};

/// The rows of trials, one each.
pub const TRIALS: &str = "trials.csv";
/// The rows of instructions, one per trial and instruction.
pub const INSTRUCTIONS: &str = "instructions.csv";
/// The description of the run.
pub const MANIFEST: &str = "manifest.json";
const LOCK: &str = ".lock";

/// What a directory already held.
#[derive(Debug, Default)]
pub struct Resumed {
    /// Finished trials, with their mean scores.
    pub done: HashMap<Key, Option<f64>>,
    /// Failed trials, dropped to be tried again.
    pub failed: usize,
    /// Torn last lines that were dropped, by file.
    pub torn: Vec<&'static str>,
}

/// An open run directory. One process at a time holds it.
pub struct Store {
    directory: PathBuf,
    trials: File,
    instructions: File,
    _lock: File,
}

impl Store {
    /// Whether a directory holds a run.
    pub fn exists(directory: &Path) -> bool {
        directory.join(MANIFEST).exists()
    }

    /// Opens a run directory: makes it, or goes on where it stopped.
    ///
    /// # Errors
    /// If another process holds it, if its manifest differs in anything that changes results, or
    /// if its files are not ours.
    pub fn open(directory: &Path, manifest: &Manifest) -> Result<(Self, Resumed)> {
        std::fs::create_dir_all(directory).map_err(Error::io("cannot make", directory))?;
        let lock = lock(directory)?;
        let manifest_path = directory.join(MANIFEST);
        let (trials, instructions) = (directory.join(TRIALS), directory.join(INSTRUCTIONS));
        let mut resumed = Resumed::default();
        let manifest = match manifest_path.exists() {
            true => Manifest::read(&manifest_path)?.grown(manifest, directory)?,
            false if holds_rows(&trials) => {
                return Err(Error::input(format!(
                    "{} holds rows, but its {MANIFEST} is gone, which says of what run they are; put it back, or choose \
                     another --out",
                    directory.display()
                )));
            }
            false => manifest.clone(),
        };
        ensure_header::<TrialRow>(&trials)?;
        ensure_header::<InstructionRow>(&instructions)?;
        recover(&trials, &instructions, &mut resumed)?;
        // A finished run can be run again where nothing can be written.
        let begun = manifest.sessions.last().is_some_and(|session| has_pending(session, &resumed.done));
        if begun || !manifest_path.exists() {
            manifest.write(&manifest_path)?;
        }
        let append = |path: &Path| OpenOptions::new().append(true).open(path).map_err(Error::io("cannot open", path));
        let store = Store {
            directory: directory.to_owned(),
            trials: append(&trials)?,
            instructions: append(&instructions)?,
            _lock: lock,
        };
        Ok((store, resumed))
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Appends a finished trial; when this returns, it is on the disk.
    pub fn append(&mut self, trial: &TrialRow, instructions: &[InstructionRow]) -> Result<()> {
        append(&mut self.instructions, &self.directory.join(INSTRUCTIONS), instructions)?;
        append(&mut self.trials, &self.directory.join(TRIALS), std::slice::from_ref(trial))
    }
}

pub(super) fn lock(directory: &Path) -> Result<File> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::io("cannot open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::input(format!(
            "another kvllama is writing to {}; wait for it, or choose another --out",
            directory.display()
        ))),
        Err(std::fs::TryLockError::Error(error)) => Err(Error::io("cannot lock", &path)(error)),
    }
}

/// The header line of a row type: its field names.
fn header<Row: Serialize + Default>() -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.serialize(Row::default()).expect("rows are flat");
    let text = writer.into_inner().expect("memory does not fail");
    let end = text.iter().position(|&byte| byte == b'\n').expect("a header line");
    text[..=end].to_vec()
}

/// Whether a session has a trial to run.
fn has_pending(session: &Session, done: &HashMap<Key, Option<f64>>) -> bool {
    session.conditions.iter().any(|condition| {
        let mut key = Key { example: String::new(), condition: condition.to_string(), repeat: 0 };
        session.examples.iter().any(|example| {
            key.example.clone_from(example);
            (0..session.repeats).any(|repeat| {
                key.repeat = repeat;
                !done.contains_key(&key)
            })
        })
    })
}

fn holds_rows(trials: &Path) -> bool {
    std::fs::metadata(trials).is_ok_and(|file| file.len() > header::<TrialRow>().len() as u64)
}

/// Makes the file with its header, or checks that the one there is ours.
pub(super) fn ensure_header<Row: Serialize + Default>(path: &Path) -> Result<()> {
    let expected = header::<Row>();
    if std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return crate::files::write_atomically(path, &expected);
    }
    refuse_irregular(path)?;
    let mut file = File::open(path).map_err(Error::io("cannot read", path))?;
    let mut found = vec![0; expected.len()];
    match file.read_exact(&mut found) {
        Ok(()) if found == expected => Ok(()),
        _ => Err(Error::input(format!(
            "{} has other columns than this version of kvllama writes; choose another --out",
            path.display()
        ))),
    }
}

/// Checks that a file's columns are ours, in any order: an older version may have written fewer of them.
pub(crate) fn check_columns<Row: Serialize + Default>(path: &Path) -> Result<()> {
    /// Without these a row is of no trial.
    const REQUIRED: [&str; 3] = ["example_id", "condition", "repeat"];
    refuse_irregular(path)?;
    let mut reader = csv::Reader::from_path(path).map_err(|error| unreadable(path, &error))?;
    let found = reader.headers().map_err(|error| unreadable(path, &error))?;
    let known = header::<Row>();
    let known: Vec<&str> = std::str::from_utf8(&known).expect("column names are text").trim_end().split(',').collect();
    let foreign = found.iter().find(|column| !known.contains(column));
    let lacking = REQUIRED.into_iter().find(|column| !found.iter().any(|found| found == *column));
    let problem = match (foreign, lacking) {
        (Some(foreign), _) => format!("the column {foreign:?} is none of kvllama's"),
        (_, Some(lacking)) => format!("the column `{lacking}` is missing"),
        _ => return Ok(()),
    };
    Err(refused(path, 1, &problem))
}

/// Finds what is finished, and drops what is not: torn lines, failed trials, orphaned instructions.
///
/// A run may hold a million trials: each file is read once, both at the same time.
fn recover(trials: &Path, instructions: &Path, resumed: &mut Resumed) -> Result<()> {
    let (mut failed, mut heard) = (HashSet::new(), Vec::new());
    // Both are looked at before either is changed: a refused run stays as it was.
    let (trials_whole, instructions_whole) = std::thread::scope(|scope| {
        // Rows of one trial follow each other.
        let other = scope.spawn(|| {
            inspect(instructions, |row: InstructionRow| {
                let key = row.key();
                if heard.last() != Some(&key) {
                    heard.push(key);
                }
            })
        });
        let whole = inspect(trials, |row: TrialRow| {
            if row.error.is_empty() {
                resumed.done.insert(row.key(), row.mean_score);
            } else {
                failed.insert(row.key());
            }
        });
        (whole, other.join().expect("it does not panic"))
    });
    let (trials_whole, instructions_whole) = (trials_whole?, instructions_whole?);
    let trials_torn = cut(trials, trials_whole);
    let instructions_torn = cut(instructions, instructions_whole);
    let torn = [(trials_torn?, TRIALS), (instructions_torn?, INSTRUCTIONS)];
    resumed.torn.extend(torn.into_iter().filter_map(|(torn, name)| torn.then_some(name)));
    resumed.failed = failed.len();
    if !failed.is_empty() {
        retain(trials, |row: &TrialRow| row.error.is_empty())?;
    }
    if heard.iter().any(|key| !resumed.done.contains_key(key)) {
        retain(instructions, |row: &InstructionRow| resumed.done.contains_key(&row.key()))?;
    }
    Ok(())
}

/// Cuts off a last record that is not whole, and says whether there was one.
pub(super) fn drop_torn_line<Row: DeserializeOwned>(path: &Path) -> Result<bool> {
    cut(path, inspect(path, |_: Row| ())?)
}

fn cut(path: &Path, torn_at: Option<u64>) -> Result<bool> {
    let Some(whole) = torn_at else { return Ok(false) };
    let file = OpenOptions::new().write(true).open(path).map_err(Error::io("cannot open", path))?;
    file.set_len(whole).and_then(|()| file.sync_all()).map_err(Error::io("cannot repair", path))?;
    Ok(true)
}

/// Shows every whole row to `visit`; tells where a torn last record begins, if there is one. Changes nothing.
///
/// # Errors
/// If anything else than the end of the file is not a row: what only the end cut is ours to drop, all else is not.
pub(crate) fn inspect<Row: DeserializeOwned>(path: &Path, mut visit: impl FnMut(Row)) -> Result<Option<u64>> {
    let io = || Error::io("cannot read", path);
    refuse_irregular(path)?;
    let mut file = File::open(path).map_err(io())?;
    let length = file.metadata().map_err(io())?.len();
    // Another process may append meanwhile; what it appends is not looked at.
    let mut reader =
        csv::ReaderBuilder::new().flexible(true).buffer_capacity(1 << 20).from_reader((&file).take(length));
    let headers = reader.byte_headers().map_err(|error| unreadable(path, &error))?.clone();
    let mut whole = reader.position().byte();
    let mut record = ByteRecord::new();
    let mut tail_line = None;
    while reader.read_byte_record(&mut record).map_err(|error| unreadable(path, &error))? {
        let end = reader.position().byte();
        let line = record.position().map_or(0, csv::Position::line);
        if end >= length {
            tail_line = Some(line);
            break;
        }
        visit(row(path, line, &record, &headers)?);
        whole = end;
    }
    drop(reader);
    let Some(line) = tail_line else { return Ok(None) };
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(whole)).map_err(io())?;
    (&file).take(length - whole).read_to_end(&mut tail).map_err(io())?;
    // Our quotes come in pairs, so an odd number is an open cell, and a line feed in it is text.
    let open = tail.iter().filter(|&&byte| byte == b'"').count() % 2 == 1;
    if tail.ends_with(b"\n") && !(open && record.len() != headers.len()) {
        visit(row(path, line, &record, &headers)?);
        return Ok(None);
    }
    let starts = tail.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    for start in starts {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&tail[start..]);
        if matches!(reader.read_byte_record(&mut record), Ok(true)) && record.deserialize::<Row>(Some(&headers)).is_ok()
        {
            return Err(refused(path, line, "a quote is opened here and not closed, and whole rows follow"));
        }
    }
    Ok(Some(whole))
}

fn row<Row: DeserializeOwned>(path: &Path, line: u64, record: &ByteRecord, headers: &ByteRecord) -> Result<Row> {
    if record.len() != headers.len() {
        let why = format!("{} cells under {} columns", record.len(), headers.len());
        return Err(refused(path, line, &why));
    }
    record.deserialize(Some(headers)).map_err(|error| match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => refused(path, line, &err.to_string()),
        _ => refused(path, line, &error.to_string()),
    })
}

fn refused(path: &Path, line: u64, why: &str) -> Error {
    Error::input(format!(
        "{}, line {line}: this is no row of a run ({why}); mend or delete that line, nothing has been changed",
        path.display()
    ))
}

/// A pipe would be waited for, for ever.
fn refuse_irregular(path: &Path) -> Result<()> {
    let metadata = std::fs::metadata(path).map_err(Error::io("cannot read", path))?;
    if metadata.is_file() {
        return Ok(());
    }
    Err(Error::input(format!("{} is not a regular file; move it away", path.display())))
}

fn unreadable(path: &Path, error: &csv::Error) -> Error {
    Error::input(format!("{} is not the CSV of a run: {error}", path.display()))
}

pub(super) fn scan<Row: DeserializeOwned>(path: &Path, mut visit: impl FnMut(Row)) -> Result<()> {
    let mut reader = csv::Reader::from_path(path).map_err(|error| unreadable(path, &error))?;
    for row in reader.deserialize() {
        visit(row.map_err(|error| unreadable(path, &error))?);
    }
    Ok(())
}

/// Rewrites a file without the rows that `keep` refuses.
fn retain<Row: DeserializeOwned + Serialize + Default>(path: &Path, keep: impl Fn(&Row) -> bool) -> Result<()> {
    let mut kept = Vec::new();
    scan(path, |row: Row| {
        if keep(&row) {
            kept.push(row);
        }
    })?;
    rewrite(path, &kept)
}

/// Writes header and rows in place of what the file holds, whole or not at all.
pub(super) fn rewrite<Row: Serialize + Default>(path: &Path, rows: &[Row]) -> Result<()> {
    let mut text = header::<Row>();
    text.extend(records(rows));
    crate::files::write_atomically(path, &text)
}

/// Rows as CSV, without the header.
fn records<Row: Serialize>(rows: &[Row]) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).expect("rows are flat");
    }
    writer.into_inner().expect("memory does not fail")
}

/// Appends rows in one write and syncs. If that fails, the file is cut back to what it was.
fn append<Row: Serialize>(file: &mut File, path: &Path, rows: &[Row]) -> Result<()> {
    let bytes = records(rows);
    let before = file.seek(SeekFrom::End(0)).map_err(Error::io("cannot write", path))?;
    file.write_all(&bytes).and_then(|()| file.sync_data()).map_err(|error| {
        let _ = file.set_len(before);
        Error::io("cannot write", path)(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exp::manifest::tests::manifest;

    fn trial(example: &str, response: &str, error: &str) -> (TrialRow, Vec<InstructionRow>) {
        let row = TrialRow {
            example_id: example.into(),
            condition: "none".into(),
            mean_score: error.is_empty().then_some(0.5),
            response: response.into(),
            error: error.into(),
            ..TrialRow::default()
        };
        let instruction = InstructionRow {
            example_id: example.into(),
            condition: "none".into(),
            judge_reason: response.into(),
            ..InstructionRow::default()
        };
        (row, vec![instruction.clone(), InstructionRow { instruction: 1, ..instruction }])
    }

    fn filled(directory: &Path, trials: &[(TrialRow, Vec<InstructionRow>)]) {
        let (mut store, _) = Store::open(directory, &manifest()).unwrap();
        trials.iter().for_each(|(row, instructions)| store.append(row, instructions).unwrap());
    }

    #[test]
    fn a_file_torn_at_any_byte_loses_only_the_torn_trial() {
        let directory = tempfile::tempdir().unwrap();
        let trials = [trial("a", "one\n\"two\", three", ""), trial("b", "x\ny\n", ""), trial("c", "\n\n,\"", "")];
        filled(directory.path(), &trials);
        for name in [TRIALS, INSTRUCTIONS] {
            let path = directory.path().join(name);
            let whole = std::fs::read(&path).unwrap();
            let other = directory.path().join(if name == TRIALS { INSTRUCTIONS } else { TRIALS });
            let other_whole = std::fs::read(&other).unwrap();
            let start = header::<TrialRow>().len();
            let start = if name == TRIALS { start } else { header::<InstructionRow>().len() };
            for length in start..whole.len() {
                std::fs::write(&path, &whole[..length]).unwrap();
                std::fs::write(&other, &other_whole).unwrap();
                let (_, resumed) = Store::open(directory.path(), &manifest()).unwrap();
                if name == TRIALS {
                    let kept = std::fs::read(&path).unwrap();
                    assert!(whole.starts_with(&kept) && (kept.len() == start || kept.ends_with(b"\n")));
                    let lines = resumed.done.len();
                    assert_eq!(resumed.torn.contains(&TRIALS), kept.len() != length, "{length}");
                    let mut instructions = 0;
                    scan(&other, |_: InstructionRow| instructions += 1).unwrap();
                    assert_eq!(instructions, 2 * lines, "orphans are dropped");
                }
            }
        }
    }

    #[test]
    fn failed_trials_are_dropped_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path(), &[trial("a", "r", ""), trial("b", "", "boom")]);
        let (mut store, resumed) = Store::open(directory.path(), &manifest()).unwrap();
        assert_eq!((resumed.done.len(), resumed.failed), (1, 1));
        let (row, instructions) = trial("b", "now", "");
        store.append(&row, &instructions).unwrap();
        drop(store);
        let (_, resumed) = Store::open(directory.path(), &manifest()).unwrap();
        assert_eq!((resumed.done.len(), resumed.failed, resumed.torn.len()), (2, 0, 0));
    }

    #[test]
    fn damage_elsewhere_than_at_the_end_is_refused_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path(), &["a", "b", "c", "d"].map(|id| trial(id, "one", "")));
        for (name, n_lines) in [(TRIALS, 5), (INSTRUCTIONS, 9)] {
            let path = directory.path().join(name);
            let whole = std::fs::read_to_string(&path).unwrap();
            for at in 1..n_lines {
                let damages: [fn(&str) -> String; 4] = [
                    |line| format!("{line},stray"),
                    |line| line.replacen(',', "", 1),
                    |line| line.replacen(",0", ",zero", 1),
                    |line| format!("\"{line}"),
                ];
                // A quote opened in the last record is what a torn one looks like.
                for damage in &damages[..if at == n_lines - 1 { 3 } else { 4 }] {
                    let lines = whole.lines().enumerate();
                    let text: String =
                        lines.map(|(n, line)| if n == at { damage(line) } else { line.to_owned() } + "\n").collect();
                    std::fs::write(&path, &text).unwrap();
                    let Err(error) = Store::open(directory.path(), &manifest()) else { panic!("{text}") };
                    assert!(error.to_string().contains(&format!("{name}, line {}: ", at + 1)), "{error}");
                    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
                }
            }
            std::fs::write(&path, &whole).unwrap();
        }
        std::fs::remove_file(directory.path().join(MANIFEST)).unwrap();
        let Err(error) = Store::open(directory.path(), &manifest()) else { panic!("rows of an unknown run") };
        assert!(error.to_string().contains("manifest.json is gone"), "{error}");
    }

    #[test]
    fn a_second_process_and_another_run_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(directory.path(), &manifest()).unwrap();
        let Err(error) = Store::open(directory.path(), &manifest()) else { panic!("locked") };
        assert!(error.to_string().contains("another kvllama is writing"), "{error}");
        drop(store);
        let mut other = manifest();
        other.generation.seed += 1;
        other.model.sha256 = "ff".into();
        other.sessions[0].repeats += 1; // may differ
        let Err(error) = Store::open(directory.path(), &other) else { panic!("another run") };
        let text = error.to_string();
        assert!(text.contains("seed was 1 and is now 2") && text.contains("model was"), "{text}");
        assert!(!text.contains("repeats"), "{text}");
    }
}
