//! The turns of a chat: which messages the model answers itself, and which instructions each answer is checked for.
//!
//! A user message that an assistant message follows is answered by that message; every other one by the model. So an
//! example with one user message has one turn, and `user, user, user` has three. Turns are counted from 0.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Example, Instruction, Role};
use crate::{Error, Result};

/// Largest number of turns of an example.
pub(super) const MOST_TURNS: usize = 1_000;

/// The answers that an instruction is checked on, those of a chat or to questions: `2`, or a half-open range such as `"1..3"` or `"2.."`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turns {
    /// The first turn.
    pub first: usize,
    /// One past the last turn; `None` for the end of the chat.
    pub end: Option<usize>,
}

impl Turns {
    /// A single turn.
    pub(super) fn one(turn: usize) -> Self {
        Turns { first: turn, end: Some(turn + 1) }
    }

    /// The turn, if it is a single one.
    pub(super) fn only(self) -> Option<usize> {
        (self.end == Some(self.first + 1)).then_some(self.first)
    }
}

impl fmt::Display for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            Some(end) if end == self.first + 1 => write!(f, "{}", self.first),
            Some(end) => write!(f, "{}..{end}", self.first),
            None => write!(f, "{}..", self.first),
        }
    }
}

impl FromStr for Turns {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.parse::<usize>().ok().filter(|&turn| turn < usize::MAX);
        let turns = match text.split_once("..") {
            None => number(text).map(|first| Turns { first, end: Some(first + 1) }),
            Some((first, "")) => number(first).map(|first| Turns { first, end: None }),
            Some((first, end)) => number(first).zip(number(end)).map(|(first, end)| Turns { first, end: Some(end) }),
        };
        turns
            .filter(|turns| turns.end.is_none_or(|end| turns.first < end))
            .ok_or_else(|| Error::input(format!("`turn` is `{}`; write 2, \"1..3\" or \"2..\"", text.escape_debug())))
    }
}

