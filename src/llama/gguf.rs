//! What kvllama reads of a GGUF itself: before llama.cpp loads it, values with which llama.cpp would compute without end,
//! crash, or stop at an assertion (everything else about a file is llama.cpp's to refuse); later the table of its tensors.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

/// Checks the metadata of a file that starts with `GGUF`. `Err` is the end of a sentence about the file.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    let broken = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "it ends within its metadata".to_owned(),
        _ => format!("its metadata cannot be read: {error}"),
    };
    let file = File::open(path).map_err(broken)?;
    let size = file.metadata().map_err(broken)?.len();
    match Reader::new(file, size).metadata() {
        Ok(result) => result,
        Err(error) => Err(broken(error)),
    }
}

/// Where a tensor's data are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of its ggml type.
    pub kind: u32,
    /// Numbers of elements, of the dimension that is contiguous first.
    pub shape: Vec<u64>,
    /// Bytes before its data, from the beginning of the file on.
    pub start: u64,
}

/// The tensors of a GGUF of `size` bytes, by name.
///
/// # Errors
/// If the file cannot be read, or is broken.
pub(super) fn tensors(file: impl Read + Seek, size: u64) -> std::io::Result<HashMap<String, Place>> {
    /// More dimensions than this has no tensor of ggml.
    const MOST_DIMENSIONS: u32 = 4;
    let mut reader = Reader::new(file, size);
    reader.metadata()?.map_err(std::io::Error::other)?;
    let mut places = HashMap::new();
    for _ in 0..reader.n_tensors {
        let name = String::from_utf8_lossy(&reader.text()?).into_owned();
        let dimensions = reader.u32()?;
        if dimensions > MOST_DIMENSIONS {
            return Err(std::io::Error::other(format!("its tensor `{name}` has {dimensions} dimensions")));
        }
        let shape = (0..dimensions).map(|_| reader.u64()).collect::<std::io::Result<_>>()?;
        places.insert(name, Place { kind: reader.u32()?, shape, start: reader.u64()? });
    }
    let data = (size - reader.left).next_multiple_of(reader.alignment);
    places.values_mut().for_each(|place| place.start = place.start.saturating_add(data));
    Ok(places)
}

/// A value, as far as it is checked.
enum Value {
    Number(f64),
    /// Texts of an array.
    Texts(Vec<Vec<u8>>),
    Other,
}

struct Reader<R> {
    file: BufReader<R>,
    /// Bytes of the file that were not read yet.
    left: u64,
    n_tensors: u64,
    /// The data of tensors begin at multiples of this.
    alignment: u64,
}

const TEXT: u32 = 8;
const ARRAY: u32 = 9;
/// More fields than this has no file; a larger count is a broken one.
const MOST_FIELDS: u64 = 1 << 20;

impl<R: Read + Seek> Reader<R> {
    fn new(file: R, size: u64) -> Self {
        Reader { file: BufReader::with_capacity(1 << 20, file), left: size, n_tensors: 0, alignment: 32 }
    }

