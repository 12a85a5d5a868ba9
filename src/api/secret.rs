//! Secret keys.

use std::fmt;

/// An API key. It can be sent, but not shown.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes a key from the environment, without the white space around it. `None` if nothing remains.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Secret(text.to_owned()))
    }

    /// The key itself, for the one header that needs it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// `text` without the key: a server may repeat what it received.
    pub(crate) fn redact(&self, text: String) -> String {
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