impl Serialize for Turns {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.end {
            Some(end) if end == self.first + 1 => serializer.serialize_u64(self.first as u64),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Turns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(serde_json::Number),
            Text(String),
        }
        let text = match Written::deserialize(deserializer) {
            Ok(Written::Number(number)) => number.to_string(),
            Ok(Written::Text(text)) => text,
            Err(_) => {
                return Err(serde::de::Error::custom("`turn` is a number, or a range such as \"1..3\" or \"2..\""));
            }
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Example {
    /// The user messages that the model answers itself, by index.
    pub fn answered(&self) -> impl Iterator<Item = usize> + '_ {
        let scripted = |index: usize| self.messages.get(index + 1).is_some_and(|next| next.role == Role::Assistant);
        (0..self.messages.len()).filter(move |&index| self.messages[index].role == Role::User && !scripted(index))
    }

    /// Number of answers by the model: of turns, or of questions.
    pub fn n_turns(&self) -> usize {
        if self.questions.is_empty() { self.answered().count() } else { self.questions.len() }
    }

    /// Whether the model answers more than once, one turn after another.
    pub fn is_chat(&self) -> bool {
        self.questions.is_empty() && self.answered().nth(1).is_some()
    }

    /// The turns, or questions, on whose answers an instruction is checked. Without a `turn` this is every answer; if its
    /// text stands in a user message of a chat, the answer to that message; if it stands in a question alone, the answer
    /// to that question.
    pub fn turns_of(&self, instruction: &Instruction) -> Range<usize> {
        let n = self.n_turns();
        if let Some(Turns { first, end }) = instruction.turn {
            return first.min(n)..end.unwrap_or(n).min(n);
        }
        let stated = match self.questions.is_empty() {
            true => self.stated_in(instruction).filter(|_| self.is_chat()),
            false => {
                let text = instruction.text.as_ref().filter(|text| self.locate(text).is_none());
                text.and_then(|text| self.question_with(text))
            }
        };
        stated.map_or(0..n, |turn| turn..turn + 1)
    }

    /// The turn in which an instruction is stated, if its text stands in a message behind the system's.
    pub(super) fn stated_in(&self, instruction: &Instruction) -> Option<usize> {
        let (message, _) = self.locate(instruction.text.as_ref()?)?;
        if self.messages[message].role == Role::System {
            return None;
        }
        self.answered().position(|answered| answered >= message)
    }

    /// The instructions that the answer of a turn is checked for, each with its index.
    pub fn checked_in(&self, turn: usize) -> impl Iterator<Item = (usize, &Instruction)> {
        let here = move |instruction: &Instruction| self.turns_of(instruction).contains(&turn);
        self.instructions.iter().enumerate().filter(move |(_, instruction)| here(instruction))
    }
}

/// Checks that an instruction names turns that exist, and is stated before the first of them is answered.
pub(super) fn check(example: &Example, instruction: &Instruction) -> Result<()> {
    let Some(turns) = instruction.turn else { return Ok(()) };
    let n = example.n_turns();
    if turns.first >= n || turns.end.is_some_and(|end| end > n) {
        let of = if example.questions.is_empty() { "turn" } else { "question" };
        let answers =
            if n == 1 { format!("one answer, of {of} 0") } else { format!("{n} answers, of {of}s 0 to {}", n - 1) };
        return Err(Error::input(format!("there is no turn {turns}: the model gives {answers}")));
    }
    match example.stated_in(instruction) {
        Some(stated) if stated > turns.first => Err(Error::input(format!(
            "it is checked in turn {}, but its `text` is first said in turn {stated}",
            turns.first
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::parse;

    fn chat(instructions: &str) -> Result<Example> {
        let line = format!(
            r#"{{"id":"a","messages":[{{"role":"system","content":"No commas."}},{{"role":"user","content":"Hi"}},{{"role":"assistant","content":"Hello"}},{{"role":"user","content":"One. Shout."}},{{"role":"user","content":"Two. Whisper."}},{{"role":"user","content":"Three"}}],"instructions":[{instructions}]}}"#
        );
        parse(&line, "x").map(|mut examples| examples.remove(0))
    }

    #[test]
    fn the_model_answers_what_no_message_answers() {
        let rule = |more: &str| format!(r#"{{"type":"punctuation:no_comma"{more}}}"#);
        let example = chat(
            &[
                rule(r#","text":"No commas.""#),
                rule(r#","text":"Shout.""#),
                rule(r#","text":"Whisper.","turn":"1..""#),
                rule(r#","turn":"0..2""#),
                rule(r#","turn":2"#),
            ]
            .join(","),
        )
        .unwrap();
        assert_eq!(example.answered().collect::<Vec<_>>(), [3, 4, 5]);
        let turns: Vec<_> = example.instructions.iter().map(|one| example.turns_of(one)).collect();
        assert_eq!(turns, [0..3, 0..1, 1..3, 0..2, 2..3]);
        assert_eq!(example.checked_in(1).map(|(index, _)| index).collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!(parse(&serde_json::to_string(&example).unwrap(), "x").unwrap(), [example]);
    }

    #[test]
    fn turns_that_do_not_exist_are_refused() {
        for (turn, expected) in [
            ("3", "there is no turn 3: the model gives 3 answers, of turns 0 to 2"),
            ("\"1..4\"", "there is no turn 1..4"),
            ("\"2..2\"", "`turn` is `2..2`"),
            ("\"-1\"", "`turn` is `-1`"),
            ("1.5", "`turn` is `1.5`"),
            ("[1]", "`turn` is a number, or a range"),
            ("18446744073709551615", "`turn` is `18446744073709551615`"),
            ("0,\"text\":\"Whisper.\"", "its `text` is first said in turn 1"),
        ] {
            let error = chat(&format!(r#"{{"type":"punctuation:no_comma","turn":{turn}}}"#)).unwrap_err().to_string();
            assert!(error.starts_with("x, line 1: ") && error.contains(expected), "{turn}: {error}");
        }
    }
}