    fn metadata(&mut self) -> std::io::Result<Result<(), String>> {
        self.bytes(4)?;
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            return Ok(Err(format!("its GGUF version is {version}, and versions 2 and 3 can be read")));
        }
        self.n_tensors = self.u64()?;
        let n_fields = self.u64()?;
        if n_fields > MOST_FIELDS {
            return Ok(Err(format!("it claims to have {n_fields} metadata fields")));
        }
        for _ in 0..n_fields {
            let key = String::from_utf8_lossy(&self.text()?).into_owned();
            let kind = self.u32()?;
            let value = self.value(kind, &key)?;
            if let ("general.alignment", Value::Number(alignment)) = (key.as_str(), &value) {
                self.alignment = (*alignment as u64).max(1);
            }
            if let Err(what) = check_field(&key, &value) {
                return Ok(Err(what));
            }
        }
        Ok(Ok(()))
    }

    fn value(&mut self, kind: u32, key: &str) -> std::io::Result<Value> {
        Ok(match kind {
            0 | 7 => Value::Number(f64::from(self.bytes(1)?[0])),
            1 => Value::Number(f64::from(self.bytes(1)?[0] as i8)),
            2 | 3 => Value::Number(f64::from(u16::from_le_bytes(self.array()?))),
            4 => Value::Number(f64::from(self.u32()?)),
            5 => Value::Number(f64::from(self.u32()? as i32)),
            6 => Value::Number(f64::from(f32::from_le_bytes(self.array()?))),
            TEXT => {
                self.text()?;
                Value::Other
            }
            ARRAY => {
                let (of, count) = (self.u32()?, self.u64()?);
                match of {
                    TEXT if key == TOKENS => {
                        // Each text takes at least its length.
                        let mut texts = Vec::with_capacity(usize::try_from(count.min(self.left / 8)).unwrap_or(0));
                        for _ in 0..count {
                            texts.push(self.text()?);
                        }
                        Value::Texts(texts)
                    }
                    TEXT => {
                        for _ in 0..count {
                            let length = self.u64()?;
                            self.skip(length)?;
                        }
                        Value::Other
                    }
                    _ => {
                        let length = width(of).and_then(|width| count.checked_mul(width));
                        self.skip(length.ok_or(std::io::ErrorKind::UnexpectedEof)?)?;
                        Value::Other
                    }
                }
            }
            10..=12 => {
                self.bytes(8)?;
                Value::Other
            }
            _ => return Err(std::io::Error::other(format!("`{key}` has the unknown type {kind}"))),
        })
    }

    fn text(&mut self) -> std::io::Result<Vec<u8>> {
        let length = self.u64()?;
        self.bytes(length)
    }

    fn bytes(&mut self, length: u64) -> std::io::Result<Vec<u8>> {
        self.take(length)?;
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| std::io::ErrorKind::UnexpectedEof)?];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self, length: u64) -> std::io::Result<()> {
        self.take(length)?;
        self.file.seek_relative(i64::try_from(length).map_err(|_| std::io::ErrorKind::UnexpectedEof)?)
    }

    fn take(&mut self, length: u64) -> std::io::Result<()> {
        self.left = self.left.checked_sub(length).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> std::io::Result<[u8; N]> {
        self.take(N as u64)?;
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> std::io::Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> std::io::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

/// Bytes of an array's element.
fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

const TOKENS: &str = "tokenizer.ggml.tokens";

/// The last part of a hyperparameter's key, and the least and the largest value it may have.
const RANGES: [(&str, f64, f64); 12] = [
    (".block_count", 1.0, 4096.0),
    (".context_length", 1.0, 1e9),
    (".embedding_length", 1.0, 1e6),
    (".attention.head_count", 0.0, 65_536.0),
    (".attention.key_length", 1.0, 65_536.0),
    (".attention.value_length", 1.0, 65_536.0),
    (".attention.sliding_window", 0.0, 1e9),
    (".attention.layer_norm_rms_epsilon", 0.0, 1.0),
    (".rope.dimension_count", 2.0, 65_536.0),
    (".rope.freq_base", 1e-6, 1e15),
    (".rope.freq_base_swa", 1e-6, 1e15),
    (".rope.scaling.factor", 1e-6, 1e6),
];

fn check_field(key: &str, value: &Value) -> Result<(), String> {
    match value {
        Value::Number(number) => {
            let range = RANGES.iter().find(|(end, ..)| key.ends_with(end));
            match range {
                Some((_, least, most)) if !(*least..=*most).contains(number) => {
                    Err(format!("its `{key}` is {number}, and must lie between {least} and {most}"))
                }
                _ => Ok(()),
            }
        }
        Value::Texts(texts) => {
            let mut seen = HashSet::with_capacity(texts.len());
            if texts.is_empty() {
                return Err("its vocabulary is empty".to_owned());
            }
            match texts.iter().position(|text| !seen.insert(text.as_slice())) {
                Some(at) => Err(format!(
                    "its vocabulary has the token \"{}\" twice",
                    String::from_utf8_lossy(&texts[at]).escape_debug().take(40).collect::<String>()
                )),
                None => Ok(()),
            }
        }
        Value::Other => Ok(()),
    }
}
