//! The file of generated examples: every example in it is complete, valid and on disk.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::super::near::Prompts;
use crate::data::{Example, load};
use crate::lines::Lines;
use crate::{Error, Result};

/// An open file of examples, locked against a second process.
pub(super) struct OpenFile {
    lines: Lines,
    ids: HashSet<String>,
    kinds: BTreeMap<String, usize>,
    prompts: Prompts,
}

impl OpenFile {
    /// Opens or creates the file. An incomplete last line is dropped.
    pub fn open(path: &Path) -> Result<Self> {
        let (mut ids, mut kinds, mut prompts) = (HashSet::new(), BTreeMap::new(), Prompts::default());
        let (lines, torn) = Lines::open(path, |line| {
            let example = load::example(line)?;
            if ids.contains(&example.id) {
                return Err(Error::input(format!("the id `{}` is taken by a line before", example.id.escape_debug())));
            }
            remember(&mut ids, &mut kinds, &mut prompts, example);
            Ok(())
        })?;
        if torn {
            tracing::warn!("{}: the last line was cut off and is dropped", path.display());
        }
        Ok(OpenFile { lines, ids, kinds, prompts })
    }

    /// Appends an example; when this returns, it is on disk.
    pub fn append(&mut self, example: Example) -> Result<()> {
        self.lines.append(&example)?;
        remember(&mut self.ids, &mut self.kinds, &mut self.prompts, example);
        Ok(())
    }

    /// Number of examples in the file.
    pub fn examples(&self) -> usize {
        self.ids.len()
    }

    /// An id that no example uses.
    pub fn free_id(&self) -> String {
        let ids = (self.examples() + 1..).map(|number| format!("gen-{number:03}"));
        ids.into_iter().find(|id| !self.ids.contains(id)).expect("there are more numbers than examples")
    }

    /// Number of instructions of each type.
    pub fn kinds(&self) -> &BTreeMap<String, usize> {
        &self.kinds
    }

    /// The prompts of the examples.
    pub fn prompts(&self) -> &Prompts {
        &self.prompts
    }
}

fn remember(ids: &mut HashSet<String>, kinds: &mut BTreeMap<String, usize>, prompts: &mut Prompts, example: Example) {
    for instruction in &example.instructions {
        *kinds.entry(instruction.kind.clone()).or_default() += 1;
    }
    prompts.add(&example);
    ids.insert(example.id);
}
