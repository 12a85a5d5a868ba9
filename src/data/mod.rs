//! Data sets: prompts for the model, and what their answers are checked for.
//!
//! A data set is JSONL, one [`Example`] per line. [`load`] reads and validates a file; [`bundled`] has the sets that
//! are part of the binary.

pub mod bundled;
pub mod chats;
mod cues;
pub mod generate;
mod import;
mod load;
mod near;
mod questions;
pub mod recall;
mod statement;
mod survey;
mod turns;

pub use import::{Ask, Attack, Attacked, Defence, Format, Order, Place, attacks, defence, import};
pub(crate) use load::read;
pub use load::{load, parse};
pub use survey::{BadLine, Spread, Survey, Warning, survey};
pub use turns::Turns;

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The `type` of an instruction that only a judge can score.
pub const RUBRIC: &str = "rubric";

/// One item of a data set: a conversation and the instructions in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "questions::Line", into = "questions::Line")]
pub struct Example {
    /// Unique within its data set; part of the key of every trial.
    pub id: String,
    /// System, user and assistant messages, in order. The last is the user's, unless there are `questions`. The model
    /// answers every user message that no assistant message follows: see [`Example::answered`].
    pub messages: Vec<Message>,
    /// The checkable demands; at least one. Those of a question have its number as their `turn`.
    pub instructions: Vec<Instruction>,
    /// Questions that share the messages and are answered independently of each other; see [`Example::asked`].
    pub questions: Vec<String>,
    /// Background for the answer, verbatim from a message.
    pub context: Option<String>,
    /// The request itself without its instructions, verbatim from a message.
    pub question: Option<String>,
    /// The origin of the example, in any form; never interpreted.
    pub source: Option<Value>,
}

/// One message of the conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks in this message.
    pub role: Role,
    /// The plain text of the message.
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
    /// The name of a rule (`keywords:existence`), or [`RUBRIC`].
    #[serde(rename = "type", default = "rubric")]
    pub kind: String,
    /// The rule's parameters, as IFEval names them.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub kwargs: Map<String, Value>,
    /// A criterion for a judge, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rubric: Option<String>,
    /// The words of a message that state the demand, verbatim; their tokens are the instruction's span.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The turns on whose answers it is checked; see [`Example::turns_of`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Turns>,
}

fn rubric() -> String {
    RUBRIC.to_owned()
}

impl Example {
    /// The first place of a piece of text: the index of the message, and the byte range of its content.
    pub fn locate(&self, text: &str) -> Option<(usize, Range<usize>)> {
        if text.is_empty() {
            return None;
        }
        self.messages.iter().enumerate().find_map(|(index, message)| {
            let start = message.content.find(text)?;
            Some((index, start..start + text.len()))
        })
    }

    /// Number of places where a piece of text occurs.
    pub(crate) fn places(&self, text: &str) -> usize {
        self.messages.iter().map(|message| message.content.matches(text).count()).sum()
    }
}
