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

use super::{InstructionRow, Key, Manifest, TrialRow};
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
            false => manifest.clone(),
        };
        ensure_header::<TrialRow>(&trials)?;
        ensure_header::<InstructionRow>(&instructions)?;
        recover(&trials, &instructions, &mut resumed)?;
        manifest.write(&manifest_path)?;
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

/// Makes the file with its header, or checks that the one there is ours.
pub(super) fn ensure_header<Row: Serialize + Default>(path: &Path) -> Result<()> {
    let expected = header::<Row>();
    let Ok(mut file) = File::open(path) else {
        return crate::files::write_atomically(path, &expected);
    };
    let mut found = vec![0; expected.len()];
    match file.read_exact(&mut found) {
        Ok(()) if found == expected => Ok(()),
        _ => Err(Error::input(format!(
            "{} has other columns than this version of kvllama writes; choose another --out",
            path.display()
        ))),
    }
}

/// Finds what is finished, and drops what is not: torn lines, failed trials, orphaned instructions.
///
/// A run may hold a million trials: each file is read once, both at the same time, and of a row only the key, whether it
/// failed, and its score are looked at.
fn recover(trials: &Path, instructions: &Path, resumed: &mut Resumed) -> Result<()> {
    let (mut failed, mut heard) = (HashSet::new(), Vec::new());
    let (trials_torn, instructions_torn) = std::thread::scope(|scope| {
        // Rows of one trial follow each other.
        let other = scope.spawn(|| {
            repair(instructions, |row, columns| {
                if heard.last().is_none_or(|last| !columns.is_of(row, last)) {
                    heard.push(columns.key(row)?);
                }
                Some(())
            })
        });
        let torn = repair(trials, |row, columns| {
            let key = columns.key(row)?;
            if row[columns.error?].is_empty() {
                let score = std::str::from_utf8(&row[columns.mean_score?]).ok()?;
                let score = if score.is_empty() { None } else { Some(score.parse().ok()?) };
                resumed.done.insert(key, score);
            } else {
                failed.insert(key);
            }
            Some(())
        });
        (torn, other.join().expect("it does not panic"))
    });
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

/// Where the cells stand that tell what became of a trial.
struct Columns {
    key: [Option<usize>; 3],
    error: Option<usize>,
    mean_score: Option<usize>,
}

impl Columns {
    fn of(headers: &ByteRecord) -> Self {
        let at = |name: &str| headers.iter().position(|header| header == name.as_bytes());
        let key = ["example_id", "condition", "repeat"].map(at);
        Columns { key, error: at("error"), mean_score: at("mean_score") }
    }

    fn cells<'r>(&self, row: &'r ByteRecord) -> Option<(&'r str, &'r str, u32)> {
        let text = |column: Option<usize>| std::str::from_utf8(&row[column?]).ok();
        let [example, condition, repeat] = self.key.map(text);
        Some((example?, condition?, repeat?.parse().ok()?))
    }

    fn key(&self, row: &ByteRecord) -> Option<Key> {
        let (example, condition, repeat) = self.cells(row)?;
        Some(Key { example: example.to_owned(), condition: condition.to_owned(), repeat })
    }

    fn is_of(&self, row: &ByteRecord, key: &Key) -> bool {
        self.cells(row) == Some((&key.example, &key.condition, key.repeat))
    }
}

/// Cuts off a last record that is not whole, and says whether there was one. In both files the last column is no free text,
/// so a record torn inside a quoted cell always lacks fields.
pub(super) fn drop_torn_line(path: &Path) -> Result<bool> {
    repair(path, |_, _| Some(()))
}

/// As [`drop_torn_line`]; shows every whole record to `visit`, which returns `None` for what is none of ours.
fn repair(path: &Path, mut visit: impl FnMut(&ByteRecord, &Columns) -> Option<()>) -> Result<bool> {
    let io = || Error::io("cannot read", path);
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(io())?;
    let length = file.seek(SeekFrom::End(0)).map_err(io())?;
    let mut last = [0];
    file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)).map_err(io())?;
    file.rewind().map_err(io())?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).buffer_capacity(1 << 20).from_reader(&file);
    let headers = reader.byte_headers().map_err(|error| unreadable(path, &error))?;
    let (n_columns, columns) = (headers.len(), Columns::of(headers));
    let mut whole = reader.position().byte();
    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(|error| unreadable(path, &error))? {
        let end = reader.position().byte();
        if record.len() != n_columns || (end >= length && last != [b'\n']) {
            break;
        }
        visit(&record, &columns).ok_or_else(|| {
            let line = record.position().map_or(0, csv::Position::line);
            Error::input(format!("{}, line {line}: this is no row of a run", path.display()))
        })?;
        whole = end;
    }
    drop(reader);
    if whole >= length {
        return Ok(false);
    }
    file.set_len(whole).and_then(|()| file.sync_all()).map_err(Error::io("cannot repair", path))?;
    Ok(true)
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
