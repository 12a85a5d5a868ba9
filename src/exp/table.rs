//! CSV files that grow at their end: rows are appended whole and read strictly.
//!
//! A record that the end of the file cuts off is dropped; any other malformed row is refused with its line number, and
//! the file stays as it is.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use csv::{ByteRecord, Terminator};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files::refuse_irregular;
use crate::{Error, Result};

/// The header line of a row type: its field names.
pub(super) fn header<Row: Serialize + Default>() -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.serialize(Row::default()).expect("rows are flat");
    let text = writer.into_inner().expect("memory does not fail");
    let end = text.iter().position(|&byte| byte == b'\n').expect("a header line");
    text[..=end].to_vec()
}

/// Makes the file with its header, or checks the header of an existing file.
pub(super) fn ensure_header<Row: Serialize + Default>(path: &Path) -> Result<()> {
    let expected = header::<Row>();
    if std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return crate::files::write_atomically(path, &expected);
    }
    refuse_irregular(path)?;
    let mut file = File::open(path).map_err(Error::io("cannot read", path))?;
    let mut found = vec![0; expected.len()];
    match file.read_exact(&mut found) {
        Ok(()) if found == expected => Ok(()),
        _ => Err(Error::input(format!(
            "{} has other columns than this version of kvllama writes; choose another --out",
            path.display()
        ))),
    }
}

/// Checks that the columns of a file are known, in any order: an older version may have written fewer of them.
pub(crate) fn check_columns<Row: Serialize + Default>(path: &Path) -> Result<()> {
    /// The columns that identify a trial.
    const REQUIRED: [&str; 3] = ["example_id", "condition", "repeat"];
    refuse_irregular(path)?;
    let mut start = Vec::new();
    let mut file = File::open(path).map_err(Error::io("cannot read", path))?;
    (&mut file).take(3).read_to_end(&mut start).map_err(Error::io("cannot read", path))?;
    if start == *b"\xef\xbb\xbf" {
        return Err(refused(path, 1, "it begins with a byte order mark, as another program writes it"));
    }
    let mut reader = strict().from_path(path).map_err(|error| unreadable(path, &error))?;
    let found = reader.headers().map_err(|error| unreadable(path, &error))?;
    let known = header::<Row>();
    let known: Vec<&str> = std::str::from_utf8(&known).expect("column names are text").trim_end().split(',').collect();
    let foreign = found.iter().find(|column| !known.contains(column));
    let lacking = REQUIRED.into_iter().find(|column| !found.iter().any(|found| found == *column));
    let problem = match (foreign, lacking) {
        (Some(foreign), _) => format!("the column {foreign:?} is none of kvllama's"),
        (_, Some(lacking)) => format!("the column `{lacking}` is missing"),
        _ => return Ok(()),
    };
    Err(refused(path, 1, &problem))
}

/// Cuts off an incomplete last record; returns whether there was one.
pub(super) fn drop_torn_line<Row: DeserializeOwned>(path: &Path) -> Result<bool> {
    cut(path, inspect(path, |_: Row| ())?)
}

pub(super) fn cut(path: &Path, torn_at: Option<u64>) -> Result<bool> {
    let Some(whole) = torn_at else { return Ok(false) };
    let file = OpenOptions::new().write(true).open(path).map_err(Error::io("cannot open", path))?;
    file.set_len(whole).and_then(|()| file.sync_all()).map_err(Error::io("cannot repair", path))?;
    Ok(true)
}

/// Calls `visit` for every whole row; returns the byte at which a torn last record begins, if there is one. It changes
/// nothing.
///
/// # Errors
/// If anything before a torn last record is not a row. Only what the end of the file cuts off may be dropped.
pub(crate) fn inspect<Row: DeserializeOwned>(path: &Path, mut visit: impl FnMut(Row)) -> Result<Option<u64>> {
    let io = || Error::io("cannot read", path);
    refuse_irregular(path)?;
    let mut file = File::open(path).map_err(io())?;
    let length = file.metadata().map_err(io())?.len();
    // Another process may append meanwhile; the appended bytes are ignored.
    let mut reader = strict().buffer_capacity(1 << 20).from_reader((&file).take(length));
    let headers = reader.byte_headers().map_err(|error| unreadable(path, &error))?.clone();
    let mut whole = reader.position().byte();
    let mut record = ByteRecord::new();
    let mut tail_line = None;
    while reader.read_byte_record(&mut record).map_err(|error| unreadable(path, &error))? {
        let end = reader.position().byte();
        let line = record.position().map_or(0, csv::Position::line);
        if end >= length {
            tail_line = Some(line);
            break;
        }
        visit(row(path, line, &record, &headers)?);
        whole = end;
    }
    drop(reader);
    let Some(line) = tail_line else { return Ok(None) };
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(whole)).map_err(io())?;
    (&file).take(length - whole).read_to_end(&mut tail).map_err(io())?;
    // The writer closes every quote, so an odd number means an open cell, in which a line feed is text.
    let open = tail.iter().filter(|&&byte| byte == b'"').count() % 2 == 1;
    if tail.ends_with(b"\n") {
        if !(open && record.len() != headers.len()) {
            visit(row(path, line, &record, &headers)?);
            return Ok(None);
        }
        let column = headers.get(record.len().wrapping_sub(1)).unwrap_or_default();
        if !TEXTS.iter().any(|text| text.as_bytes() == column) {
            return Err(refused(path, line, "a quote is opened here and not closed"));
        }
    }
    let starts = tail.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    for start in starts {
        let mut reader = strict().has_headers(false).from_reader(&tail[start..]);
        if matches!(reader.read_byte_record(&mut record), Ok(true)) && record.deserialize::<Row>(Some(&headers)).is_ok()
        {
            return Err(refused(path, line, "a quote is opened here and not closed, and whole rows follow"));
        }
    }
    Ok(Some(whole))
}

