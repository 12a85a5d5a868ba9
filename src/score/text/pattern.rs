//! Keywords as regular expressions. The official code passes the keywords of a data set to Python's `re` unchanged, and
//! ignores case.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};

use super::python::is_word_boundary;

/// A keyword, anywhere in a text.
pub struct Keyword(Regex);

impl Keyword {
    /// Compiles a keyword.
    pub fn new(keyword: &str) -> Result<Self, regex::Error> {
        ignoring_case(keyword).map(Keyword)
    }

    /// `re.search`.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_match(&with_one_i(text))
    }

    /// `len(re.findall)`: occurrences that do not overlap.
    pub fn count_in(&self, text: &str) -> usize {
        self.0.find_iter(&with_one_i(text)).count()
    }
}

/// A keyword between word boundaries.
pub enum WholeWord {
    /// Plain text, with word boundaries as in Python.
    Plain(Regex),
    /// Any other expression, with word boundaries as in Rust; they differ from Python's for combining marks.
    Expression(Regex),
}

impl WholeWord {
    /// Compiles a keyword.
    pub fn new(keyword: &str) -> Result<Self, regex::Error> {
        if keyword.contains(|c| r"\.^$*+?()[]{}|".contains(c)) {
            ignoring_case(&format!(r"\b{keyword}\b")).map(WholeWord::Expression)
        } else {
            ignoring_case(keyword).map(WholeWord::Plain)
        }
    }

    /// `re.search`.
    pub fn is_in(&self, text: &str) -> bool {
        let text = &*with_one_i(text);
        match self {
            WholeWord::Expression(regex) => regex.is_match(text),
            WholeWord::Plain(regex) => {
                let mut from = 0;
                while let Some(found) = regex.find_at(text, from) {
                    if is_word_boundary(text, found.start()) && is_word_boundary(text, found.end()) {
                        return true;
                    }
                    from = found.start() + text[found.start()..].chars().next().map_or(1, char::len_utf8);
                }
                false
            }
        }
    }
}

fn ignoring_case(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&with_one_i(pattern)).case_insensitive(true).build()
}

/// When it ignores case, Python counts `İ` and `ı` as `i`; Unicode's case folding, and therefore Rust, does not.
fn with_one_i(text: &str) -> Cow<'_, str> {
    if text.contains(['İ', 'ı']) { text.replace(['İ', 'ı'], "i").into() } else { text.into() }
}
