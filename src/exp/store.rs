//! The run directory: durable rows, resume, lock.
//!
//! A trial is committed when its row is in `trials.csv`. Its rows in `instructions.csv` are written and synced first;
//! rows without a trial are dropped by the next start.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use super::table::{append, check_columns, cut, ensure_header, header, inspect, retain};
use super::{InstructionRow, Key, Manifest, Session, TrialRow};
use crate::engine::{Given, StopReason};
use crate::files::{self, Locked};
use crate::{Error, Result};

/// The file of trials, one row each.
pub const TRIALS: &str = "trials.csv";
/// The file of instructions, one row per trial and instruction.
pub const INSTRUCTIONS: &str = "instructions.csv";
/// The file that describes the run.
pub const MANIFEST: &str = "manifest.json";
const LOCK: &str = ".lock";

/// The earlier content of a run directory.
#[derive(Debug, Default)]
pub struct Resumed {
    /// Finished trials, with their mean scores.
    pub done: HashMap<Key, Option<f64>>,
    /// Number of failed trials, which were dropped to be run again.
    pub failed: usize,
    /// Number of trials that lacked rows in `instructions.csv`, which were dropped to be run again.
    pub incomplete: usize,
    /// The files whose torn last line was dropped.
    pub torn: Vec<&'static str>,
}

/// An open run directory. Only one process at a time can have it open.
pub struct Store {
    directory: PathBuf,
    trials: File,
    instructions: File,
    _lock: Lock,
}

impl Store {
    /// Whether a directory holds a run.
    pub fn exists(directory: &Path) -> bool {
        directory.join(MANIFEST).exists()
    }

    /// Opens a run directory: makes it, or continues the run in it. `instructions` returns the number of instructions
    /// of an example that are checked in a turn, if it is known: a finished trial must have a row for each.
    ///
    /// # Errors
    /// If another process has it open, if its manifest differs in a field that changes results, or if its files are not
    /// those of a run.
    pub fn open(
        directory: &Path,
        manifest: &Manifest,
        instructions: impl Fn(&str, u32) -> Option<usize>,
    ) -> Result<(Self, Resumed)> {
        std::fs::create_dir_all(directory).map_err(Error::io("cannot make", directory))?;
        refuse_foreign(directory)?;
        let mut lock = lock(directory)?;
        let [manifest_path, trials_path, instructions_path] =
            [MANIFEST, TRIALS, INSTRUCTIONS].map(|name| directory.join(name));
        let mut resumed = Resumed::default();
        let manifest = match manifest_path.exists() {
            true => Manifest::read(&manifest_path)?.grown(manifest, directory, holds_rows(&trials_path))?,
            false if holds_rows(&trials_path) => {
                return Err(Error::input(format!(
                    "{} holds rows, but its {MANIFEST} is gone, which says of what run they are; put it back, or choose \
                     another --out",
                    directory.display()
                )));
            }
            false => manifest.clone(),
        };
        files::remove_unfinished(directory);
        ensure_header::<TrialRow>(&trials_path)?;
        ensure_header::<InstructionRow>(&instructions_path)?;
        recover(&trials_path, &instructions_path, &instructions, &mut resumed)?;
        // The manifest is written only if needed, so that a finished run can be run again in a read-only directory.
        let begun = manifest.sessions.last().is_some_and(|session| has_pending(session, &resumed.done));
        if begun || !manifest_path.exists() {
            manifest.write(&manifest_path)?;
        }
        lock.hold_rows(directory)?;
        let append = |path: &Path| OpenOptions::new().append(true).open(path).map_err(Error::io("cannot open", path));
        let store = Store {
            directory: directory.to_owned(),
            trials: append(&trials_path)?,
            instructions: append(&instructions_path)?,
            _lock: lock,
        };
        Ok((store, resumed))
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The answers of a chat that are on disk, by turn. `key` is that of any of its turns.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn answers(&self, key: &Key) -> Result<HashMap<u32, Given>> {
        let mut answers = HashMap::new();
        inspect(&self.directory.join(TRIALS), |row: TrialRow| {
            let of_chat = row.error.is_empty() && (Key { turn: key.turn, ..row.key() }) == *key;
            let stop = StopReason::ALL.into_iter().find(|stop| stop.as_str() == row.stop_reason);
            if let Some(stop) = stop.filter(|_| of_chat) {
                answers.insert(row.turn, Given { text: row.response, n_tokens: row.n_generated, stop });
            }
        })?;
        Ok(answers)
    }

    /// Appends a finished trial; it is on disk when this returns.
    pub fn append(&mut self, trial: &TrialRow, instructions: &[InstructionRow]) -> Result<()> {
        append(&mut self.instructions, &self.directory.join(INSTRUCTIONS), instructions)?;
        append(&mut self.trials, &self.directory.join(TRIALS), std::slice::from_ref(trial))
    }
}

/// Locks a run directory during its lifetime: through `.lock`, and through `trials.csv` in case somebody deletes
/// `.lock`.
pub(super) struct Lock {
    _directory: Locked,
    _rows: Option<Locked>,
}

impl Lock {
    /// Also locks the current `trials.csv`.
    fn hold_rows(&mut self, directory: &Path) -> Result<()> {
        self._rows = None;
        let path = directory.join(TRIALS);
        if path.exists() {
            files::refuse_irregular(&path)?;
            let rows = File::open(&path).map_err(Error::io("cannot open", &path))?;
            self._rows = Some(Locked::new(rows, directory)?);
        }
        Ok(())
    }
}

pub(super) fn lock(directory: &Path) -> Result<Lock> {
    let path = directory.join(LOCK);
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).open(&path).map_err(Error::io("cannot open", &path))?;
    let mut lock = Lock { _directory: Locked::new(file, directory)?, _rows: None };
    lock.hold_rows(directory)?;
    Ok(lock)
}

