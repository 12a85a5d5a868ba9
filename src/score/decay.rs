//! Decay: whether an answer is still language. With a cut cache a model may repeat itself or say nothing.
//!
//! ```
//! use kvllama::score::Decay;
//!
//! let looping = Decay::of("The owl is big. The owl is big. The owl is big. The owl is big. The owl is big.");
//! assert!(looping.repetition > 0.7 && looping.is_broken());
//! assert!(!Decay::of("The owl is big and soft; at night it hunts mice.").is_broken());
//! assert!(Decay::of(" ...").is_broken());
//! ```

use std::collections::HashSet;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// An answer with this share of repeated 4-grams or more is broken: half of its text is repetition.
pub const REPETITIVE: f64 = 0.5;

/// Measures of decay of one answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decay {
    /// Share of its 4-grams of words (and punctuation marks) that occur earlier in it, in [0, 1]; 0 for a short answer.
    pub repetition: f64,
    /// Bytes of the answer divided by those of its DEFLATE stream: 1 to 2.5 for prose, 5 and more for a loop.
    pub compression: f64,
    /// Whether it contains no letter and no digit.
    pub empty: bool,
}

impl Decay {
    /// Measures an answer.
    pub fn of(response: &str) -> Self {
        let empty = !response.chars().any(char::is_alphanumeric);
        Decay { repetition: repetition(response), compression: compression(response), empty }
    }

    /// Whether the answer is empty, or its repetition is at least [`REPETITIVE`].
    pub fn is_broken(&self) -> bool {
        self.empty || self.repetition >= REPETITIVE
    }
}

/// See [`Decay::repetition`].
pub fn repetition(response: &str) -> f64 {
    let words = words(response);
    let mut seen = HashSet::new();
    let repeated = words.windows(4).filter(|gram| !seen.insert(*gram)).count();
    let grams = words.len().saturating_sub(3);
    if grams == 0 { 0.0 } else { repeated as f64 / grams as f64 }
}

/// Runs of letters and digits, and every other visible character as a word of its own.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, letter) in text.char_indices() {
        if letter.is_alphanumeric() {
            start.get_or_insert(at);
            continue;
        }
        words.extend(start.take().map(|start| &text[start..at]));
        if !letter.is_whitespace() {
            words.push(&text[at..at + letter.len_utf8()]);
        }
    }
    words.extend(start.map(|start| &text[start..]));
    words
}

fn compression(response: &str) -> f64 {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(response.as_bytes()).expect("memory does not fail");
    let compressed = encoder.finish().expect("memory does not fail");
    response.len() as f64 / compressed.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetition_is_the_share_of_4_grams_that_were_there_before() {
        assert_eq!(words("It's 3 o'clock, äh!"), ["It", "'", "s", "3", "o", "'", "clock", ",", "äh", "!"]);
        for (text, share) in [
            ("", 0.0),
            ("a b c", 0.0),
            ("a b c d", 0.0),
            ("a b c d e a b c d", 1.0 / 6.0),
            ("no no no no no no no no", 4.0 / 5.0),
            ("!!!!!!!!!!!!", 8.0 / 9.0),
        ] {
            assert!((repetition(text) - share).abs() < 1e-12, "{text}: {}", repetition(text));
        }
        assert!(Decay::of(&"word ".repeat(50)).compression > 5.0);
    }
}
