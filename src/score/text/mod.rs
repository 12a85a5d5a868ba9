//! The parts of Python, NLTK and langdetect that the official checks use.

pub(super) mod json;
pub(super) mod language;
pub(super) mod pattern;
pub(super) mod porter;
pub(crate) mod punkt;
pub(super) mod python;
pub(super) mod words;

/// A regular expression, compiled on its first use.
macro_rules! regex {
    ($pattern:expr) => {{
        static REGEX: std::sync::LazyLock<regex::Regex> =
            std::sync::LazyLock::new(|| regex::Regex::new($pattern).expect("a valid pattern"));
        &*REGEX
    }};
}
pub(crate) use regex;
