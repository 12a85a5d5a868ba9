//! Imports published data sets as examples, with one file per family.

mod attacked;
mod evidence;
mod grouped;
mod ifeval;
mod longbench;
mod ruler;

pub use attacked::{Ask, Attack, Attacked, Defence, Order, Place, attacks, defence};

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::load::check;
use super::recall::Style;
use super::{Example, Message, Role};
use crate::{Error, Result};

/// The format of a published data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// IFEval's `input_data.jsonl`: `{key, prompt, instruction_id_list, kwargs}`.
    Ifeval,
    /// The same with `messages`, a system and a user turn: the instructions are in the system turn.
    SysIfeval {
        /// How the system turn is defended and attacked, if it is.
        attacked: Option<Attacked>,
    },
    /// RULER, and other needles in haystacks: `{input}` or `{context, question}`, and `outputs`.
    Ruler {
        /// The form of the prompt.
        style: Style,
        /// The task of lines that do not name one.
        task: Option<String>,
    },
    /// LongBench's English question answering and summaries: `{input, context, answers, dataset}`.
    Longbench {
        /// The form of the prompt.
        style: Style,
    },
}

impl Format {
    /// The prefix of its example ids.
    pub fn name(&self) -> &'static str {
        match self {
            Format::Ifeval => "ifeval",
            Format::SysIfeval { .. } => "sys-ifeval",
            Format::Ruler { .. } => "ruler",
            Format::Longbench { .. } => "longbench",
        }
    }

    /// Reads the line with that number as an example.
    fn example(&self, line: &str, number: usize) -> Result<Example> {
        let example = match self {
            Format::Ifeval | Format::SysIfeval { attacked: None } => ifeval::example(self.read(line)?, self),
            Format::SysIfeval { attacked: Some(attacked) } => {
                ifeval::example(self.read(line)?, self).and_then(|example| attacked.apply(example, number - 1))
            }
            Format::Ruler { style, task } => ruler::example(self.read(line)?, number, *style, task.as_deref()),
            Format::Longbench { style } => longbench::example(self.read(line)?, number, *style),
        }?;
        check(&example)?;
        Ok(example)
    }

    fn read<Line: serde::de::DeserializeOwned>(&self, line: &str) -> Result<Line> {
        serde_json::from_str(line).map_err(|error| Error::input(format!("not a line of {}: {error}", self.name())))
    }
}

/// Reads a published file as examples. With `grouped`, lines about the same context become one example with several
/// questions.
///
/// # Errors
/// Names the file, the line and what is wrong with it.
pub fn import(path: &Path, format: Format, grouped: bool) -> Result<Vec<Example>> {
    let examples = parse(&super::load::read(path)?, &path.display().to_string(), &format)?;
    if !grouped {
        return Ok(examples);
    }
    let examples = grouped::by_context(examples);
    let checked = |example: &Example| {
        check(example).map_err(|error| Error::input(format!("{}, example `{}`: {error}", path.display(), example.id)))
    };
    examples.iter().try_for_each(checked)?;
    Ok(examples)
}

fn parse(text: &str, name: &str, format: &Format) -> Result<Vec<Example>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let numbered = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let mut first_seen: HashMap<String, usize> = HashMap::new();
    let examples = numbered.map(|(number, line)| {
        let example =
            format.example(line, number).and_then(|example| match first_seen.insert(example.id.clone(), number) {
                Some(line) => Err(Error::input(format!("the id `{}` is already taken by line {line}", example.id))),
                None => Ok(example),
            });
        example.map_err(|error| Error::input(format!("{name}, line {number}: {error}")))
    });
    examples.collect()
}

/// A key of any JSON type as text, for an id.
fn shown(key: &Value) -> String {
    match key {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// One user turn.
fn user(content: String) -> Vec<Message> {
    vec![Message { role: Role::User, content }]
}

#[cfg(test)]
mod tests;
