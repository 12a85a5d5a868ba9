//! NLTK's Punkt sentence splitter (Kiss and Strunk 2006) with its trained English parameters,
//! as `nltk.tokenize.punkt` of NLTK 3.8.1 applies it.
//!
//! A `.`, `?` or `!` before a space or before closing punctuation may end a sentence. Whether it does depends on its
//! context, from the word before it to the word after it: the full stops of abbreviations, initials, ordinals and
//! ellipses end a sentence only if the next word suggests it.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::LazyLock;

use super::python::{is_space, is_word};
use super::regex;

/// The sentences of a text, in order.
pub fn sentences(text: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut pieces = pieces(text).into_iter().peekable();
    let mut skip = 0;
    while let Some(piece) = pieces.next() {
        let start = piece.start + skip;
        // Quotes and brackets that close a sentence are at the beginning of the next piece.
        let closing = pieces.peek().and_then(|next| Some((next, closing(&text[next.clone()])?)));
        let end = closing.map_or(piece.end, |(next, closing)| next.start + closing.marks);
        skip = closing.map_or(0, |(_, closing)| closing.length);
        if start < end {
            sentences.push(&text[start..end]);
        }
    }
    sentences
}

/// The text, cut after each full stop that ends a sentence.
fn pieces(text: &str) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for stop in stops(text) {
        if ends_sentence(&text[stop.context]) {
            pieces.push(start..stop.end);
            start = stop.resume;
        }
    }
    pieces.push(start..text.trim_end_matches(is_space).len().max(start));
    pieces
}

#[derive(Clone, Copy)]
struct Closing {
    /// Number of bytes of the closing marks.
    marks: usize,
    /// Number of bytes of the closing marks and the white space after them.
    length: usize,
}

/// Closing quotes and brackets that stand alone at the beginning of a piece.
fn closing(piece: &str) -> Option<Closing> {
    let rest = piece.trim_start_matches(['"', '\'', ')', ']', '}']);
    let marks = piece.len() - rest.len();
    let spaces = rest.len() - rest.trim_start_matches(is_space).len();
    let alone = spaces > 0 || rest.is_empty() || rest.starts_with("--");
    (marks > 0 && alone).then_some(Closing { marks, length: marks + spaces })
}

/// A `.`, `?` or `!` that may end a sentence.
struct Stop {
    /// From the word before it to the end of the word after it.
    context: Range<usize>,
    end: usize,
    /// Where the next sentence would begin.
    resume: usize,
}

/// All stops. Of a run only the last counts: in `Stop!!! Now` the third mark.
fn stops(text: &str) -> Vec<Stop> {
    let mut stops: Vec<Stop> = Vec::new();
    let mut word = 0..0;
    for (at, _) in text.match_indices(['.', '?', '!']) {
        let Some((resume, context_end)) = behind(text, at + 1) else { continue };
        // NLTK looks only for ASCII white space, and not at the very first place.
        let space = text[word.end..at].rfind([' ', '\t', '\n', '\r', '\x0b', '\x0c']).filter(|space| *space > 0);
        let start = space.map_or(word.start, |space| word.end + space + 1);
        if start < word.end {
            stops.pop();
        }
        word = start..at;
        stops.push(Stop { context: start..context_end, end: at + 1, resume });
    }
    stops
}

/// The text after a stop: where the next sentence would begin, and where the context ends.
fn behind(text: &str, end: usize) -> Option<(usize, usize)> {
    let rest = &text[end..];
    let next = rest.chars().next()?;
    if is_non_word(next) {
        return Some((end, end + next.len_utf8()));
    }
    let word = rest.strip_prefix(is_space)?.trim_start_matches(is_space);
    let resume = text.len() - word.len();
    let length = word.find(is_space).unwrap_or(word.len());
    (length > 0).then_some((resume, resume + length))
}

/// Whether the context contains the end of a sentence before its last token.
fn ends_sentence(context: &str) -> bool {
    let mut tokens: Vec<Token> = context.split('\n').flat_map(tokens).map(Token::new).collect();
    for i in 1..tokens.len() {
        let (before, after) = tokens.split_at_mut(i);
        before[i - 1].reconsider(&after[0]);
    }
    tokens.split_last().is_some_and(|(_, tokens)| tokens.iter().any(|token| token.ends_sentence))
}

struct Token<'a> {
    text: &'a str,
    /// The word in lower case, with all numbers replaced by the same mark.
    kind: String,
    is_abbreviation: bool,
    is_ellipsis: bool,
    ends_sentence: bool,
}

impl<'a> Token<'a> {
    /// Classifies the token by itself.
    fn new(text: &'a str) -> Self {
        let lower = text.to_lowercase();
        let is_number = regex!(r"^-?[.,]?\d[\d,.\-]*$").is_match(&lower);
        let kind = if is_number { "##number##".to_owned() } else { lower };
        let mut token = Token { text, kind, is_abbreviation: false, is_ellipsis: false, ends_sentence: false };
        if matches!(text, "." | "?" | "!") {
            token.ends_sentence = true;
        } else if text.len() > 1 && text.bytes().all(|byte| byte == b'.') {
            token.is_ellipsis = true;
        } else if text.ends_with('.') && !text.ends_with("..") {
            let word = text[..text.len() - 1].to_lowercase();
            let last = word.rsplit('-').next().unwrap_or_default();
            let known = &ENGLISH.abbreviations;
            token.is_abbreviation = known.contains(word.as_str()) || known.contains(last);
            token.ends_sentence = !token.is_abbreviation;
        }
        token
    }

