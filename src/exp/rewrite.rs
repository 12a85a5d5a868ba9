//! The rows of a run in memory, to be scored again and written back.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::store::{self, INSTRUCTIONS, Lock, Store, TRIALS};
use super::table;
use super::{InstructionRow, Key, MANIFEST, Manifest, TrialRow};
use crate::{Error, Result};

/// All rows of a run directory. While this value lives, no other process can write to the directory.
pub struct Rows {
    /// The rows of `trials.csv`, failed trials included.
    pub trials: Vec<TrialRow>,
    /// The rows of `instructions.csv`.
    pub instructions: Vec<InstructionRow>,
    directory: PathBuf,
    _lock: Lock,
}

impl Rows {
    /// Reads the rows of a run. A torn last line is dropped, as at a resume.
    ///
    /// # Errors
    /// If the directory holds no run, if it lacks instructions of finished trials, or if another process holds it.
    pub fn open(directory: &Path) -> Result<Self> {
        if !Store::exists(directory) {
            return Err(Error::input(format!(
                "{} is not a run directory: it has no manifest.json",
                directory.display()
            )));
        }
        let lock = store::lock(directory)?;
        let (mut trials, mut instructions) = (Vec::new(), Vec::new());
        for name in [TRIALS, INSTRUCTIONS] {
            let path = directory.join(name);
            let torn = match name {
                TRIALS => {
                    table::check_columns::<TrialRow>(&path).and_then(|()| table::drop_torn_line::<TrialRow>(&path))?
                }
                _ => table::check_columns::<InstructionRow>(&path)
                    .and_then(|()| table::drop_torn_line::<InstructionRow>(&path))?,
            };
            if torn {
                tracing::warn!("{}: the last line was torn and has been dropped", path.display());
            }
        }
        let conditions: HashMap<String, Vec<String>> = Manifest::read(&directory.join(MANIFEST))?
            .conditions()
            .into_iter()
            .map(|(name, condition)| (name, condition.cells()))
            .collect();
        table::scan(&directory.join(TRIALS), |mut row: TrialRow| {
            row.axes = conditions.get(&row.condition).cloned().unwrap_or_default();
            trials.push(row);
        })?;
        table::scan(&directory.join(INSTRUCTIONS), |row| instructions.push(row))?;
        check_complete(directory, &trials, &instructions)?;
        Ok(Rows { trials, instructions, directory: directory.to_owned(), _lock: lock })
    }

    /// The finished trials, by key.
    pub fn finished(&self) -> HashMap<Key, &TrialRow> {
        self.trials.iter().filter(|row| row.error.is_empty()).map(|row| (row.key(), row)).collect()
    }

    /// Computes all scores and means from the verdicts in the rows, and writes both files, each atomically.
    pub fn settle(&mut self) -> Result<()> {
        let mut by_trial: HashMap<Key, Vec<&InstructionRow>> = HashMap::new();
        self.instructions.iter_mut().for_each(InstructionRow::settle);
        for row in &self.instructions {
            by_trial.entry(row.key()).or_default().push(row);
        }
        for row in self.trials.iter_mut().filter(|row| row.error.is_empty()) {
            row.settle(by_trial.get(&row.key()).into_iter().flatten().copied());
        }
        // The trials with their means come last: after a crash between the two writes no verdict is lost, and the next
        // call computes the means.
        table::rewrite(&self.directory.join(INSTRUCTIONS), &self.instructions)?;
        table::rewrite(&self.directory.join(TRIALS), &self.trials)
    }
}

/// Refuses a run if `instructions.csv` has lost rows: all finished trials of an example must have
/// equally many in the same turn.
pub(crate) fn check_complete(directory: &Path, trials: &[TrialRow], instructions: &[InstructionRow]) -> Result<()> {
    let mut rows: HashMap<(&str, &str, u32, u32), usize> = HashMap::new();
    for row in instructions {
        *rows.entry((&row.example_id, &row.condition, row.repeat, row.turn)).or_default() += 1;
    }
    let mut most: HashMap<(&str, u32), usize> = HashMap::new();
    for ((example, _, _, turn), count) in &rows {
        let most = most.entry((example, *turn)).or_default();
        *most = (*most).max(*count);
    }
    let lacks = |row: &&TrialRow| {
        let key = (row.example_id.as_str(), row.condition.as_str(), row.repeat, row.turn);
        rows.get(&key) != most.get(&(key.0, key.3))
    };
    let lacking = trials.iter().filter(|row| row.error.is_empty()).filter(lacks).count();
    if lacking == 0 {
        return Ok(());
    }
    Err(Error::input(format!(
        "{0}/{INSTRUCTIONS} lacks rows of {lacking} finished trials; run the `exp` command of this run once more with \
         --out {0}, and they are run again",
        directory.display()
    )))
}
