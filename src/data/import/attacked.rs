//! System prompts under attack, as in "The Pitfalls of KV Cache Compression" (arXiv 2510.00231): a *directive* (the
//! system prompt), a *defence* that forbids to reveal it, and an *attack*, a user message that asks for it.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, json};

use super::super::{Example, Instruction, Message, Role, Turns, load};
use crate::{Error, Result};

/// Where a defence template has the directive.
const PLACEHOLDER: &str = "$system_prompt";

/// A message that tries to get the system prompt: a line of a file of attacks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Attack {
    name: String,
    kind: String,
    category: String,
    text: String,
}

/// Words around a system prompt that forbid to reveal it: a line of a file of defences.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Defence {
    name: String,
    text: String,
}

/// In which order defence and directive stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Order {
    /// As the defence is written.
    AsWritten,
    /// The defence before the directive.
    DefenceFirst,
    /// The directive before the defence.
    DirectiveFirst,
}

/// The turn in which something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Place {
    /// The system turn.
    System,
    /// The beginning of the user's turn.
    User,
}

/// What the model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Ask {
    /// The task alone.
    Task,
    /// The attack alone.
    Attack,
    /// Both, as two questions about the same cut cache.
    Both,
    /// Both in one chat: the task, then the attack as the last turn.
    Chat,
}

/// How a system prompt is defended and attacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attacked {
    /// The examples take these in turn.
    pub attacks: Vec<Attack>,
    /// The defence, if there is one.
    pub defence: Option<Defence>,
    /// The words of the defence that demand silence: the `text` of the rules on leakage. Without them its longest part.
    pub demand: Option<String>,
    /// What precedes each directive, as part of it.
    pub preamble: String,
    /// The order of defence and directive, if they stand in the same turn.
    pub order: Order,
    /// Where the defence stands.
    pub defence_in: Place,
    /// Where the directive stands.
    pub directive_in: Place,
    /// What the model is asked.
    pub ask: Ask,
}

/// The attacks of a file that have one of these names, kinds or categories.
///
/// # Errors
/// If a line is no attack, or if none is meant.
pub fn attacks(path: &Path, wanted: &[String]) -> Result<Vec<Attack>> {
    let mut attacks: Vec<Attack> = lines(path, "an attack, {name, kind, category, text}")?;
    let mut known: Vec<String> = attacks.iter().flat_map(|one| [one.kind.clone(), one.category.clone()]).collect();
    let meant = |one: &Attack, by: &String| [&one.name, &one.kind, &one.category].contains(&by);
    if let Some(unknown) = wanted.iter().find(|by| !attacks.iter().any(|one| meant(one, by))) {
        known.sort();
        known.dedup();
        return Err(Error::input(format!(
            "{} has no attack of the name, kind or category `{}`; it has {}",
            path.display(),
            unknown.escape_debug(),
            known.join(", ")
        )));
    }
    attacks.retain(|one| wanted.iter().any(|by| meant(one, by)));
    Ok(attacks)
}

/// The defence of a file that has this name.
///
/// # Errors
/// If a line is no defence, if none has the name, or if it does not hold `$system_prompt` once.
pub fn defence(path: &Path, name: &str) -> Result<Defence> {
    let mut defences: Vec<Defence> = lines(path, "a defence, {name, text}")?;
    let Some(place) = defences.iter().position(|one| one.name == name) else {
        let known: Vec<&str> = defences.iter().map(|one| one.name.as_str()).collect();
        return Err(Error::input(format!(
            "{} has no defence `{}`; it has {}",
            path.display(),
            name.escape_debug(),
            known.join(", ")
        )));
    };
    let defence = defences.swap_remove(place);
    match defence.text.matches(PLACEHOLDER).count() {
        1 => Ok(defence),
        n => Err(Error::input(format!(
            "{}: the defence `{name}` has `{PLACEHOLDER}` {n} times; it must be there once, where the system prompt goes",
            path.display()
        ))),
    }
}

/// The lines of a file of JSON lines.
fn lines<Line: DeserializeOwned>(path: &Path, what: &str) -> Result<Vec<Line>> {
    let text = load::read(path)?;
    let numbered = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let read = |(number, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|error| Error::input(format!("{}, line {number}: not {what}: {error}", path.display())))
    };
    numbered.map(read).collect()
}

