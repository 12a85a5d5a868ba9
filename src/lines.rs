//! Files of JSON lines that grow at their end: lines are appended whole and read strictly.
//!
//! A line that the end of the file cuts off is dropped; any other unreadable line is refused with its number, and the
//! file stays as it is.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::files::{self, Locked};
use crate::{Error, Result};

/// An open file of JSON lines. Only one process at a time can have it open.
pub struct Lines {
    path: PathBuf,
    file: Locked,
}

impl Lines {
    /// Opens or makes the file and calls `visit` for each line; returns whether a last line was dropped.
    ///
    /// # Errors
    /// If another process has it open, or if `visit` refuses a line that is not cut off by the end of the file.
    pub fn open(path: &Path, mut visit: impl FnMut(&str) -> Result<()>) -> Result<(Self, bool)> {
        let fail = |what| Error::io(what, path);
        if path.exists() {
            files::refuse_irregular(path)?;
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(path).map_err(fail("cannot open"))?;
        let mut file = Locked::new(file, path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail("cannot read"))?;
        let mut lines = Lines { path: path.to_owned(), file };
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let (whole, tail) = bytes.split_at(whole);
        for (index, line) in whole.split_inclusive(|&byte| byte == b'\n').enumerate() {
            if !line.trim_ascii().is_empty() {
                text(line).and_then(&mut visit).map_err(|error| refused(path, index + 1, &error))?;
            }
        }
        if tail.is_empty() {
            return Ok((lines, false));
        }
        match text(tail).and_then(visit) {
            // Only the line feed is missing, as in files of other programs.
            Ok(()) => files::append(&mut lines.file, path, b"\n").map(|()| (lines, false)),
            Err(_) if tail.starts_with(b"{") || tail.iter().all(|&byte| byte == 0) => {
                lines.file.set_len(whole.len() as u64).map_err(fail("cannot mend"))?;
                Ok((lines, true))
            }
            Err(error) => Err(refused(path, whole.iter().filter(|&&byte| byte == b'\n').count() + 1, &error)),
        }
    }

    /// Appends a line; it is on disk when this returns.
    ///
    /// # Errors
    /// If it cannot be written; the file is then as it was before.
    pub fn append(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(line).expect("plain data");
        text.push('\n');
        files::append(&mut self.file, &self.path, text.as_bytes())
    }
}

fn text(line: &[u8]) -> Result<&str> {
    if line.ends_with(b"\r\n") {
        return Err(Error::input("it ends in CRLF, as another program writes it"));
    }
    std::str::from_utf8(line.trim_ascii()).map_err(|error| Error::input(format!("it is no UTF-8: {error}")))
}

fn refused(path: &Path, line: usize, error: &Error) -> Error {
    Error::input(format!(
        "{}, line {line}: {error}; mend or delete that line, nothing has been changed",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Line {
        n: u32,
    }

    fn read(path: &Path) -> Result<(Vec<u32>, bool)> {
        let mut seen = Vec::new();
        let (_, torn) = Lines::open(path, |line| {
            let line: Line = serde_json::from_str(line).map_err(|error| Error::input(error.to_string()))?;
            seen.push(line.n);
            Ok(())
        })?;
        Ok((seen, torn))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_cut_loses_the_last_line_and_other_damage_nothing(cut in 0..80usize, at in 0..80usize, byte in 0..=255u8) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("lines.jsonl");
            let (mut lines, _) = Lines::open(&path, |_| Ok(())).unwrap();
            (10..18u32).for_each(|n| lines.append(&serde_json::json!({ "n": n })).unwrap());
            drop(lines);
            let whole = std::fs::read(&path).unwrap();
            let width = whole.len() / 8;

            let cut = cut * whole.len() / 80;
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (seen, torn) = read(&path).unwrap();
            // A line that lacks only its line feed is whole.
            let n = (cut + 1) / width;
            prop_assert_eq!(seen, (10..10 + n as u32).collect::<Vec<_>>());
            prop_assert_eq!(torn, cut > n * width);

            let at = at * (whole.len() - width) / 80; // in no last line
            let mut damaged = whole.clone();
            damaged[at] = byte;
            std::fs::write(&path, &damaged).unwrap();
            match read(&path) {
                Ok((seen, torn)) => prop_assert!(seen.len() >= 8 && !torn, "{seen:?}"),
                Err(error) => prop_assert!(error.to_string().contains("lines.jsonl, line "), "{error}"),
            }
            prop_assert_eq!(std::fs::read(&path).unwrap(), damaged);
        }
    }
}
