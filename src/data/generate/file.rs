//! The file that fills up: every example in it is whole, valid and safe.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::super::near::Prompts;
use crate::data::{Example, parse};
use crate::{Error, Result};

/// An open file of examples, locked against a second process.
pub(super) struct OpenFile {
    path: PathBuf,
    file: File,
    ids: HashSet<String>,
    kinds: BTreeMap<String, usize>,
    prompts: Prompts,
}

impl OpenFile {
    /// Opens or creates it. A last line that was cut off is dropped.
    pub fn open(path: &Path) -> Result<Self> {
        let fail = |what| Error::io(what, path);
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open(path).map_err(fail("cannot open"))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::input(format!(
                "another process is writing to {}; wait for it or name another file",
                path.display()
            )),
            TryLockError::Error(error) => fail("cannot lock")(error),
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail("cannot read"))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let read = |bytes: &[u8]| match String::from_utf8_lossy(bytes) {
            text if text.trim().is_empty() => Ok(Vec::new()),
            text => parse(&text, &path.display().to_string()),
        };
        let examples = match read(&bytes) {
            // Only the last line feed is missing, as other programs leave it.
            Ok(examples) if whole < bytes.len() => {
                file.write_all(b"\n").map_err(fail("cannot write to"))?;
                examples
            }
            Err(_) if bytes[whole..].starts_with(b"{") => {
                let examples = read(&bytes[..whole])?;
                tracing::warn!("{}: the last line was cut off and is dropped", path.display());
                file.set_len(whole as u64).map_err(fail("cannot mend"))?;
                examples
            }
            examples => examples?,
        };
        let mut open = OpenFile {
            path: path.to_owned(),
            file,
            ids: HashSet::new(),
            kinds: BTreeMap::new(),
            prompts: Prompts::default(),
        };
        examples.into_iter().for_each(|example| open.remember(example));
        Ok(open)
    }

    /// Appends an example; it is on the disk when this returns.
    pub fn append(&mut self, example: Example) -> Result<()> {
        let line = format!("{}\n", serde_json::to_string(&example).expect("plain data"));
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_all());
        written.map_err(Error::io("cannot write to", &self.path))?;
        self.remember(example);
        Ok(())
    }

    /// How many examples it holds.
    pub fn examples(&self) -> usize {
        self.ids.len()
    }

    /// An id that no example has.
    pub fn free_id(&self) -> String {
        let ids = (self.examples() + 1..).map(|number| format!("gen-{number:03}"));
        ids.into_iter().find(|id| !self.ids.contains(id)).expect("there are more numbers than examples")
    }

    /// How often it holds each type of instruction.
    pub fn kinds(&self) -> &BTreeMap<String, usize> {
        &self.kinds
    }

    /// Its prompts.
    pub fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    fn remember(&mut self, example: Example) {
        for instruction in &example.instructions {
            *self.kinds.entry(instruction.kind.clone()).or_default() += 1;
        }
        self.prompts.add(&example);
        self.ids.insert(example.id);
    }
}