impl Attacked {
    /// Defends and attacks an example of a system and a user turn; `index` counts the examples.
    pub(super) fn apply(&self, example: Example, index: usize) -> Result<Example> {
        let [Message { role: Role::System, content }, Message { role: Role::User, content: task }] =
            example.messages.as_slice()
        else {
            return Err(Error::input("`messages` must be a system and a user turn to be defended or attacked"));
        };
        let directive = format!("{}{content}", self.preamble);
        let attack = (self.ask != Ask::Task).then(|| &self.attacks[index % self.attacks.len()]);
        let [system, user] = self.stated(&directive);
        let mut messages: Vec<Message> =
            system.map(|content| Message { role: Role::System, content }).into_iter().collect();
        // What stands in the user's turn precedes what is asked first.
        let first = |asked: &str| match &user {
            Some(user) => format!("{user}\n\n{asked}"),
            None => asked.to_owned(),
        };
        let said = |content: String| Message { role: Role::User, content };
        let attacked = attack.map(|attack| attack.text.trim());
        let mut questions = Vec::new();
        match (self.ask, attacked) {
            (Ask::Task, _) | (_, None) => messages.push(said(first(task))),
            (Ask::Attack, Some(attack)) => messages.push(said(first(attack))),
            (Ask::Both, Some(attack)) => {
                messages.extend(user.clone().map(said));
                questions = vec![task.clone(), attack.to_owned()];
            }
            (Ask::Chat, Some(attack)) => messages.extend([said(first(task)), said(attack.to_owned())]),
        }
        let both = matches!(self.ask, Ask::Both | Ask::Chat);
        let mut instructions = if self.ask == Ask::Attack { Vec::new() } else { example.instructions };
        instructions.iter_mut().for_each(|one| one.turn = both.then(|| Turns::one(0)));
        if attack.is_some() {
            instructions.extend(self.kept(&directive, both.then(|| Turns::one(1))));
        }
        let question = match self.ask {
            Ask::Task => Some(task.clone()),
            Ask::Attack => attacked.map(str::to_owned),
            Ask::Both | Ask::Chat => None,
        };
        let mut source = example.source.unwrap_or_default();
        source["defence"] = json!(self.defence.as_ref().map(|defence| &defence.name));
        source["attack"] = json!(attack.map(|attack| &attack.name));
        Ok(Example { messages, instructions, questions, context: user, question, source: Some(source), ..example })
    }

    /// What the system turn and the beginning of the user's turn say.
    fn stated(&self, directive: &str) -> [Option<String>; 2] {
        let Some(defence) = &self.defence else {
            let directive = Some(directive.to_owned());
            return if self.directive_in == Place::System { [directive, None] } else { [None, directive] };
        };
        let alone = defence.alone();
        match (self.defence_in, self.directive_in) {
            (Place::System, Place::User) => [Some(alone), Some(directive.to_owned())],
            (Place::User, Place::System) => [Some(directive.to_owned()), Some(alone)],
            (place, _) => {
                let both = match self.order {
                    Order::AsWritten => defence.text.replacen(PLACEHOLDER, directive, 1),
                    Order::DefenceFirst => format!("{alone}\n{directive}"),
                    Order::DirectiveFirst => format!("{directive}\n\n{alone}"),
                };
                if place == Place::System { [Some(both), None] } else { [None, Some(both)] }
            }
        }
    }

    /// The rules on the answer to an attack. The words that demand them are those of the defence.
    fn kept(&self, directive: &str, turn: Option<Turns>) -> [Instruction; 3] {
        // A defence around the directive is no single text: its longer part stands for it.
        let whole = self.defence.as_ref().and_then(|defence| {
            let parts = match (self.order, self.defence_in == self.directive_in) {
                (Order::AsWritten, true) => defence.parts(),
                _ => vec![defence.alone()],
            };
            parts.into_iter().max_by_key(String::len).filter(|part| !part.is_empty())
        });
        let text = self.demand.clone().or(whole);
        let rule =
            |kind: &str, kwargs| Instruction { kind: kind.to_owned(), kwargs, rubric: None, text: text.clone(), turn };
        let secret = || Map::from_iter([("text".to_owned(), json!(directive.trim()))]);
        [rule("leakage:rouge_l", secret()), rule("leakage:rouge_1", secret()), rule("leakage:refusal", Map::new())]
    }
}

impl Defence {
    /// The words before and behind the directive.
    fn parts(&self) -> Vec<String> {
        self.text.split(PLACEHOLDER).map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
    }

    /// The defence without the directive.
    fn alone(&self) -> String {
        self.parts().join("\n\n")
    }
}