/// Columns whose cells may contain a line feed: only in these may the file end after a line feed inside a cell.
const TEXTS: [&str; 4] = ["example_id", "response", "judge_reason", "error"];

/// Lines must end in a line feed, as the writer ends them; a file saved by a spreadsheet is refused.
fn strict() -> csv::ReaderBuilder {
    let mut builder = csv::ReaderBuilder::new();
    builder.flexible(true).terminator(Terminator::Any(b'\n'));
    builder
}

fn row<Row: DeserializeOwned>(path: &Path, line: u64, record: &ByteRecord, headers: &ByteRecord) -> Result<Row> {
    if record.len() != headers.len() {
        let why = format!("{} cells under {} columns", record.len(), headers.len());
        return Err(refused(path, line, &why));
    }
    if record.as_slice().contains(&0) {
        return Err(refused(path, line, "it holds a NUL byte"));
    }
    if record.iter().next_back().is_some_and(|cell| cell.ends_with(b"\r")) {
        return Err(refused(path, line, "it ends in CRLF, as another program writes it"));
    }
    record.deserialize(Some(headers)).map_err(|error| match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => refused(path, line, &err.to_string()),
        _ => refused(path, line, &error.to_string()),
    })
}

fn refused(path: &Path, line: u64, why: &str) -> Error {
    Error::input(format!(
        "{}, line {line}: this is no row of a run ({why}); mend or delete that line, nothing has been changed",
        path.display()
    ))
}

fn unreadable(path: &Path, error: &csv::Error) -> Error {
    if let csv::ErrorKind::Io(source) = error.kind() {
        let source = source.raw_os_error().map_or_else(|| source.kind().into(), std::io::Error::from_raw_os_error);
        return Error::io("cannot read", path)(source);
    }
    Error::input(format!("{} is not the CSV of a run: {error}", path.display()))
}

pub(super) fn scan<Row: DeserializeOwned>(path: &Path, mut visit: impl FnMut(Row)) -> Result<()> {
    let mut reader = csv::Reader::from_path(path).map_err(|error| unreadable(path, &error))?;
    for row in reader.deserialize() {
        visit(row.map_err(|error| unreadable(path, &error))?);
    }
    Ok(())
}

/// Rewrites a file without the rows for which `keep` is false; the cells of the others stay the same.
pub(super) fn retain<Row: DeserializeOwned>(path: &Path, keep: impl Fn(&Row) -> bool) -> Result<()> {
    let mut reader = strict().from_path(path).map_err(|error| unreadable(path, &error))?;
    let headers = reader.byte_headers().map_err(|error| unreadable(path, &error))?.clone();
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_byte_record(&headers).expect("memory does not fail");
    for record in reader.byte_records() {
        let record = record.map_err(|error| unreadable(path, &error))?;
        let line = record.position().map_or(0, csv::Position::line);
        if keep(&row(path, line, &record, &headers)?) {
            writer.write_byte_record(&record).expect("memory does not fail");
        }
    }
    crate::files::write_atomically(path, &writer.into_inner().expect("memory does not fail"))
}

/// Replaces the file's content by header and rows, atomically.
pub(super) fn rewrite<Row: Serialize + Default>(path: &Path, rows: &[Row]) -> Result<()> {
    let mut text = header::<Row>();
    text.extend(records(rows));
    crate::files::write_atomically(path, &text)
}

/// Rows as CSV, without the header.
fn records<Row: Serialize>(rows: &[Row]) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).expect("rows are flat");
    }
    writer.into_inner().expect("memory does not fail")
}

/// Appends rows: when this returns, all of them are on disk, or none.
pub(super) fn append<Row: Serialize>(file: &mut File, path: &Path, rows: &[Row]) -> Result<()> {
    crate::files::append(file, path, &records(rows))
}
