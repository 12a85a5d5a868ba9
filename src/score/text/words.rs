//! Words: NLTK's `word_tokenize`, and Python's `\w+`.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::python::is_word_boundary;
use super::{punkt, python, regex};

/// The number of words by `\w+`.
pub fn count(text: &str) -> usize {
    regex!(r"[\p{L}\p{N}_]+").find_iter(text).count()
}

/// The tokens of a text as `nltk.word_tokenize` splits them (NLTK 3.8.1, `NLTKWordTokenizer`): sentence by sentence,
/// with substitutions that put spaces between the tokens.
pub fn tokenize(text: &str) -> Vec<String> {
    let sentences = punkt::sentences(text).into_iter();
    sentences.flat_map(|sentence| python::split(&spaced(sentence)).map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn spaced(sentence: &str) -> String {
    let substitute = |steps: &[Step], text: String| steps.iter().fold(text, |text, step| step.apply(&text));
    let text = substitute(&BEFORE_PADDING, sentence.to_owned());
    substitute(&AFTER_PADDING, format!(" {text} "))
}

/// A substitution.
struct Step {
    regex: Regex,
    replacement: &'static str,
    starts_at_boundary: bool,
    ends_at_boundary: bool,
}

impl Step {
    /// `\b` at either end of the pattern is a word boundary as in Python.
    fn new(pattern: &str, replacement: &'static str) -> Self {
        let (inner, starts_at_boundary) = pattern.strip_prefix(r"\b").map_or((pattern, false), |inner| (inner, true));
        let (inner, ends_at_boundary) = inner.strip_suffix(r"\b").map_or((inner, false), |inner| (inner, true));
        let regex = Regex::new(inner).expect("a valid pattern");
        Step { regex, replacement, starts_at_boundary, ends_at_boundary }
    }

    fn apply(&self, text: &str) -> String {
        let replaced = self.regex.replace_all(text, |captures: &Captures| {
            let found = captures.get_match();
            let fits = (!self.starts_at_boundary || is_word_boundary(text, found.start()))
                && (!self.ends_at_boundary || is_word_boundary(text, found.end()));
            let mut replacement = String::new();
            if fits {
                captures.expand(self.replacement, &mut replacement);
            } else {
                replacement.push_str(found.as_str());
            }
            replacement
        });
        replaced.into_owned()
    }
}

/// Opening quotes, punctuation, brackets, dashes.
static BEFORE_PADDING: LazyLock<Vec<Step>> = LazyLock::new(|| {
    steps(&[
        (r"[«“‘„]|`+", " $0 "),
        (r#"^""#, "``"),
        (r"``", " $0 "),
        (r#"([ (\[{<])(?:"|'{2})"#, "$1 `` "),
        // An apostrophe before a single letter, unless it is a clitic: 's, 't, ...
        (r"'([[\p{L}\p{N}_]--[mtsdnMTSDNſ]])\b", "' $1"),
        (r#"([^.])(\.)([\])}>"'»”’ ]*)[\s\x1c-\x1f]*$"#, "$1 $2 $3 "),
        (r"([:,])(\D)", " $1 $2"),
        (r"([:,])$", " $1 "),
        (r"\.{2,}", " $0 "),
        (r"[;@#$%&]", " $0 "),
        (r#"([^.])(\.)([\])}>"']*)[\s\x1c-\x1f]*$"#, "$1 $2$3 "),
        (r"[?!]", " $0 "),
        (r"([^'])' ", "$1 ' "),
        (r"\*", " $0 "),
        (r"[\]\[(){}<>]", " $0 "),
        (r"--", " $0 "),
    ])
});

/// Closing quotes, clitics, contractions.
static AFTER_PADDING: LazyLock<Vec<Step>> = LazyLock::new(|| {
    steps(&[
        (r"[»”’]", " $0 "),
        (r"''", " $0 "),
        (r#"""#, " '' "),
        (r"([^' ])('[sS]|'[mM]|'[dD]|') ", "$1 $2 "),
        (r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", "$1 $2 "),
        (r"\b(?i:(can)(not))\b", " $1 $2 "),
        (r"\b(?i:(d)('ye))\b", " $1 $2 "),
        (r"\b(?i:(gim)(me))\b", " $1 $2 "),
        (r"\b(?i:(gon)(na))\b", " $1 $2 "),
        (r"\b(?i:(got)(ta))\b", " $1 $2 "),
        (r"\b(?i:(lem)(me))\b", " $1 $2 "),
        (r"\b(?i:(more)('n))\b", " $1 $2 "),
        (r"\b(?i:(wan)(na))([\s\x1c-\x1f])", " $1 $2 $3"),
        (r"(?i: ('t)(is))\b", " $1 $2 "),
        (r"(?i: ('t)(was))\b", " $1 $2 "),
    ])
});

fn steps(steps: &[(&str, &'static str)]) -> Vec<Step> {
    steps.iter().map(|(pattern, replacement)| Step::new(pattern, replacement)).collect()
}
