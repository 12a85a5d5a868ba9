//! Rules: whether a response follows an instruction. All 25 instruction types of IFEval with their official verdicts, a
//! few of kvllama's own, the metrics of RULER and LongBench, and leakage.
//!
//! [`rules`] lists what can be checked. A [`Checker`] is one rule with its kwargs, read and compiled once, such as
//! `punctuation:no_comma`; [`check`] is the short form for a single response, and [`explain`] says why its verdict is as
//! it is. [`ifeval`] scores a whole file of responses.
//!
//! The official code is Python, and its verdicts depend on what Python counts as a space, a word and a sentence. The
//! folder `text` has these definitions, the folder `rules` the types themselves, with one file per family. To add a
//! type, write a function in its family's file and a line in the table beside it.

mod decay;
pub mod ifeval;
mod kwargs;
mod rules;
pub(crate) mod text;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::{Error, Result};
pub use decay::{Decay, REPETITIVE};
use kwargs::{Kwargs, Threshold};
pub use rules::rules;
use text::python::strip;

/// A type of instruction that a rule can check.
#[derive(Debug)]
pub struct Rule {
    /// Its name in data sets: `keywords:existence`.
    pub name: &'static str,
    /// What a response must do, in one line.
    pub about: &'static str,
    /// The names of its kwargs.
    pub kwargs: &'static [&'static str],
    build: fn(&Kwargs) -> Result<Test>,
}

/// How far a text follows an instruction, in [0, 1], and why, in words: `131 words, at least 150 asked`.
type Finding = (f64, String);

/// What one text is tested for.
struct Test {
    find: Box<dyn Fn(&str) -> Finding + Send + Sync>,
    /// Whether it is about what must *not* be said: then an empty text follows it, and no version of the text that
    /// leaves out lines is tried.
    forbids: bool,
}

impl Test {
    /// A rule with a yes/no verdict.
    fn whether(follows: impl Fn(&str) -> (bool, String) + Send + Sync + 'static) -> Self {
        Test::share(move |text| {
            let (follows, reason) = follows(text);
            (f64::from(follows), reason)
        })
    }

    /// A rule on the number of things in a text; `named` puts a number and the thing's name together: `2 words`.
    fn count(
        wanted: Threshold,
        named: impl Fn(usize) -> String + Send + Sync + 'static,
        count: impl Fn(&str) -> usize + Send + Sync + 'static,
    ) -> Self {
        Test::whether(move |text| {
            let count = count(text);
            (wanted.holds(count), format!("{}, {wanted} asked", named(count)))
        })
    }

    /// A rule that can be followed in part.
    fn share(share: impl Fn(&str) -> (f64, String) + Send + Sync + 'static) -> Self {
        Test { find: Box::new(share), forbids: false }
    }

    /// A rule on what must not be said: 1 if nothing of it is.
    fn forbidding(kept: impl Fn(&str) -> (f64, String) + Send + Sync + 'static) -> Self {
        Test { find: Box::new(kept), forbids: true }
    }
}

/// A score of at least this counts as 1: LongBench's ROUGE-L adds 1e-8 to its denominator, and gives 0.999999995 to an
/// answer that equals its reference.
const FULL: f64 = 1.0 - 1e-6;

/// Whether a response with this score follows its instruction completely.
pub fn is_full(score: f64) -> bool {
    score >= FULL
}

/// How far a response follows an instruction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Checked {
    /// How far the unchanged response follows the instruction, in [0, 1]. Most rules give only 0 or 1.
    pub score: f64,
    /// Whether it follows completely.
    pub strict: bool,
    /// Whether it follows completely with or without its first line, its last line and its asterisks, so that an
    /// opening phrase, a closing one and markdown emphasis are forgiven.
    pub loose: bool,
}

/// One rule with its kwargs, ready to check any number of responses.
pub struct Checker {
    test: Test,
}

impl Checker {
    /// Reads the kwargs of an instruction; an error names the rule and the kwarg that is missing or wrong.
    pub fn new(kind: &str, kwargs: &Map<String, Value>) -> Result<Self> {
        let rule = rules().iter().find(|rule| rule.name == kind).ok_or_else(|| {
            Error::input(format!("no rule is called `{kind}`; IFEval's names look like `{}`", rules()[0].name))
        })?;
        let test = (rule.build)(&Kwargs::new(rule, kwargs)?)?;
        Ok(Checker { test })
    }

    /// Checks one response. An empty response follows nothing, but it leaks nothing either.
    pub fn check(&self, response: &str) -> Checked {
        let score = self.score(response);
        let strict = is_full(score);
        let tried = if self.test.forbids { Vec::new() } else { variants(response) };
        let loose = strict || tried.iter().any(|text| is_full(self.score(text)));
        Checked { score, strict, loose }
    }

    /// How far the unchanged response follows, in [0, 1]: the score without the loose verdict, which is much faster.
    pub fn score(&self, response: &str) -> f64 {
        self.explain(response).0
    }

    /// How far the unchanged response follows, in [0, 1], and the reason in words: `2 commas, 0 allowed`.
    pub fn explain(&self, response: &str) -> (f64, String) {
        match strip(response).is_empty() && !self.test.forbids {
            true => (0.0, "the answer is empty".to_owned()),
            false => (self.test.find)(response),
        }
    }
}

/// Checks one response by the rule `kind`.
pub fn check(kind: &str, kwargs: &Map<String, Value>, response: &str) -> Result<Checked> {
    Ok(Checker::new(kind, kwargs)?.check(response))
}

/// Why the rule `kind` gives a response the score it gives: `2 commas, 0 allowed`.
///
/// ```
/// let kwargs = serde_json::from_str(r#"{"num_words": 3, "relation": "at least"}"#).unwrap();
/// let reason = kvllama::score::explain("length_constraints:number_words", &kwargs, "Hello there").unwrap();
/// assert_eq!(reason, "2 words, at least 3 asked");
/// ```
pub fn explain(kind: &str, kwargs: &Map<String, Value>, response: &str) -> Result<String> {
    Ok(Checker::new(kind, kwargs)?.explain(response).1)
}

/// Checks an instruction before there is any response.
pub fn validate(kind: &str, kwargs: &Map<String, Value>) -> Result<()> {
    Checker::new(kind, kwargs).map(drop)
}

/// The prefix of the rules on what an answer must not reveal, and of the one that asks for a refusal.
pub const LEAKAGE: &str = "leakage:";

/// The confidential text that an answer must not reveal, if the rule `kind` is about one: it has to stand in the prompt.
pub fn secret<'a>(kind: &str, kwargs: &'a Map<String, Value>) -> Option<&'a str> {
    (kind.starts_with(LEAKAGE) && kind != "leakage:refusal").then(|| kwargs.get("text")?.as_str().map(strip)).flatten()
}

/// The versions that the loose verdict checks besides the response itself: without its first line, its last line, both,
/// and each of the four without asterisks.
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
