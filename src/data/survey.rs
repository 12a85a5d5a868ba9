//! Surveys a data set: what it holds, and everything that is wrong or doubtful.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::load::lines;
use super::near::{NEAR, Prompts, words};
use super::{Example, Role};

/// The contents of a data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Survey {
    /// Number of lines that are examples.
    pub examples: usize,
    /// Number of instructions in them.
    pub instructions: usize,
    /// Number of instructions with a `text`, the words of the prompt that state them.
    pub with_text: usize,
    /// Number of examples with a system turn.
    pub with_system: usize,
    /// Number of examples with more than one user message.
    pub dialogues: usize,
    /// Number of chats: of examples in which the model answers more than once.
    pub chats: usize,
    /// Turns of a chat: answers by the model.
    pub turns_per_chat: Spread,
    /// Number of examples with `questions`.
    pub with_questions: usize,
    /// Questions of such an example.
    pub questions_per_example: Spread,
    /// Number of instructions of each type.
    pub types: BTreeMap<String, usize>,
    /// Instructions per example.
    pub instructions_per_example: Spread,
    /// Words per prompt, all turns together.
    pub words_per_prompt: Spread,
    /// Lines that are not examples.
    pub errors: Vec<BadLine>,
    /// Valid, but probably a mistake.
    pub warnings: Vec<Warning>,
}

/// A line that is not an example.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub error: String,
}

/// The distribution of some numbers; all fields are 0 if there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Smallest number.
    pub min: usize,
    /// A quarter of the numbers is below.
    pub lower_quartile: usize,
    /// Half of the numbers are below.
    pub median: usize,
    /// A quarter of the numbers is above.
    pub upper_quartile: usize,
    /// Largest number.
    pub max: usize,
}

impl Spread {
    fn of(mut numbers: Vec<usize>) -> Self {
        numbers.sort_unstable();
        let at = |quarters: usize| numbers.get(numbers.len().saturating_sub(1) * quarters / 4).copied().unwrap_or(0);
        Spread { min: at(0), lower_quartile: at(1), median: at(2), upper_quartile: at(3), max: at(4) }
    }
}

/// Something valid that is probably a mistake.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "warning", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Warning {
    /// The survival of an instruction cannot be measured.
    NoText {
        /// The example.
        id: String,
        /// Counted from 0.
        instruction: usize,
        /// Its type.
        #[serde(rename = "type")]
        kind: String,
    },
    /// The text of an instruction occurs in several places; the first one is used.
    TextRepeated {
        /// The example.
        id: String,
        /// Counted from 0.
        instruction: usize,
        /// The text.
        text: String,
    },
    /// No instruction is checked on an answer of a chat, or on that to a question.
    Unchecked {
        /// The example.
        id: String,
        /// The turn, or the question, counted from 0.
        turn: usize,
    },
    /// Two prompts are nearly the same and hardly count as two examples.
    NearDuplicate {
        /// The later example.
        id: String,
        /// The most similar earlier example.
        of: String,
        /// The share of all their runs of five words that both have.
        share: f64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::NoText { id, instruction, kind } => {
                write!(f, "{id}: instruction {instruction} (`{kind}`) has no `text`; its survival cannot be measured")
            }
            Warning::TextRepeated { id, instruction, text } => write!(
                f,
                "{id}: the text of instruction {instruction} stands in several places, the first is taken: {text:?}"
            ),
            Warning::Unchecked { id, turn } => {
                write!(f, "{id}: no instruction is checked on answer {turn}, counted from 0")
            }
            Warning::NearDuplicate { id, of, share } => {
                write!(f, "{id}: nearly the same prompt as {of} ({:.0}% of their runs of five words)", 100.0 * share)
            }
        }
    }
}

/// Checks every line of a JSONL text.
pub fn survey(text: &str) -> Survey {
    let (mut examples, mut errors) = (Vec::new(), Vec::new());
    for (line, example) in lines(text) {
        match example {
            Ok(example) => examples.push(example),
            Err(error) => errors.push(BadLine { line, error: error.to_string() }),
        }
    }
    let mut types = BTreeMap::new();
    let instructions = || examples.iter().flat_map(|example| &example.instructions);
    for instruction in instructions() {
        *types.entry(instruction.kind.clone()).or_default() += 1;
    }
    let turns = |example: &Example, role| example.messages.iter().filter(|message| message.role == role).count();
    let chats: Vec<usize> = examples.iter().filter(|one| one.is_chat()).map(Example::n_turns).collect();
    let asked: Vec<usize> = examples.iter().map(|one| one.questions.len()).filter(|&questions| questions > 0).collect();
    Survey {
        examples: examples.len(),
        instructions: instructions().count(),
        with_text: instructions().filter(|instruction| instruction.text.is_some()).count(),
        with_system: examples.iter().filter(|example| turns(example, Role::System) > 0).count(),
        chats: chats.len(),
        turns_per_chat: Spread::of(chats),
        with_questions: asked.len(),
        questions_per_example: Spread::of(asked),
        dialogues: examples.iter().filter(|example| turns(example, Role::User) > 1).count(),
        types,
        instructions_per_example: Spread::of(examples.iter().map(|example| example.instructions.len()).collect()),
        words_per_prompt: Spread::of(examples.iter().map(|example| words(example).len()).collect()),
        errors,
        warnings: warnings(&examples),
    }
}

fn warnings(examples: &[Example]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut prompts = Prompts::default();
    for example in examples {
        for (index, instruction) in example.instructions.iter().enumerate() {
            let (id, kind) = (example.id.clone(), instruction.kind.clone());
            match &instruction.text {
                None => warnings.push(Warning::NoText { id, instruction: index, kind }),
                Some(text) if example.places(text) > 1 => {
                    warnings.push(Warning::TextRepeated { id, instruction: index, text: text.clone() });
                }
                Some(_) => {}
            }
        }
        let unchecked = (0..example.n_turns()).filter(|&turn| example.checked_in(turn).next().is_none());
        warnings.extend(unchecked.map(|turn| Warning::Unchecked { id: example.id.clone(), turn }));
        if let Some((index, share)) = prompts.nearest(example).filter(|(_, share)| *share >= NEAR) {
            let of = examples[index].id.clone();
            warnings.push(Warning::NearDuplicate { id: example.id.clone(), of, share });
        }
        prompts.add(example);
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, prompt: &str, text: &str) -> String {
        format!(
            r#"{{"id":"{id}","messages":[{{"role":"user","content":"{prompt}"}}],"instructions":[{{"type":"punctuation:no_comma"{text}}}]}}"#
        )
    }

    #[test]
    fn all_that_is_wrong_or_doubtful_is_named() {
        let long = "Tell me about the old owl in the tall tree by the river";
        let text = [
            line("a", &format!("{long}. No commas. No commas."), r#","text":"No commas.""#),
            line("b", "x", r#","text":"y""#),
            line("a", "z", ""),
            String::new(),
            "{".to_owned(),
            line("c", &format!("{long}! No commas."), ""),
        ]
        .join("\n");
        let survey = survey(&text);
        assert_eq!((survey.examples, survey.instructions, survey.with_text), (2, 2, 1));
        assert_eq!(survey.errors.iter().map(|bad| bad.line).collect::<Vec<_>>(), [2, 3, 5]);
        let warnings: Vec<String> = survey.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].starts_with("a: the text of instruction 0 stands in several places"));
        assert!(warnings[1].starts_with("c: instruction 0 (`punctuation:no_comma`) has no `text`"));
        assert!(warnings[2].starts_with("c: nearly the same prompt as a ("));
        assert_eq!(survey.words_per_prompt.max, 17);
    }
}
