//! Rules: does a response follow an instruction? All 25 instruction types of IFEval with their
//! official verdicts, and a few of kvllama's own.
//!
//! [`rules`] lists what can be checked. A [`Checker`] is one rule with its kwargs, read and
//! compiled once; [`check`] is the short way for a single response. [`ifeval`] scores a whole
//! file of responses.
//!
//! The official code is Python; its verdicts hang on Python's ideas of a space, a word and a
//! sentence. `text` holds those, `rules` the types themselves, one file a family. To add a type:
//! a function in its family's file, and a line in the table beside it.

pub mod ifeval;
mod kwargs;
mod rules;
pub(crate) mod text;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::{Error, Result};
use kwargs::Kwargs;
pub use rules::rules;
use text::python::strip;

/// A kind of instruction that can be checked by rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name, as data sets write it: `keywords:existence`.
    pub name: &'static str,
    /// What a response must do, in one line.
    pub about: &'static str,
    /// The kwargs it reads.
    pub kwargs: &'static [&'static str],
    build: fn(&Kwargs) -> Result<Test>,
}

/// Whether one text follows the instruction.
type Test = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Whether a response follows an instruction, by both of IFEval's measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The response as it stands follows.
    pub strict: bool,
    /// It follows with or without its first line, its last line and its asterisks: an opening
    /// phrase, a closing one and markdown emphasis are forgiven.
    pub loose: bool,
}

/// One rule with its kwargs, ready to judge any number of responses.
pub struct Checker {
    test: Test,
}

impl Checker {
    /// Reads the kwargs of an instruction; the error names the rule, and the kwarg that is missing or wrong.
    pub fn new(kind: &str, kwargs: &Map<String, Value>) -> Result<Self> {
        let rule = rules().iter().find(|rule| rule.name == kind).ok_or_else(|| {
            Error::input(format!("no rule is called `{kind}`; IFEval's names look like `{}`", rules()[0].name))
        })?;
        let test = (rule.build)(&Kwargs::new(rule, kwargs)?)?;
        Ok(Checker { test })
    }

    /// Judges one response. An empty response follows nothing.
    pub fn check(&self, response: &str) -> Verdict {
        let strict = self.strict(response);
        Verdict { strict, loose: strict || variants(response).iter().any(|text| self.strict(text)) }
    }

    /// The strict verdict alone, for a fraction of the work.
    pub fn strict(&self, response: &str) -> bool {
        !strip(response).is_empty() && (self.test)(response)
    }
}

/// Judges one response by the rule `kind`.
pub fn check(kind: &str, kwargs: &Map<String, Value>, response: &str) -> Result<Verdict> {
    Ok(Checker::new(kind, kwargs)?.check(response))
}

/// Says what is wrong with an instruction before any response is there.
pub fn validate(kind: &str, kwargs: &Map<String, Value>) -> Result<()> {
    Checker::new(kind, kwargs).map(drop)
}

/// What the loose measure reads beside the response itself: without its first line, its last
/// line, both, and each of the four without asterisks.
fn variants(response: &str) -> Vec<String> {
    let without_last = |text: &str| text.rsplit_once('\n').map_or("", |(rest, _)| rest).to_owned();
    let without_first = response.split_once('\n').map_or("", |(_, rest)| rest);
    let shortened = [without_first.to_owned(), without_last(response), without_last(without_first)];
    let mut variants: Vec<String> = shortened.iter().map(|text| strip(text).to_owned()).collect();
    if response.contains('*') {
        let plain: Vec<String> = variants.iter().map(|text| text.replace('*', "")).collect();
        variants.push(response.replace('*', ""));
        variants.extend(plain);
    }
    variants
}
