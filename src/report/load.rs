//! Reads run directories: manifest, rows, prompts.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::exp::stop::Stopping;
use crate::exp::{INSTRUCTIONS, InstructionRow, MANIFEST, Manifest, PromptRow, TRIALS, TrialRow, read_prompts};
use crate::{Error, Result};

/// A run directory, read.
#[derive(Debug, Clone)]
pub struct Run {
    /// The directory's name; unique among the runs of a report.
    pub name: String,
    /// Where it lies.
    pub directory: PathBuf,
    /// What ran.
    pub manifest: Manifest,
    /// The rows of the trials, the failed ones too.
    pub trials: Vec<TrialRow>,
    /// The rows of their instructions.
    pub instructions: Vec<InstructionRow>,
    /// The prompts; `None` where the run holds none.
    pub prompts: Option<Vec<PromptRow>>,
    /// The stopping rule it ran under, if any.
    pub stopping: Option<Stopping>,
    /// Files whose last line is still being written, or was torn.
    pub torn: Vec<&'static str>,
}

/// Reads the runs of a report.
///
/// # Errors
/// If a directory holds no run, is given twice, or its files cannot be understood.
pub fn load(directories: &[PathBuf]) -> Result<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::with_capacity(directories.len());
    for directory in directories {
        let run = read(directory)?;
        if runs.iter().any(|earlier| same_place(&earlier.directory, directory)) {
            return Err(Error::input(format!("{} is given twice; name each run once", directory.display())));
        }
        runs.push(run);
    }
    let names: Vec<_> = runs.iter().map(|run| run.name.clone()).collect();
    for run in &mut runs {
        if names.iter().filter(|name| **name == run.name).count() > 1 {
            run.name = run.directory.display().to_string();
        }
    }
    Ok(runs)
}

fn same_place(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn read(directory: &Path) -> Result<Run> {
    let manifest = directory.join(MANIFEST);
    if !manifest.exists() {
        return Err(Error::input(format!(
            "{} holds no run: there is no {MANIFEST} in it; give a directory that `kvllama exp` wrote",
            directory.display()
        )));
    }
    let mut torn = Vec::new();
    let run = Run {
        name: name(directory),
        manifest: Manifest::read(&manifest)?,
        trials: rows(directory, TRIALS, &mut torn)?,
        instructions: rows(directory, INSTRUCTIONS, &mut torn)?,
        prompts: read_prompts(directory)?,
        stopping: Stopping::read(directory)?,
        directory: directory.to_owned(),
        torn,
    };
    if run.trials.is_empty() {
        return Err(Error::input(format!(
            "{} has no finished trial yet; rerun its command to go on with it",
            directory.display()
        )));
    }
    Ok(run)
}

/// The last component, resolving `.` and `..`.
fn name(directory: &Path) -> String {
    let full = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    full.file_name().map_or_else(|| full.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// All whole rows. A run may be watched while it is written: a last line that is not whole is left out.
fn rows<Row: DeserializeOwned>(directory: &Path, file: &'static str, torn: &mut Vec<&'static str>) -> Result<Vec<Row>> {
    let path = directory.join(file);
    let bytes = std::fs::read(&path).map_err(Error::io("cannot read", &path))?;
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let mut rows = Vec::new();
    let mut failure = None;
    for row in reader.deserialize() {
        if let Some(error) = failure {
            return Err(unreadable(&path, &error));
        }
        match row {
            Ok(row) => rows.push(row),
            Err(error) => failure = Some(error),
        }
    }
    if let Some(error) = failure {
        // A row of a type that does not fit is no torn line.
        if matches!(error.kind(), csv::ErrorKind::Deserialize { .. }) && bytes.ends_with(b"\n") {
            return Err(unreadable(&path, &error));
        }
        torn.push(file);
    }
    Ok(rows)
}

fn unreadable(path: &Path, error: &csv::Error) -> Error {
    Error::input(format!("{} does not hold the rows of this version of kvllama: {error}", path.display()))
}
