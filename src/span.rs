//! Spans: half-open token ranges of a rendered prompt with a label, such as `system` or `instruction:0`.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What the tokens of a [`Span`] are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Label {
    /// The beginning-of-sequence token.
    Bos,
    /// What the chat template adds: turn markers, role names.
    Template,
    /// The text of a system message.
    System,
    /// The text of a user message.
    User,
    /// The text of an earlier answer in a dialogue.
    Assistant,
    /// The text of instruction `i` of the example.
    Instruction(usize),
    /// Background the answer may draw on.
    Context,
    /// The request itself.
    Question,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Label::Bos => f.write_str("bos"),
            Label::Template => f.write_str("template"),
            Label::System => f.write_str("system"),
            Label::User => f.write_str("user"),
            Label::Assistant => f.write_str("assistant"),
            Label::Instruction(index) => write!(f, "instruction:{index}"),
            Label::Context => f.write_str("context"),
            Label::Question => f.write_str("question"),
        }
    }
}

impl FromStr for Label {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "bos" => Label::Bos,
            "template" => Label::Template,
            "system" => Label::System,
            "user" => Label::User,
            "assistant" => Label::Assistant,
            "context" => Label::Context,
            "question" => Label::Question,
            other => match other.strip_prefix("instruction:").and_then(|index| index.parse().ok()) {
                Some(index) => Label::Instruction(index),
                None => return Err(Error::input(format!("`{other}` is not the label of a span"))),
            },
        })
    }
}

impl TryFrom<String> for Label {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.to_string()
    }
}

/// A labelled half-open range of token positions, such as `instruction:0` over 21..29. Spans may overlap: an
/// instruction lies inside a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// What the tokens are.
    pub label: Label,
    /// First position.
    pub start: usize,
    /// One past the last position.
    pub end: usize,
}

impl Span {
    /// The positions as a range.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// The distinct labels of `spans`, in the order in which they first appear.
pub fn labels(spans: &[Span]) -> Vec<Label> {
    let mut seen = Vec::new();
    for span in spans {
        if !seen.contains(&span.label) {
            seen.push(span.label);
        }
    }
    seen
}
