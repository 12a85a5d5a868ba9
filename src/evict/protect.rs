//! `--protect`: spans that survive whatever the policy says.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::span::{Label, Span};
use crate::{Error, Result};

/// What is protected in addition to the last cached position, such as `bos,sink:4,system`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Protect(BTreeSet<Item>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Item {
    Bos,
    Sink(usize),
    Template,
    System,
    Instruction,
    Question,
}

impl Item {
    fn covers(self, label: Label) -> bool {
        match self {
            Item::Bos => label == Label::Bos,
            Item::Template => label == Label::Template,
            Item::System => label == Label::System,
            Item::Instruction => matches!(label, Label::Instruction(_)),
            Item::Question => label == Label::Question,
            Item::Sink(_) => false,
        }
    }
}

impl Protect {
    /// Whether nothing is protected.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The protected items, as written on the command line.
    pub fn items(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// For each of `len` cached positions, whether it is protected.
    pub fn mask(&self, len: usize, spans: &[Span]) -> Vec<bool> {
        let mut mask = vec![false; len];
        for &item in &self.0 {
            if let Item::Sink(count) = item {
                mask[..count.min(len)].fill(true);
            }
            for span in spans.iter().filter(|span| item.covers(span.label)) {
                mask[span.start.min(len)..span.end.min(len)].fill(true);
            }
        }
        mask
    }
}

impl FromStr for Protect {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut items = BTreeSet::new();
        for item in text.split([',', '+']).map(str::trim).filter(|item| !item.is_empty() && *item != "none") {
            items.insert(match item {
                "bos" => Item::Bos,
                "template" => Item::Template,
                "system" => Item::System,
                "instruction" => Item::Instruction,
                "question" => Item::Question,
                _ => match item.strip_prefix("sink:").map(str::parse) {
                    Some(Ok(count)) => Item::Sink(count),
                    _ => {
                        return Err(Error::input(format!(
                            "`{item}` cannot be protected; known are bos, sink:N, template, system, instruction, \
                             question, none"
                        )));
                    }
                },
            });
        }
        Ok(Protect(items))
    }
}

impl fmt::Display for Protect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str("none");
        }
        f.write_str(&self.items().join("+"))
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Bos => f.write_str("bos"),
            Item::Sink(count) => write!(f, "sink:{count}"),
            Item::Template => f.write_str("template"),
            Item::System => f.write_str("system"),
            Item::Instruction => f.write_str("instruction"),
            Item::Question => f.write_str("question"),
        }
    }
}

impl TryFrom<String> for Protect {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Protect> for String {
    fn from(protect: Protect) -> Self {
        protect.to_string()
    }
}
