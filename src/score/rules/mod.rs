//! The instruction types, with one file per family.
//!
//! A type is a function from its kwargs to a test of one text. The tests do the same as the official code, including
//! its quirks; "a quirk" in a comment is one of the official code.

mod change_case;
mod combination;
mod content;
mod format;
mod keywords;
mod kvllama;
mod language;
mod length;
mod longbench;
mod punctuation;
mod ruler;
mod startend;

use std::sync::LazyLock;

use regex::Regex;

use super::kwargs::Kwargs;
use super::{Rule, Test};
use crate::Result;

/// All rules: IFEval's types, then kvllama's own, then the metrics of other data sets.
pub fn rules() -> &'static [Rule] {
    static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
        let families = [
            keywords::rules(),
            language::rules(),
            length::rules(),
            content::rules(),
            format::rules(),
            combination::rules(),
            startend::rules(),
            change_case::rules(),
            punctuation::rules(),
            kvllama::rules(),
            ruler::rules(),
            longbench::rules(),
        ];
        families.into_iter().flatten().collect()
    });
    &RULES
}

/// A kwarg that IFEval uses as a regular expression; `pattern` makes the expression from the kwarg.
fn expression(kwargs: &Kwargs, name: &str, pattern: impl FnOnce(&str) -> String) -> Result<Regex> {
    Regex::new(&pattern(kwargs.text(name)?)).map_err(|error| not_an_expression(kwargs, name, &error))
}

fn not_an_expression(kwargs: &Kwargs, name: &str, error: &regex::Error) -> crate::Error {
    let reason = error.to_string();
    let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
    kwargs.wrong(name, &format!("is read as a regular expression and is none ({reason}); escape its signs with `\\`"))
}
