//! Examples: what is asked of the model, and what the answer is checked against.
//!
//! A data set is JSONL, one [`Example`] a line. [`load`] reads and validates a
//! file, [`bundled`] the sets that travel inside the binary.

pub mod bundled;
mod cues;
pub mod generate;
mod import;
mod load;
mod near;
pub mod recall;
mod statement;
mod survey;

pub use import::{Format, import};
pub(crate) use load::read;
pub use load::{load, parse};
pub use survey::{BadLine, Spread, Survey, Warning, survey};

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The `type` of an instruction that only a judge can score.
pub const RUBRIC: &str = "rubric";

/// One item of a data set: a conversation, and the instructions in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// Unique within its data set; part of the key of every trial.
    pub id: String,
    /// System and user (and, in a dialogue, assistant) turns, in order. The last is the user's.
    pub messages: Vec<Message>,
    /// The checkable demands, at least one.
    pub instructions: Vec<Instruction>,
    /// A verbatim piece of a message: background the answer may draw on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// A verbatim piece of a message: the request itself, without its instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// Where the example came from; free form, never interpreted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Value>,
}

/// One turn of the conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, as plain text.
    pub content: String,
}

/// Who speaks in a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The system prompt.
    System,
    /// The person.
    User,
    /// The model, in an earlier turn.
    Assistant,
}

impl Role {
    /// The name chat templates use.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// One checkable demand of an [`Example`]: a rule, a rubric, or both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instruction {
    /// A rule's name (`keywords:existence`), or [`RUBRIC`].
    #[serde(rename = "type", default = "rubric")]
    pub kind: String,
    /// The rule's parameters, as IFEval names them.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub kwargs: Map<String, Value>,
    /// A criterion for a judge, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rubric: Option<String>,
    /// The demand as it stands in a message, verbatim: its span in the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

fn rubric() -> String {
    RUBRIC.to_owned()
}

impl Example {
    /// Where a verbatim piece of text stands first: the index of the message, and the bytes of its content.
    pub fn locate(&self, text: &str) -> Option<(usize, Range<usize>)> {
        if text.is_empty() {
            return None;
        }
        self.messages.iter().enumerate().find_map(|(index, message)| {
            let start = message.content.find(text)?;
            Some((index, start..start + text.len()))
        })
    }

    /// In how many places a piece of text stands.
    pub(crate) fn places(&self, text: &str) -> usize {
        self.messages.iter().map(|message| message.content.matches(text).count()).sum()
    }
}