/// Refuses a directory that holds something other than a run. Files that a shell script may put there are allowed.
fn refuse_foreign(directory: &Path) -> Result<()> {
    const OURS: [&str; 3] = [LOCK, TRIALS, INSTRUCTIONS];
    const BESIDE: [&str; 6] = ["log", "txt", "out", "err", "toml", "sh"];
    if Store::exists(directory) {
        return Ok(());
    }
    for entry in std::fs::read_dir(directory).map_err(Error::io("cannot list", directory))? {
        let name = entry.map_err(Error::io("cannot list", directory))?.file_name();
        let text = name.to_string_lossy();
        let beside = Path::new(&name).extension().is_some_and(|end| BESIDE.iter().any(|beside| end == *beside));
        if !OURS.contains(&&*text) && !text.starts_with('.') && !beside {
            return Err(Error::input(format!(
                "{} holds no run but something else (`{}`); choose a new or an empty directory for --out",
                directory.display(),
                text.escape_debug()
            )));
        }
    }
    Ok(())
}

/// Whether a session has trials left to run.
fn has_pending(session: &Session, done: &HashMap<Key, Option<f64>>) -> bool {
    session.conditions.iter().any(|condition| {
        let mut key = Key { example: String::new(), condition: condition.to_string(), repeat: 0, turn: 0 };
        session.examples.iter().enumerate().any(|(index, example)| {
            key.example.clone_from(example);
            let repeats = session.repeats_of(&key.condition, index).into_iter();
            let trials = repeats.flat_map(|repeat| (0..session.turns_of(index)).map(move |turn| (repeat, turn)));
            trials.into_iter().any(|(repeat, turn)| {
                (key.repeat, key.turn) = (repeat, turn);
                !done.contains_key(&key)
            })
        })
    })
}

fn holds_rows(trials: &Path) -> bool {
    std::fs::metadata(trials).is_ok_and(|file| file.len() > header::<TrialRow>().len() as u64)
}

/// Number of rows in `instructions.csv` of each trial, and the byte at which a torn last record begins.
fn rows_of_trials(instructions: &Path) -> Result<(Option<u64>, HashMap<Key, usize>)> {
    let mut rows: HashMap<Key, usize> = HashMap::new();
    let whole = inspect(instructions, |row: InstructionRow| *rows.entry(row.key()).or_default() += 1)?;
    Ok((whole, rows))
}

