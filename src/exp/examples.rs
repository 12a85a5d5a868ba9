//! `examples.jsonl`: the examples of a run, so that its directory needs no other file to be scored or judged.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::data::{self, Example};
use crate::{Error, Result};

/// The examples of the run, in the format of a data set.
const EXAMPLES: &str = "examples.jsonl";

/// Writes the examples of a run beside its rows; those that an earlier start left there stay.
pub fn write_examples(directory: &Path, examples: &[Example]) -> Result<()> {
    let path = directory.join(EXAMPLES);
    let mut all = if path.exists() { data::load(&path)? } else { Vec::new() };
    let known: HashSet<String> = all.iter().map(|example| example.id.clone()).collect();
    let before = all.len();
    all.extend(examples.iter().filter(|example| !known.contains(&example.id)).cloned());
    if all.len() == before {
        return Ok(());
    }
    let lines = all.iter().map(|example| serde_json::to_string(example).expect("plain data") + "\n");
    crate::files::write_atomically(&path, lines.collect::<String>().as_bytes())
}

/// The examples of a run, by id.
///
/// # Errors
/// If the run was made by a version of kvllama that did not write them.
pub fn read_examples(directory: &Path) -> Result<HashMap<String, Example>> {
    let path = directory.join(EXAMPLES);
    if !path.exists() {
        return Err(Error::input(format!(
            "{} is missing; run the `exp` command of this run once more with --out {} and it is written",
            path.display(),
            directory.display()
        )));
    }
    Ok(data::load(&path)?.into_iter().map(|example| (example.id.clone(), example)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_examples_join_the_earlier_ones() {
        let directory = tempfile::tempdir().unwrap();
        let all = data::bundled::find("demo").unwrap().examples().unwrap();
        assert!(read_examples(directory.path()).unwrap_err().to_string().contains("examples.jsonl is missing"));
        write_examples(directory.path(), &all[1..3]).unwrap();
        write_examples(directory.path(), &all[..2]).unwrap();
        let read = read_examples(directory.path()).unwrap();
        assert_eq!(read.len(), 3);
        assert!(all[..3].iter().all(|example| read[&example.id] == *example));
    }
}
