//! Keys that must not be seen.

use std::fmt;

/// An API key. It can be sent, and in no way shown.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes a key as the environment holds it; white space around it is none of it. `None` if nothing is left.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Secret(text.to_owned()))
    }

    /// The key itself, for the one header it belongs into.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// `text` without the key: a server may echo what it was sent.
    pub(super) fn redact(&self, text: String) -> String {
        if text.contains(&self.0) { text.replace(&self.0, "(secret)") } else { text }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let key = Secret::new(" sk-1234 \n").unwrap();
        assert_eq!(format!("{key} {key:?}"), "(secret) (secret)");
        assert_eq!(key.redact("bad key sk-1234!".into()), "bad key (secret)!");
        assert!(Secret::new(" \n").is_none());
    }
}