/// Finds the finished trials, and drops everything else: torn lines, failed trials, trials without all their
/// instructions, and instructions without their trial.
///
/// A run may have a million trials, so each file is read once, both at the same time.
fn recover(
    trials: &Path,
    instructions: &Path,
    expected: &impl Fn(&str, u32) -> Option<usize>,
    resumed: &mut Resumed,
) -> Result<()> {
    check_columns::<TrialRow>(trials)?;
    check_columns::<InstructionRow>(instructions)?;
    let mut failed = HashSet::new();
    // Both files are read before either is changed: a refused run stays as it was.
    let take = |row: TrialRow| {
        if row.error.is_empty() {
            resumed.done.insert(row.key(), row.mean_score);
        } else {
            failed.insert(row.key());
        }
    };
    let (read, trials_whole) = crate::threads::both(|| rows_of_trials(instructions), || inspect(trials, take));
    let (trials_whole, (instructions_whole, rows)) = (trials_whole?, read?);
    let trials_torn = cut(trials, trials_whole);
    let instructions_torn = cut(instructions, instructions_whole);
    let torn = [(trials_torn?, TRIALS), (instructions_torn?, INSTRUCTIONS)];
    resumed.torn.extend(torn.into_iter().filter_map(|(torn, name)| torn.then_some(name)));
    resumed.failed = failed.len();

    // If an example's number of instructions is not known, the largest number of rows of its trials is taken.
    let mut most: HashMap<(&str, u32), usize> = HashMap::new();
    for (key, count) in &rows {
        let most = most.entry((&key.example, key.turn)).or_default();
        *most = (*most).max(*count);
    }
    let all = |example: &str, turn: u32| {
        expected(example, turn).unwrap_or_else(|| most.get(&(example, turn)).copied().unwrap_or(0))
    };
    let before = resumed.done.len();
    resumed.done.retain(|key, _| rows.get(key).copied().unwrap_or(0) == all(&key.example, key.turn));
    resumed.incomplete = before - resumed.done.len();
    if !failed.is_empty() || resumed.incomplete > 0 {
        retain(trials, |row: &TrialRow| resumed.done.contains_key(&row.key()) && row.error.is_empty())?;
    }
    if rows.keys().any(|key| !resumed.done.contains_key(key)) {
        retain(instructions, |row: &InstructionRow| resumed.done.contains_key(&row.key()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::table::scan;
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
        let (mut store, _) = Store::open(directory, &manifest(), |_, _| None).unwrap();
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
                let (_, resumed) = Store::open(directory.path(), &manifest(), |_, _| None).unwrap();
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
        let (mut store, resumed) = Store::open(directory.path(), &manifest(), |_, _| None).unwrap();
        assert_eq!((resumed.done.len(), resumed.failed), (1, 1));
        let (row, instructions) = trial("b", "now", "");
        store.append(&row, &instructions).unwrap();
        drop(store);
        let (_, resumed) = Store::open(directory.path(), &manifest(), |_, _| None).unwrap();
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
                // In the last record an open quote is allowed: a torn record looks like that.
                for damage in &damages[..if at == n_lines - 1 { 3 } else { 4 }] {
                    let lines = whole.lines().enumerate();
                    let text: String =
                        lines.map(|(n, line)| if n == at { damage(line) } else { line.to_owned() } + "\n").collect();
                    std::fs::write(&path, &text).unwrap();
                    let Err(error) = Store::open(directory.path(), &manifest(), |_, _| None) else { panic!("{text}") };
                    assert!(error.to_string().contains(&format!("{name}, line {}: ", at + 1)), "{error}");
                    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
                }
            }
            std::fs::write(&path, &whole).unwrap();
        }
        std::fs::remove_file(directory.path().join(MANIFEST)).unwrap();
        let Err(error) = Store::open(directory.path(), &manifest(), |_, _| None) else {
            panic!("rows of an unknown run")
        };
        assert!(error.to_string().contains("manifest.json is gone"), "{error}");
    }

    #[test]
    fn a_second_process_and_another_run_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(directory.path(), &manifest(), |_, _| None).unwrap();
        let Err(error) = Store::open(directory.path(), &manifest(), |_, _| None) else { panic!("locked") };
        assert!(error.to_string().contains("another process is writing"), "{error}");
        drop(store);
        let mut other = manifest();
        other.generation.seed += 1;
        other.model.sha256 = "ff".into();
        other.sessions[0].repeats += 1; // may differ
        let Err(error) = Store::open(directory.path(), &other, |_, _| None) else { panic!("another run") };
        let text = error.to_string();
        assert!(text.contains("seed was 1 and is now 2") && text.contains("model was"), "{text}");
        assert!(!text.contains("repeats"), "{text}");
    }
}
