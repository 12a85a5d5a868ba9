//! The instruction types, with one file per family.
//!
//! A type is a function from its kwargs to a test of one text, which gives its verdict and the reason. The tests do the same as the official code, including
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
mod refusal;
mod rouge;
mod ruler;
mod secret;
mod startend;

use std::sync::LazyLock;

use regex::Regex;

use super::kwargs::{Kwargs, Threshold};
use super::text::python::split;
use super::{Rule, Test};
use crate::Result;

/// All rules: IFEval's types, then kvllama's own, then the metrics of other data sets, then leakage.
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
            rouge::rules(),
            secret::rules(),
            refusal::rules(),
        ];
        families.into_iter().flatten().collect()
    });
    &RULES
}

/// A number of things: `1 word`, `2 words`.
fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// The longest quotation in a reason, in characters.
const QUOTED: usize = 40;

/// The text in double quotes, on one line; of a long one its beginning.
fn quoted(text: &str) -> String {
    let text = split(text).collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("\"{}…\"", &text[..end]),
        None => format!("\"{text}\""),
    }
}

/// The end of a text, quoted like [`quoted`].
fn quoted_end(text: &str) -> String {
    let text = split(text).collect::<Vec<_>>().join(" ");
    match text.char_indices().rev().nth(QUOTED) {
        Some((before, c)) => format!("\"…{}\"", &text[before + c.len_utf8()..]),
        None => format!("\"{text}\""),
    }
}

/// The texts, each quoted.
fn list(texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    texts.into_iter().map(|text| quoted(text.as_ref())).collect::<Vec<_>>().join(", ")
}

/// A test of whether a text begins with what is wanted, in any case. `text` leaves out what may precede it.
fn begins(wanted: &str, text: impl Fn(&str) -> &str + Send + Sync + 'static) -> Test {
    let (shown, wanted) = (quoted(wanted), wanted.to_lowercase());
    Test::whether(move |whole| {
        let lower = text(whole).to_lowercase();
        if lower.starts_with(&wanted) {
            return (true, format!("begins with {shown}"));
        }
        let same: String = lower.chars().zip(wanted.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
        let reason = match same.chars().count() {
            0..QUOTED => format!("begins with {}, {shown} asked", quoted(text(whole))),
            _ => format!("begins with {shown}, but departs from it after {}", quoted_end(&same)),
        };
        (false, reason)
    })
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
