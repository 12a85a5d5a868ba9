//! Reads the kwargs of an instruction; errors name the kwarg that is missing or wrong.

use std::fmt;

use serde_json::{Map, Value};

use super::Rule;
use super::text::python::strip;
use crate::{Error, Result};

/// The kwargs of one instruction. `null` counts as absent, because published data sets fill missing values with nulls.
pub(super) struct Kwargs<'a> {
    rule: &'a Rule,
    values: &'a Map<String, Value>,
}

impl<'a> Kwargs<'a> {
    /// Refuses kwargs that the rule does not know.
    pub(super) fn new(rule: &'a Rule, values: &'a Map<String, Value>) -> Result<Self> {
        let kwargs = Kwargs { rule, values };
        let unknown = values.iter().find(|(name, value)| !value.is_null() && !rule.kwargs.contains(&name.as_str()));
        match (unknown, rule.kwargs) {
            (None, _) => Ok(kwargs),
            (Some((name, _)), []) => Err(kwargs.wrong(name, "is not known: this rule takes none")),
            (Some((name, _)), known) => {
                Err(kwargs.wrong(name, &format!("is not known: this rule takes `{}`", known.join("`, `"))))
            }
        }
    }

    /// An error about one kwarg.
    pub(super) fn wrong(&self, name: &str, what: &str) -> Error {
        Error::input(format!("rule `{}`: kwarg `{name}` {what}", self.rule.name))
    }

    /// The kwarg, if it is given.
    pub(super) fn optional(&self, name: &str) -> Option<&'a Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    fn required(&self, name: &str) -> Result<&'a Value> {
        self.optional(name).ok_or_else(|| self.wrong(name, "is missing"))
    }

    /// A text that is not blank, without white space around it.
    pub(super) fn text(&self, name: &str) -> Result<&'a str> {
        let text = self.required(name)?.as_str().map(strip).filter(|text| !text.is_empty());
        text.ok_or_else(|| self.wrong(name, "must be a text that is not empty"))
    }

    /// A text that is not empty, unchanged: a separator may consist of white space.
    pub(super) fn verbatim(&self, name: &str) -> Result<&'a str> {
        let text = self.required(name)?.as_str().filter(|text| !text.is_empty());
        text.ok_or_else(|| self.wrong(name, "must be a text that is not empty"))
    }

    /// One or more texts that are not empty, unchanged.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<&'a str>> {
        let texts = self.required(name)?.as_array().map(Vec::as_slice).unwrap_or_default();
        let texts: Option<Vec<&str>> = texts.iter().map(|text| text.as_str().filter(|text| !text.is_empty())).collect();
        let texts = texts.filter(|texts| !texts.is_empty());
        texts.ok_or_else(|| self.wrong(name, "must be a list of texts that are not empty"))
    }

    /// `true` or `false`; `false` if absent.
    pub(super) fn flag(&self, name: &str) -> Result<bool> {
        let value = self.optional(name).map_or(Some(false), Value::as_bool);
        value.ok_or_else(|| self.wrong(name, "must be true or false"))
    }

    /// A whole number; `3.0` is allowed, because some exports of IFEval write all numbers like this.
    pub(super) fn number(&self, name: &str) -> Result<usize> {
        let value = self.required(name)?;
        let number = value.as_u64().or_else(|| {
            let number = value.as_f64()?;
            (number.fract() == 0.0 && (0.0..1e15).contains(&number)).then_some(number as u64)
        });
        number
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| self.wrong(name, "must be a whole number, 0 or more"))
    }

    /// A number, and the relation that a count must have to it.
    pub(super) fn threshold(&self, number: &str, relation: &str) -> Result<Threshold> {
        let number = self.number(number)?;
        match self.text(relation)? {
            "at least" => Ok(Threshold::AtLeast(number)),
            "less than" => Ok(Threshold::LessThan(number)),
            "exactly" => Ok(Threshold::Exactly(number)),
            _ => Err(self.wrong(relation, "must be `at least`, `less than` or `exactly`")),
        }
    }
}

/// The condition for a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threshold {
    AtLeast(usize),
    LessThan(usize),
    /// kvllama's own; IFEval does not have it.
    Exactly(usize),
}

/// `at least 3`, `less than 3`, `exactly 3`.
impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Threshold::AtLeast(number) => write!(f, "at least {number}"),
            Threshold::LessThan(number) => write!(f, "less than {number}"),
            Threshold::Exactly(number) => write!(f, "exactly {number}"),
        }
    }
}

impl Threshold {
    /// Whether the count satisfies it.
    pub(super) fn holds(self, count: usize) -> bool {
        match self {
            Threshold::AtLeast(number) => count >= number,
            Threshold::LessThan(number) => count < number,
            Threshold::Exactly(number) => count == number,
        }
    }
}
