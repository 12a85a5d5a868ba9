//! Python's spaces, cases and word characters, where Rust's differ.

use super::regex;

/// `str.isspace`: Unicode's white space and the four ASCII separators. In patterns: `[\s\x1c-\x1f]`.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `str.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.split()`.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// `\w`: a letter, a number or an underscore. Rust's own `\w` also contains combining marks, and lacks `²`. In
/// patterns: `[\p{L}\p{N}_]`.
pub fn is_word(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    regex!(r"[\p{L}\p{N}]").is_match(c.encode_utf8(&mut [0; 4]))
}

/// `\b`: a word character on one side only.
pub fn is_word_boundary(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back().is_some_and(is_word);
    let after = text[at..].chars().next().is_some_and(is_word);
    before != after
}

/// `str.isupper`: at least one upper-case letter, and no lower-case or title-case letter.
pub fn is_upper(text: &str) -> bool {
    text.contains(char::is_uppercase) && !text.contains(|c: char| c.is_lowercase() || is_title(c))
}

/// `str.islower`: at least one lower-case letter, and no upper-case or title-case letter.
pub fn is_lower(text: &str) -> bool {
    text.contains(char::is_lowercase) && !text.contains(|c: char| c.is_uppercase() || is_title(c))
}

/// Unicode's category Lt, digraphs such as `ǅ`, as a complete list.
pub fn is_title(c: char) -> bool {
    matches!(c, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ' | '\u{1f88}'..='\u{1f8f}' | '\u{1f98}'..='\u{1f9f}'
        | '\u{1fa8}'..='\u{1faf}' | 'ᾼ' | 'ῌ' | 'ῼ')
}
