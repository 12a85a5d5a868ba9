//! Scores IFEval's own files, offline, for the responses of any model.
//!
//! A line of responses is `{key, prompt, instruction_id_list, kwargs, response}`. If it lacks the instructions, a
//! second file, the prompts, supplies them by `key` or else by `prompt`.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Checker;
use crate::{Error, Result, files};

/// A response and the instructions it should follow.
pub struct Item {
    key: Value,
    instructions: Vec<Checker>,
    response: String,
}

/// The verdicts on one response: a line of the output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scored {
    /// The key of the item, unchanged.
    pub key: Value,
    /// Whether every instruction is followed, strictly.
    pub follow_all_strict: bool,
    /// Whether each instruction is followed, in the order of `instruction_id_list`.
    pub follow_list_strict: Vec<bool>,
    /// Whether every instruction is followed, loosely.
    pub follow_all_loose: bool,
    /// Whether each instruction is followed, in the order of `instruction_id_list`.
    pub follow_list_loose: Vec<bool>,
}

/// IFEval's four accuracies: of prompts with all instructions followed, and of instructions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Accuracies {
    /// Number of scored responses.
    pub prompts: usize,
    /// Number of instructions in them.
    pub instructions: usize,
    /// Share of prompts with all instructions followed, strict.
    pub prompt_strict: f64,
    /// Share of instructions followed, strict.
    pub instruction_strict: f64,
    /// Share of prompts with all instructions followed, loose.
    pub prompt_loose: f64,
    /// Share of instructions followed, loose.
    pub instruction_loose: f64,
}

#[derive(Deserialize)]
struct Line {
    key: Option<Value>,
    prompt: Option<String>,
    instruction_id_list: Option<Vec<String>>,
    kwargs: Option<Vec<Option<Map<String, Value>>>>,
    response: Option<String>,
}

/// Reads a file of responses, and a file of prompts if the responses lack the instructions.
pub fn read(responses: &Path, prompts: Option<&Path>) -> Result<Vec<Item>> {
    let prompts = prompts.map(Prompts::read).transpose()?.unwrap_or_default();
    let items: Vec<Item> = lines(responses)?
        .into_iter()
        .map(|(at, line)| item(line, &prompts).map_err(in_line(&at)))
        .collect::<Result<_>>()?;
    if items.is_empty() {
        return Err(Error::input(format!("{} holds no responses", responses.display())));
    }
    Ok(items)
}

fn item(line: Line, prompts: &Prompts) -> Result<Item> {
    let source = if line.instruction_id_list.is_some() { Some(&line) } else { prompts.find(&line) };
    let source = source.ok_or_else(|| match prompts.lines.is_empty() {
        true => Error::input("`instruction_id_list` is missing; give the file that has it with `--prompts`"),
        false => {
            Error::input("`instruction_id_list` is missing, and the prompts have neither its `key` nor its `prompt`")
        }
    })?;
    let instructions = instructions(source)?;
    let key = line.key.clone().or_else(|| source.key.clone()).ok_or_else(|| Error::input("`key` is missing"))?;
    let response = line.response.ok_or_else(|| Error::input("`response` is missing"))?;
    Ok(Item { key, instructions, response })
}

fn instructions(line: &Line) -> Result<Vec<Checker>> {
    let kinds = line.instruction_id_list.as_deref().unwrap_or_default();
    let kwargs = line.kwargs.as_deref().unwrap_or_default();
    if kinds.is_empty() || kinds.len() != kwargs.len() {
        return Err(Error::input(format!(
            "`instruction_id_list` has {} entries and `kwargs` {}; they must be as many, and at least one",
            kinds.len(),
            kwargs.len()
        )));
    }
    let empty = Map::new();
    kinds.iter().zip(kwargs).map(|(kind, kwargs)| Checker::new(kind, kwargs.as_ref().unwrap_or(&empty))).collect()
}

/// The lines of a prompts file, by key and by prompt.
#[derive(Default)]
struct Prompts {
    lines: Vec<Line>,
    by_key: HashMap<String, usize>,
    by_prompt: HashMap<String, usize>,
}

impl Prompts {
    fn read(path: &Path) -> Result<Self> {
        let mut prompts = Prompts::default();
        for (at, line) in lines(path)? {
            if line.instruction_id_list.is_none() {
                return Err(in_line(&at)(Error::input("`instruction_id_list` is missing")));
            }
            let index = prompts.lines.len();
            let keys = line.key.as_ref().map(|key| prompts.by_key.insert(key.to_string(), index));
            let texts = line.prompt.as_ref().map(|prompt| prompts.by_prompt.insert(prompt.clone(), index));
            if keys.flatten().or(texts.flatten()).is_some() {
                return Err(in_line(&at)(Error::input("an earlier line has the same `key` or `prompt`")));
            }
            prompts.lines.push(line);
        }
        Ok(prompts)
    }

    fn find(&self, line: &Line) -> Option<&Line> {
        let by_key = line.key.as_ref().and_then(|key| self.by_key.get(&key.to_string()));
        let index = by_key.or_else(|| self.by_prompt.get(line.prompt.as_ref()?))?;
        Some(&self.lines[*index])
    }
}

/// The lines of a JSONL file that are not blank, each with its file and line number for messages.
fn lines(path: &Path) -> Result<Vec<(String, Line)>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| Error::input(format!("cannot read {name}: {error}")))?;
    let lines = text.split('\n').enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            let at = format!("{name} line {}", index + 1);
            let line = serde_json::from_str(line).map_err(|error| Error::input(format!("{at}: {error}")))?;
            Ok((at, line))
        })
        .collect()
}

fn in_line(at: &str) -> impl FnOnce(Error) -> Error {
    move |error| Error::input(format!("{at}: {error}"))
}

/// Scores every response.
pub fn score(items: &[Item]) -> Vec<Scored> {
    items
        .iter()
        .map(|item| {
            let verdicts = item.instructions.iter().map(|instruction| instruction.check(&item.response));
            let (strict, loose): (Vec<bool>, Vec<bool>) =
                verdicts.map(|verdict| (verdict.strict, verdict.loose)).unzip();
            Scored {
                key: item.key.clone(),
                follow_all_strict: !strict.contains(&false),
                follow_list_strict: strict,
                follow_all_loose: !loose.contains(&false),
                follow_list_loose: loose,
            }
        })
        .collect()
}

/// Writes the verdicts as JSONL, completely or not at all.
pub fn write(path: &Path, scored: &[Scored]) -> Result<()> {
    let lines = scored.iter().map(|line| serde_json::to_string(line).expect("plain data") + "\n");
    files::write_atomically(path, lines.collect::<String>().as_bytes())
}

impl Accuracies {
    /// Computes the accuracies over all verdicts.
    pub fn of(scored: &[Scored]) -> Self {
        Accuracies {
            prompts: scored.len(),
            instructions: scored.iter().map(|line| line.follow_list_strict.len()).sum(),
            prompt_strict: share(scored.iter().map(|line| line.follow_all_strict)),
            instruction_strict: share(scored.iter().flat_map(|line| line.follow_list_strict.iter().copied())),
            prompt_loose: share(scored.iter().map(|line| line.follow_all_loose)),
            instruction_loose: share(scored.iter().flat_map(|line| line.follow_list_loose.iter().copied())),
        }
    }
}

fn share(flags: impl Iterator<Item = bool>) -> f64 {
    let flags: Vec<bool> = flags.collect();
    flags.iter().filter(|flag| **flag).count() as f64 / flags.len().max(1) as f64
}
