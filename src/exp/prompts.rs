//! `prompts.jsonl`: the prompts of a run as the model read them, one line per example.
//!
//! Rows give evicted positions as numbers; with this file the words at these positions can be shown.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::questions;
use crate::data::{Example, Instruction};
use crate::llama::Prompt;
use crate::span::Span;
use crate::{Error, Result};

/// The prompts of a run, one per example.
pub const PROMPTS: &str = "prompts.jsonl";

/// The prompt of one example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromptRow {
    /// The example's id.
    pub example_id: String,
    /// The text of each token; together they are the prompt, in a chat what the model reads in all turns, without its
    /// answers. A character that spans several tokens is in the last of them.
    pub pieces: Vec<String>,
    /// Labelled ranges over `pieces`.
    pub spans: Vec<Span>,
    /// In a chat the index in `pieces` at which the text of each turn begins; the answer to a turn stands before the
    /// text of the next one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<usize>,
    /// With several questions the index in `pieces` at which each begins; what stands before the first of them is shared,
    /// and the prompt of a question is that and its own part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub questions: Vec<usize>,
    /// The example's instructions, in the order of the label `instruction:<i>`.
    pub instructions: Vec<Instruction>,
}

impl PromptRow {
    /// Describes what the model reads for each answer: `texts` as [`texts_of`](super::texts_of) gives them.
    pub fn new(example: &Example, texts_of_example: &[Prompt]) -> Self {
        if !example.questions.is_empty() {
            let (whole, starts) = questions::laid_out(texts_of_example);
            return PromptRow {
                example_id: example.id.clone(),
                pieces: texts(&whole.pieces),
                spans: whole.spans,
                turns: Vec::new(),
                questions: starts,
                instructions: example.instructions.clone(),
            };
        }
        let mut whole = Prompt::default();
        let mut starts = Vec::new();
        for text in texts_of_example {
            starts.push(whole.tokens.len());
            whole.extend(text);
        }
        PromptRow {
            example_id: example.id.clone(),
            pieces: texts(&whole.pieces),
            spans: whole.spans,
            turns: if starts.len() > 1 { starts } else { Vec::new() },
            questions: Vec::new(),
            instructions: example.instructions.clone(),
        }
    }
}

/// Writes the prompts into a run directory atomically; prompts of other examples in the file stay.
pub fn write_prompts(directory: &Path, rows: &[PromptRow]) -> Result<()> {
    let new: HashSet<_> = rows.iter().map(|row| row.example_id.as_str()).collect();
    let mut earlier = read_prompts(directory)?.unwrap_or_default();
    earlier.retain(|row| !new.contains(row.example_id.as_str()));
    let mut text = String::new();
    for row in earlier.iter().chain(rows) {
        text.push_str(&serde_json::to_string(row).expect("plain data"));
        text.push('\n');
    }
    let path = directory.join(PROMPTS);
    if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(()); // a finished run can be run again where nothing can be written
    }
    crate::files::write_atomically(&path, text.as_bytes())
}

/// Reads the prompts of a run directory; `None` if it holds none.
pub fn read_prompts(directory: &Path) -> Result<Option<Vec<PromptRow>>> {
    let path = directory.join(PROMPTS);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("cannot read", &path))?,
    };
    let rows = text.lines().enumerate().map(|(index, line)| {
        serde_json::from_str(line).map_err(|error| {
            Error::input(format!(
                "{}:{}: not a prompt of this version of kvllama: {error}; move the file away to do without it",
                path.display(),
                index + 1
            ))
        })
    });
    rows.collect::<Result<_>>().map(Some)
}

/// The instructions of a run's examples, by example id: needed to score or judge the run again.
///
/// # Errors
/// If the run was made by a version of kvllama that did not write them.
pub fn instructions_of(directory: &Path) -> Result<HashMap<String, Vec<Instruction>>> {
    let rows = read_prompts(directory)?.ok_or_else(|| {
        Error::input(format!(
            "{0}/{PROMPTS} is missing; run the `exp` command of this run once more with --out {0}, and it is written",
            directory.display()
        ))
    })?;
    Ok(rows.into_iter().map(|row| (row.example_id, row.instructions)).collect())
}

/// Converts bytes to text, piece by piece; the bytes of an unfinished character move to the piece that completes it.
fn texts(pieces: &[Vec<u8>]) -> Vec<String> {
    let mut waiting: Vec<u8> = Vec::new();
    let mut texts: Vec<String> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        waiting.extend_from_slice(piece);
        let whole = waiting.len() - unfinished(&waiting);
        texts.push(String::from_utf8_lossy(&waiting[..whole]).into_owned());
        waiting.drain(..whole);
    }
    if let Some(last) = texts.last_mut() {
        last.push_str(&String::from_utf8_lossy(&waiting));
    }
    texts
}

/// Number of bytes at the end that belong to an unfinished character.
fn unfinished(bytes: &[u8]) -> usize {
    let mut end = 0;
    for chunk in bytes.utf8_chunks() {
        let invalid = chunk.invalid();
        end += chunk.valid().len() + invalid.len();
        if end == bytes.len() && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none()) {
            return invalid.len();
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_split_over_tokens_come_back_whole() {
        let piece = |bytes: &[u8]| bytes.to_vec();
        let euro = "€".as_bytes();
        assert_eq!(texts(&[piece(b"a"), piece(&euro[..1]), piece(&euro[1..]), piece(b"b")]), ["a", "", "€", "b"]);
        assert_eq!(texts(&[piece(&[0xff]), piece(&euro[..2])]), ["\u{fffd}", "\u{fffd}"], "broken bytes stay visible");
        assert_eq!(texts(&[piece(&euro[..2]), piece(b"x")]), ["", "\u{fffd}x"]);
    }

    #[test]
    fn writing_again_replaces_and_keeps_the_rest() {
        let directory = tempfile::tempdir().unwrap();
        let row = |id: &str, piece: &str| PromptRow {
            example_id: id.into(),
            pieces: vec![piece.into()],
            spans: vec![Span { label: crate::span::Label::Instruction(2), start: 0, end: 1 }],
            turns: Vec::new(),
            questions: Vec::new(),
            instructions: Vec::new(),
        };
        assert_eq!(read_prompts(directory.path()).unwrap(), None);
        write_prompts(directory.path(), &[row("a", "1"), row("b", "1")]).unwrap();
        write_prompts(directory.path(), &[row("b", "2\n"), row("c", "2")]).unwrap();
        assert_eq!(read_prompts(directory.path()).unwrap().unwrap(), [row("a", "1"), row("b", "2\n"), row("c", "2")]);
    }
}
