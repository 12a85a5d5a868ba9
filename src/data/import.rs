//! Published data sets as examples: IFEval, and IFEval with its instructions in a system message.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::load::check;
use super::{Example, Instruction, Message, Role, statement};
use crate::{Error, Result};

/// A data set that can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// IFEval's `input_data.jsonl`: `{key, prompt, instruction_id_list, kwargs}`.
    Ifeval,
    /// The same with `messages`, a system and a user turn: the instructions are in the system turn.
    SysIfeval,
}

impl Format {
    /// What the ids of its examples begin with.
    pub fn name(self) -> &'static str {
        match self {
            Format::Ifeval => "ifeval",
            Format::SysIfeval => "sys-ifeval",
        }
    }

    fn origin(self) -> &'static str {
        match self {
            Format::Ifeval => "IFEval (Zhou et al. 2023, arXiv 2311.07911)",
            Format::SysIfeval => {
                "IFEval with system prompts (The Pitfalls of KV Cache Compression, arXiv 2510.00231), from IFEval"
            }
        }
    }
}

#[derive(Deserialize)]
struct Line {
    key: Value,
    prompt: String,
    instruction_id_list: Vec<String>,
    kwargs: Vec<Option<Map<String, Value>>>,
    messages: Option<Vec<Message>>,
}

/// Reads a published file as examples.
///
/// # Errors
/// Names the file, the line and what is wrong with it.
pub fn import(path: &Path, format: Format) -> Result<Vec<Example>> {
    let text = super::load::read(path)?;
    let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let examples: Vec<Example> = numbered
        .map(|(index, line)| {
            example(line, format)
                .map_err(|error| Error::input(format!("{}, line {}: {error}", path.display(), index + 1)))
        })
        .collect::<Result<_>>()?;
    Ok(examples)
}

fn example(line: &str, format: Format) -> Result<Example> {
    let line: Line = serde_json::from_str(line)
        .map_err(|error| Error::input(format!("not a line of {}: {error}", format.name())))?;
    if line.instruction_id_list.len() != line.kwargs.len() {
        return Err(Error::input(format!(
            "`instruction_id_list` has {} entries and `kwargs` {}; they must be as many",
            line.instruction_id_list.len(),
            line.kwargs.len()
        )));
    }
    let mut instructions: Vec<Instruction> =
        line.instruction_id_list.into_iter().zip(line.kwargs).map(|(kind, kwargs)| instruction(kind, kwargs)).collect();
    let (messages, question) = match format {
        Format::Ifeval => (vec![Message { role: Role::User, content: line.prompt }], None),
        Format::SysIfeval => {
            let messages = line.messages.ok_or_else(|| Error::input("`messages` is missing"))?;
            let question = messages.last().map(|message| message.content.clone());
            (messages, question)
        }
    };
    // In both, the first message is the one that states the instructions.
    if let Some(first) = messages.first() {
        let spans = statement::find(&first.content, &instructions);
        for (instruction, span) in instructions.iter_mut().zip(spans) {
            instruction.text = span.map(|span| first.content[span].to_owned());
        }
    }
    let key = match &line.key {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let source = json!({"set": format.origin(), "key": line.key});
    let id = format!("{}-{key}", format.name());
    let example = Example { id, messages, instructions, context: None, question, source: Some(source) };
    check(&example)?;
    Ok(example)
}

fn instruction(kind: String, kwargs: Option<Map<String, Value>>) -> Instruction {
    let mut kwargs = kwargs.unwrap_or_default();
    kwargs.retain(|_, value| !value.is_null());
    Instruction { kind, kwargs, rubric: None, text: None }
}
