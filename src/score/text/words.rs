//! Words: NLTK's `word_tokenize`, and Python's `\w+`.

use std::sync::LazyLock;

use regex::Regex;

use super::{punkt, python, regex};

/// The number of words by `\w+`.
pub fn count(text: &str) -> usize {
    regex!(r"[\p{L}\p{N}_]+").find_iter(text).count()
}

/// The tokens of a text as `nltk.word_tokenize` splits them (NLTK 3.8.1, `NLTKWordTokenizer`):
/// sentence by sentence, by substitutions that put spaces between the tokens.
pub fn tokenize(text: &str) -> Vec<String> {
    let sentences = punkt::sentences(text).into_iter();
    sentences.flat_map(|sentence| python::split(&spaced(sentence)).map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn spaced(sentence: &str) -> String {
    let substitute = |steps: &[(Regex, &str)], text: String| {
        steps.iter().fold(text, |text, (regex, replacement)| regex.replace_all(&text, *replacement).into_owned())
    };
    let text = substitute(&BEFORE_PADDING, sentence.to_owned());
    substitute(&AFTER_PADDING, format!(" {text} "))
}

type Steps = LazyLock<Vec<(Regex, &'static str)>>;

fn compile(steps: &[(&str, &'static str)]) -> Vec<(Regex, &'static str)> {
    steps.iter().map(|(pattern, replacement)| (Regex::new(pattern).expect("a valid pattern"), *replacement)).collect()
}

/// Opening quotes, punctuation, brackets, dashes.
static BEFORE_PADDING: Steps = LazyLock::new(|| {
    compile(&[
        (r"[«“‘„]|`+", " $0 "),
        (r#"^""#, "``"),
        (r"``", " $0 "),
        (r#"([ (\[{<])(?:"|'{2})"#, "$1 `` "),
        // An apostrophe before a single letter, unless it is a clitic: 's, 't, ...
        (r"'([[\p{L}\p{N}_]--[mtsdnMTSDNſ]])\b{end-half}", "' $1"),
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
static AFTER_PADDING: Steps = LazyLock::new(|| {
    compile(&[
        (r"[»”’]", " $0 "),
        (r"''", " $0 "),
        (r#"""#, " '' "),
        (r"([^' ])('[sS]|'[mM]|'[dD]|') ", "$1 $2 "),
        (r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", "$1 $2 "),
        (r"(?i)\b(can)(not)\b", " $1 $2 "),
        (r"(?i)\b(d)('ye)\b", " $1 $2 "),
        (r"(?i)\b(gim)(me)\b", " $1 $2 "),
        (r"(?i)\b(gon)(na)\b", " $1 $2 "),
        (r"(?i)\b(got)(ta)\b", " $1 $2 "),
        (r"(?i)\b(lem)(me)\b", " $1 $2 "),
        (r"(?i)\b(more)('n)\b", " $1 $2 "),
        (r"(?i)\b(wan)(na)([\s\x1c-\x1f])", " $1 $2 $3"),
        (r"(?i) ('t)(is)\b", " $1 $2 "),
        (r"(?i) ('t)(was)\b", " $1 $2 "),
    ])
});