    /// Corrects the classification with the next token.
    fn reconsider(&mut self, next: &Token) {
        if !self.text.ends_with('.') {
            return;
        }
        let kind = self.kind_without_period();
        let next_kind = next.kind_within_sentence();
        let is_initial = self.is_initial();
        let next_starts = next.starts_sentence();
        if ENGLISH.collocations.contains(&(kind, next_kind)) {
            self.set_abbreviation();
            return;
        }
        if (self.is_abbreviation || self.is_ellipsis) && !is_initial {
            let is_starter = next.is_upper() && ENGLISH.sentence_starters.contains(next_kind);
            if next_starts == Some(true) || is_starter {
                self.ends_sentence = true;
                return;
            }
        }
        let always_upper = || is_initial && next.is_upper() && !ENGLISH.orthography.contains_key(next_kind);
        if (is_initial || kind == "##number##")
            && (next_starts == Some(false) || (next_starts.is_none() && always_upper()))
        {
            self.set_abbreviation();
        }
    }

    fn set_abbreviation(&mut self) {
        self.ends_sentence = false;
        self.is_abbreviation = true;
    }

    /// Whether the spelling shows that a sentence starts here; `None` if it does not decide.
    fn starts_sentence(&self) -> Option<bool> {
        if matches!(self.text, ";" | ":" | "," | "." | "!" | "?") {
            return Some(false);
        }
        let seen = ENGLISH.orthography.get(self.kind_within_sentence());
        if self.is_upper() && matches!(seen, Some(Seen::Lower | Seen::LowerFirst)) {
            Some(true)
        } else if self.is_lower() && !matches!(seen, Some(Seen::LowerFirst)) {
            Some(false)
        } else {
            None
        }
    }

    fn kind_without_period(&self) -> &str {
        self.kind.strip_suffix('.').filter(|kind| !kind.is_empty()).unwrap_or(&self.kind)
    }

    fn kind_within_sentence(&self) -> &str {
        if self.ends_sentence { self.kind_without_period() } else { &self.kind }
    }

    /// One letter and a full stop.
    fn is_initial(&self) -> bool {
        let mut chars = self.text.chars();
        let is_letter = chars.next().is_some_and(|c| is_word(c) && !is_digit(c));
        is_letter && chars.as_str() == "."
    }

    fn is_upper(&self) -> bool {
        self.text.starts_with(char::is_uppercase)
    }

    fn is_lower(&self) -> bool {
        self.text.starts_with(char::is_lowercase)
    }
}

fn is_digit(c: char) -> bool {
    regex!(r"\d").is_match(c.encode_utf8(&mut [0; 4]))
}

/// The tokens of a line: words with their full stops, and punctuation.
fn tokens(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(is_space);
        let (token, after) = rest.split_at(token_length(rest)?);
        rest = after;
        Some(token)
    })
}

fn token_length(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    if let Some(length) = punctuation_length(text) {
        return Some(length);
    }
    if r#"("`{[:;&#*@)}]-,"#.contains(first) {
        return Some(first.len_utf8());
    }
    let ends = |at: usize| {
        let rest = &text[at..];
        ends_word(rest) || rest.strip_prefix(',').is_some_and(|rest| rest.is_empty() || ends_word(rest))
    };
    text.char_indices().map(|(at, _)| at).skip(1).find(|at| ends(*at)).or(Some(text.len()))
}

/// Whether a word ends where the rest begins, ignoring a comma.
fn ends_word(rest: &str) -> bool {
    rest.starts_with(|c| is_space(c) || is_non_word(c)) || punctuation_length(rest).is_some()
}

/// Marks that cannot be inside a word.
fn is_non_word(c: char) -> bool {
    r#")";}]*:@'({[?!"#.contains(c)
}

/// The length of a dash `--` or an ellipsis `...` or `. . .` at the beginning of the text.
fn punctuation_length(text: &str) -> Option<usize> {
    if !text.starts_with(['-', '.']) {
        return None;
    }
    regex!(r"^(?:-{2,}|\.{2,}|(?:\.[\s\x1c-\x1f]){2,}\.)").find(text).map(|found| found.len())
}

/// How a word occurred in training, if it ever occurred in lower case.
enum Seen {
    /// Also with a capital within a sentence.
    Both,
    /// Never with a capital within a sentence.
    Lower,
    /// Never with a capital at all, and in lower case at the start of a sentence.
    LowerFirst,
}

struct Parameters {
    abbreviations: HashSet<&'static str>,
    collocations: HashSet<(&'static str, &'static str)>,
    sentence_starters: HashSet<&'static str>,
    orthography: HashMap<&'static str, Seen>,
}

static ENGLISH: LazyLock<Parameters> = LazyLock::new(|| {
    let file = include_str!("punkt_english.txt");
    let section = |name: &str| {
        let (_, rest) = file.split_once(&format!("\n[{name}]\n")).expect("a section of the parameters");
        rest.split("\n[").next().unwrap_or_default().split_ascii_whitespace()
    };
    let mut orthography = HashMap::new();
    orthography.extend(section("both").map(|word| (word, Seen::Both)));
    orthography.extend(section("lower").map(|word| (word, Seen::Lower)));
    orthography.extend(section("lower first").map(|word| (word, Seen::LowerFirst)));
    let collocations: Vec<&str> = section("collocations").collect();
    Parameters {
        abbreviations: section("abbreviations").collect(),
        collocations: collocations.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(),
        sentence_starters: section("sentence starters").collect(),
        orthography,
    }
});
