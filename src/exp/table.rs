//! CSV files that grow at their end: rows appended whole, read back strictly.
//!
//! What the end of the file cut off is dropped; anything else that is no row of ours is refused with its line, and the
//! file stays as it is.

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

/// Makes the file with its header, or checks that the one there is ours.
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

/// Checks that a file's columns are ours, in any order: an older version may have written fewer of them.
pub(crate) fn check_columns<Row: Serialize + Default>(path: &Path) -> Result<()> {
    /// Without these a row is of no trial.
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

/// Cuts off a last record that is not whole, and says whether there was one.
pub(super) fn drop_torn_line<Row: DeserializeOwned>(path: &Path) -> Result<bool> {
    cut(path, inspect(path, |_: Row| ())?)
}

pub(super) fn cut(path: &Path, torn_at: Option<u64>) -> Result<bool> {
    let Some(whole) = torn_at else { return Ok(false) };
    let file = OpenOptions::new().write(true).open(path).map_err(Error::io("cannot open", path))?;
    file.set_len(whole).and_then(|()| file.sync_all()).map_err(Error::io("cannot repair", path))?;
    Ok(true)
}

/// Shows every whole row to `visit`; tells where a torn last record begins, if there is one. Changes nothing.
///
/// # Errors
/// If anything else than the end of the file is not a row: what only the end cut is ours to drop, all else is not.
pub(crate) fn inspect<Row: DeserializeOwned>(path: &Path, mut visit: impl FnMut(Row)) -> Result<Option<u64>> {
    let io = || Error::io("cannot read", path);
    refuse_irregular(path)?;
    let mut file = File::open(path).map_err(io())?;
    let length = file.metadata().map_err(io())?.len();
    // Another process may append meanwhile; what it appends is not looked at.
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
    // Our quotes come in pairs, so an odd number is an open cell, and a line feed in it is text.
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

/// Columns whose cells may hold a line feed: only there may the end of the file cut right behind one.
const TEXTS: [&str; 4] = ["example_id", "response", "judge_reason", "error"];

/// Lines end as we end them: what a spreadsheet has saved anew is not ours to go on with.
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
    Error::input(format!("{} is not the CSV of a run: {error}", path.display()))
}

pub(super) fn scan<Row: DeserializeOwned>(path: &Path, mut visit: impl FnMut(Row)) -> Result<()> {
    let mut reader = csv::Reader::from_path(path).map_err(|error| unreadable(path, &error))?;
    for row in reader.deserialize() {
        visit(row.map_err(|error| unreadable(path, &error))?);
    }
    Ok(())
}

/// Rewrites a file without the rows that `keep` refuses; the others stay as they are written.
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

/// Writes header and rows in place of what the file holds, whole or not at all.
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

/// Appends rows: all of them are on the disk when this returns, or none.
pub(super) fn append<Row: Serialize>(file: &mut File, path: &Path, rows: &[Row]) -> Result<()> {
    crate::files::append(file, path, &records(rows))
}
