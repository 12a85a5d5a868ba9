//! `scores:FILE.jsonl`: scores that were computed elsewhere, by example.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::shape::{Array, sizes};
use crate::evict::{Heads, Layer, Needs, Score, Scores, Subject};
use crate::{Error, Result};

/// The scores of each example, read from a file.
pub(super) struct File {
    path: PathBuf,
    /// By example: the number of the line, and the array in it.
    arrays: HashMap<String, (usize, Array)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    example_id: String,
    scores: Value,
}

impl File {
    /// Reads a file with a line `{"example_id": .., "scores": ..}` for each example.
    ///
    /// # Errors
    /// If the file cannot be read, or a line is something else; the message names the line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::input(format!("cannot read the scores {}: {error}", path.display())))?;
        let mut arrays = HashMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let number = number + 1;
            let at = |error: String| Error::input(format!("{}:{number}: {error}", path.display()));
            let Line { example_id, scores } = serde_json::from_str(line).map_err(|error| {
                at(format!(
                    "{error}; each line is {{\"example_id\": \"ID\", \"scores\": [numbers]}}, and NaN is no number"
                ))
            })?;
            let array = Array::nested(&scores).map_err(|error| at(format!("`scores`: {error}")))?;
            if let Some((earlier, _)) = arrays.insert(example_id.clone(), (number, array)) {
                return Err(at(format!("the example `{example_id}` has scores already, in line {earlier}")));
            }
        }
        Ok(File { path: path.to_owned(), arrays })
    }

    /// The scores of the whole prompt.
    fn of(&self, subject: &Subject, layers: &[(u32, usize)]) -> Result<Scores> {
        let (number, array) = self.arrays.get(subject.example).ok_or_else(|| {
            Error::input(format!("{} has no scores of the example `{}`", self.path.display(), subject.example))
        })?;
        let cached = subject.cached;
        array.scores(layers, cached).map_err(|error| {
            Error::input(format!(
                "{}:{number}: {error} ({cached} positions are cached: all tokens of the prompt but the last)",
                self.path.display()
            ))
        })
    }
}

impl Score for File {
    fn needs(&self, _len: usize) -> Needs {
        Needs::default()
    }

    /// Unused: the file has the scores of all layers.
    fn score(&self, _layer: &Layer) -> Heads {
        Heads::new()
    }

    fn rolls(&self) -> bool {
        false
    }

    fn rehearses(&self) -> bool {
        false
    }

    fn check(&self, subject: &Subject, layers: &[(u32, usize)]) -> Result<()> {
        self.of(subject, layers).map(|_| ())
    }

    fn scores(&self, layers: &[Layer], subject: &Subject) -> Result<Scores> {
        let mut scores = self.of(subject, &sizes(layers))?;
        // With --scope, the part behind the span is read after the eviction.
        scores.layers.iter_mut().flat_map(|(_, heads)| heads).for_each(|head| head.truncate(subject.tokens.len()));
        Ok(scores)
    }
}
