//! IFEval, and IFEval with its instructions in a system message.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::{Example, Instruction, Message, statement};
use super::{Format, shown, user};
use crate::{Error, Result};

#[derive(Deserialize)]
pub(super) struct Line {
    key: Value,
    prompt: String,
    instruction_id_list: Vec<String>,
    kwargs: Vec<Option<Map<String, Value>>>,
    messages: Option<Vec<Message>>,
}

pub(super) fn example(line: Line, format: &Format) -> Result<Example> {
    if line.instruction_id_list.len() != line.kwargs.len() {
        return Err(Error::input(format!(
            "`instruction_id_list` has {} entries and `kwargs` {}; they must be as many",
            line.instruction_id_list.len(),
            line.kwargs.len()
        )));
    }
    let mut instructions: Vec<Instruction> =
        line.instruction_id_list.into_iter().zip(line.kwargs).map(|(kind, kwargs)| instruction(kind, kwargs)).collect();
    let (messages, question, origin) = match format {
        Format::SysIfeval { .. } => {
            let messages = line.messages.ok_or_else(|| Error::input("`messages` is missing"))?;
            let question = messages.last().map(|message| message.content.clone());
            let origin =
                "IFEval with system prompts (The Pitfalls of KV Cache Compression, arXiv 2510.00231), from IFEval";
            (messages, question, origin)
        }
        _ => (user(line.prompt), None, "IFEval (Zhou et al. 2023, arXiv 2311.07911)"),
    };
    // In both formats, the first message states the instructions.
    if let Some(first) = messages.first() {
        let spans = statement::find(&first.content, &instructions);
        for (instruction, span) in instructions.iter_mut().zip(spans) {
            instruction.text = span.map(|span| first.content[span].to_owned());
        }
    }
    let source = json!({"set": origin, "key": line.key});
    let id = format!("{}-{}", format.name(), shown(&line.key));
    let questions = Vec::new();
    Ok(Example { id, messages, instructions, questions, context: None, question, source: Some(source) })
}

fn instruction(kind: String, kwargs: Option<Map<String, Value>>) -> Instruction {
    let mut kwargs = kwargs.unwrap_or_default();
    kwargs.retain(|_, value| !value.is_null());
    Instruction { kind, kwargs, rubric: None, text: None, turn: None }
}
