//! The rows of a run in memory, to be scored anew and written back.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::store::{self, INSTRUCTIONS, Store, TRIALS};
use super::{InstructionRow, Key, MANIFEST, Manifest, TrialRow};
use crate::{Error, Result};

/// All rows of a run directory. Nobody else writes there as long as this lives.
pub struct Rows {
    /// The rows of `trials.csv`, failed trials included.
    pub trials: Vec<TrialRow>,
    /// The rows of `instructions.csv`.
    pub instructions: Vec<InstructionRow>,
    directory: PathBuf,
    _lock: File,
}

impl Rows {
    /// Reads the rows of a run. A torn last line is dropped, as at a resume.
    ///
    /// # Errors
    /// If the directory holds no run, or if another process holds the directory.
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
                    store::check_columns::<TrialRow>(&path).and_then(|()| store::drop_torn_line::<TrialRow>(&path))?
                }
                _ => store::check_columns::<InstructionRow>(&path)
                    .and_then(|()| store::drop_torn_line::<InstructionRow>(&path))?,
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
        store::scan(&directory.join(TRIALS), |mut row: TrialRow| {
            row.axes = conditions.get(&row.condition).cloned().unwrap_or_default();
            trials.push(row);
        })?;
        store::scan(&directory.join(INSTRUCTIONS), |row| instructions.push(row))?;
        Ok(Rows { trials, instructions, directory: directory.to_owned(), _lock: lock })
    }

    /// The finished trials, by key.
    pub fn finished(&self) -> HashMap<Key, &TrialRow> {
        self.trials.iter().filter(|row| row.error.is_empty()).map(|row| (row.key(), row)).collect()
    }

    /// Draws all scores and means from the verdicts in the rows, and writes both files, each whole or
    /// not at all.
    pub fn settle(&mut self) -> Result<()> {
        let mut by_trial: HashMap<Key, Vec<&InstructionRow>> = HashMap::new();
        self.instructions.iter_mut().for_each(InstructionRow::settle);
        for row in &self.instructions {
            by_trial.entry(row.key()).or_default().push(row);
        }
        for row in self.trials.iter_mut().filter(|row| row.error.is_empty()) {
            row.settle(by_trial.get(&row.key()).into_iter().flatten().copied());
        }
        // The means last: a crash between the two leaves them to the next time, and loses no verdict.
        store::rewrite(&self.directory.join(INSTRUCTIONS), &self.instructions)?;
        store::rewrite(&self.directory.join(TRIALS), &self.trials)
    }
}
