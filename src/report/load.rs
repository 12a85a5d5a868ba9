//! Reads run directories: manifest, rows, prompts.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exp::stop::Stopping;
use crate::exp::{self, INSTRUCTIONS, InstructionRow, MANIFEST, Manifest, PromptRow, TRIALS, TrialRow, read_prompts};
use crate::judge::stage;
use crate::threads::both;
use crate::{Error, Result};

/// The content of a run directory.
#[derive(Debug, Clone)]
pub struct Run {
    /// The directory's name; unique among the runs of a report.
    pub name: String,
    /// The directory's path.
    pub directory: PathBuf,
    /// The manifest.
    pub manifest: Manifest,
    /// The rows of the trials, including failed ones.
    pub trials: Vec<TrialRow>,
    /// The rows of their instructions.
    pub instructions: Vec<InstructionRow>,
    /// The prompts; `None` if the run has none.
    pub prompts: Option<Vec<PromptRow>>,
    /// The judge whose scores are in the rows, if one was asked.
    pub judge: Option<String>,
    /// The stopping rule of the run, if it has one.
    pub stopping: Option<Stopping>,
    /// Files whose last line is torn or still being written.
    pub torn: Vec<&'static str>,
}

/// Reads the runs of a report.
///
/// # Errors
/// If a directory holds no run or is given twice, or if its files are malformed.
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
    let manifest = Manifest::read(&manifest)?;
    let (trials, instructions) = both(|| rows(directory, TRIALS), || rows(directory, INSTRUCTIONS));
    let ((trials, torn_trials), (instructions, torn_instructions)) = (trials?, instructions?);
    let run = Run {
        name: name(directory),
        manifest,
        trials,
        instructions,
        prompts: read_prompts(directory)?,
        judge: stage::judge_of(directory)?,
        stopping: Stopping::read(directory)?,
        directory: directory.to_owned(),
        torn: torn_trials.into_iter().chain(torn_instructions).collect(),
    };
    let known: HashSet<String> = run.manifest.conditions().into_iter().map(|(name, _)| name).collect();
    if let Some(row) = run.trials.iter().find(|row| !known.contains(&row.condition)) {
        return Err(Error::input(format!(
            "{} has a row of the condition `{}`, which its {MANIFEST} lacks; put back the manifest that belongs to these rows",
            directory.display(),
            row.condition
        )));
    }
    exp::check_complete(directory, &run.trials, &run.instructions)?;
    if run.trials.is_empty() {
        return Err(Error::input(format!(
            "{} has no finished trial yet; rerun its command to go on with it",
            directory.display()
        )));
    }
    Ok(run)
}

/// The last component of the path, after `.` and `..` are resolved.
pub(crate) fn name(directory: &Path) -> String {
    last_component(&directory.canonicalize().unwrap_or_else(|_| directory.to_owned()))
}

/// The last component of the path as it is written.
pub(crate) fn last_component(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// All whole rows, and the file's name if its last line is incomplete: that line is left out, because a run may be read
/// while it is written.
fn rows<Row: DeserializeOwned + Serialize + Default>(
    directory: &Path,
    file: &'static str,
) -> Result<(Vec<Row>, Option<&'static str>)> {
    let path = directory.join(file);
    let mut rows = Vec::new();
    exp::check_columns::<Row>(&path)?;
    let torn = exp::inspect(&path, |row| rows.push(row))?;
    Ok((rows, torn.map(|_| file)))
}
