//! Tells whether Python's `json.loads` would succeed.

use serde::de::IgnoredAny;

/// An error, without its place, if Python's `json.loads` does not accept the text.
pub fn loads(text: &str) -> Result<(), String> {
    serde_json::from_str::<IgnoredAny>(&without_constants(text)).map(drop).map_err(|error| {
        let error = error.to_string();
        error.split(" at line ").next().unwrap_or_default().to_owned()
    })
}

/// Python also reads `NaN`, `Infinity` and `-Infinity`; here they become `null`.
fn without_constants(text: &str) -> String {
    let mut standard = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        let constant = ["NaN", "-Infinity", "Infinity"].into_iter().find(|name| !in_string && rest.starts_with(name));
        let length = match constant {
            Some(name) => {
                standard.push_str("null");
                name.len()
            }
            // An escaped quote does not end its string.
            None => {
                let length = match (in_string, c) {
                    (true, '\\') => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
                    _ => c.len_utf8(),
                };
                in_string ^= c == '"';
                standard.push_str(&rest[..length]);
                length
            }
        };
        rest = &rest[length..];
    }
    standard
}
