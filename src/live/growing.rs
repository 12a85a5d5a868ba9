//! A CSV that another process appends to: each call reads the rows that have landed since the last one.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, ReaderBuilder};
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// The file, and how far it was read.
#[derive(Debug)]
pub struct Growing {
    path: PathBuf,
    header: ByteRecord,
    read: u64,
    /// Identifies the file, where the system can: a resume may replace it by a rewritten one.
    file: Option<u64>,
}

/// What a call has found.
#[derive(Debug, PartialEq)]
pub enum Landed<Row> {
    /// The rows after those of the last call.
    More(Vec<Row>),
    /// All rows of a file that was replaced or cut.
    Anew(Vec<Row>),
}

impl Growing {
    /// A file that may not exist yet.
    pub fn new(path: &Path) -> Self {
        Growing { path: path.to_owned(), header: ByteRecord::new(), read: 0, file: None }
    }

    /// Reads the whole rows that have landed; a row that is still being written waits for the next call.
    ///
    /// # Errors
    /// If the file cannot be read or holds something else than rows.
    pub fn landed<Row: DeserializeOwned>(&mut self) -> Result<Landed<Row>> {
        let path = self.path.clone();
        let io = || Error::io("cannot read", &path);
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Landed::More(Vec::new())),
            file => file.map_err(io())?,
        };
        let metadata = file.metadata().map_err(io())?;
        let anew = self.read > 0 && (metadata.len() < self.read || identity(&metadata) != self.file);
        if anew {
            *self = Growing::new(&path);
        }
        self.file = identity(&metadata);
        let mut bytes = Vec::new();
        let wanted = metadata.len() - self.read;
        file.seek(SeekFrom::Start(self.read)).and_then(|_| file.take(wanted).read_to_end(&mut bytes)).map_err(io())?;
        let whole = whole(&bytes);
        let mut reader = ReaderBuilder::new().has_headers(false).from_reader(&bytes[..whole]);
        let mut rows = Vec::new();
        for record in reader.byte_records() {
            let record = record.map_err(|error| self.refused(&error))?;
            if self.header.is_empty() {
                self.header = record;
            } else {
                rows.push(record.deserialize(Some(&self.header)).map_err(|error| self.refused(&error))?);
            }
        }
        self.read += whole as u64;
        Ok(if anew { Landed::Anew(rows) } else { Landed::More(rows) })
    }

    fn refused(&self, error: &csv::Error) -> Error {
        Error::input(format!("{} holds what is no row of a run: {error}", self.path.display()))
    }
}

/// Length of the whole rows at the beginning: up to the last line feed that is not inside a quoted cell.
fn whole(bytes: &[u8]) -> usize {
    let (mut quoted, mut end) = (false, 0);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => end = at + 1,
            _ => {}
        }
    }
    end
}

#[cfg(unix)]
fn identity(metadata: &std::fs::Metadata) -> Option<u64> {
    Some(std::os::unix::fs::MetadataExt::ino(metadata))
}

#[cfg(not(unix))]
fn identity(_metadata: &std::fs::Metadata) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn rows_come_once_and_whole() {
        type Row = (String, u32);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rows.csv");
        let mut growing = Growing::new(&path);
        let row = |text: &str, number| (text.to_owned(), number);
        assert_eq!(growing.landed::<Row>().unwrap(), Landed::More(vec![]));
        let mut file = File::create(&path).unwrap();
        file.write_all(b"text,number\na,1\n\"b\nb\",2\n\"half\n").unwrap();
        assert_eq!(growing.landed::<Row>().unwrap(), Landed::More(vec![row("a", 1), row("b\nb", 2)]));
        assert_eq!(growing.landed::<Row>().unwrap(), Landed::More(vec![]));
        file.write_all(b"\",3\n").unwrap();
        assert_eq!(growing.landed::<Row>().unwrap(), Landed::More(vec![row("half\n", 3)]));
        std::fs::write(directory.path().join("new"), "text,number\nc,4\n").unwrap();
        std::fs::rename(directory.path().join("new"), &path).unwrap();
        assert_eq!(growing.landed::<Row>().unwrap(), Landed::Anew(vec![row("c", 4)]));
        std::fs::write(&path, "text,number\nd,x\n").unwrap();
        std::fs::write(directory.path().join("new"), "text,number\nd,x\n").unwrap();
        std::fs::rename(directory.path().join("new"), &path).unwrap();
        assert!(growing.landed::<Row>().is_err());
    }
}
