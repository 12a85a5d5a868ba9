//! Rules: does a response follow an instruction? All 25 instruction types of IFEval with their
//! official verdicts, a few of kvllama's own, and the metrics of RULER and LongBench.
//!
//! [`rules`] lists what can be checked. A [`Checker`] is one rule with its kwargs, read and
//! compiled once; [`check`] is the short way for a single response. [`ifeval`] scores a whole
//! file of responses.
//!
//! The official code is Python; its verdicts hang on Python's ideas of a space, a word and a
//! sentence. `text` holds those, `rules` the types themselves, one file a family. To add a type:
//! a function in its family's file, and a line in the table beside it.

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

/// How far one text follows the instruction, in [0, 1].
struct Test(Box<dyn Fn(&str) -> f64 + Send + Sync>);

impl Test {
    /// A rule that is followed or not.
    fn whether(follows: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Test(Box::new(move |text| f64::from(follows(text))))
    }

    /// A rule that may be followed in part.
    fn share(share: impl Fn(&str) -> f64 + Send + Sync + 'static) -> Self {
        Test(Box::new(share))
    }
}

/// A score from here on counts as 1: LongBench's ROUGE-L adds 1e-8 to its denominator, and gives
/// 0.999999995 to an answer that equals its reference.
const FULL: f64 = 1.0 - 1e-6;

/// How far a response follows an instruction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// In [0, 1]: how far the response as it stands follows. Most rules know 0 and 1 alone.
    pub score: f64,
    /// It follows wholly.
    pub strict: bool,
    /// It follows wholly with or without its first line, its last line and its asterisks: an opening
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
        let score = self.score(response);
        let strict = score >= FULL;
        let loose = strict || variants(response).iter().any(|text| self.score(text) >= FULL);
        Verdict { score, strict, loose }
    }

    /// How far the response as it stands follows, in [0, 1]: the strict verdict alone, for a fraction of the work.
    pub fn score(&self, response: &str) -> f64 {
        if strip(response).is_empty() { 0.0 } else { (self.test.0)(response) }
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
