//! The data sets that are part of the binary.

use super::{Example, parse};
use crate::{Error, Result};

/// A bundled data set.
#[derive(Debug, Clone, Copy)]
pub struct Bundled {
    /// The name for `--data`.
    pub name: &'static str,
    /// A summary in one line, for lists.
    pub summary: &'static str,
    /// The contents as JSONL.
    pub jsonl: &'static str,
}

/// All bundled data sets.
pub static BUNDLED: &[Bundled] = &[
    Bundled {
        name: "demo",
        summary: "prompts in the language of the embedded model",
        jsonl: include_str!("../../data/demo.jsonl"),
    },
    Bundled {
        name: "multi",
        summary: "hand-written prompts of 3 to 8 instructions for real models",
        jsonl: include_str!("../../data/multi.jsonl"),
    },
    Bundled {
        name: "chats",
        summary: "hand-written chats of 4 to 6 turns with standing rules, some of them revoked, for real models",
        jsonl: include_str!("../../data/chats.jsonl"),
    },
    Bundled {
        name: "chats-small",
        summary: "chats of 8 turns that ask for facts which the system turn states, or have a language, for small real models",
        jsonl: include_str!("../../data/chats-small.jsonl"),
    },
    Bundled {
        name: "chats-demo",
        summary: "chats of 6 turns with standing rules in the language of the embedded model",
        jsonl: include_str!("../../data/chats-demo.jsonl"),
    },
    Bundled {
        name: "recall",
        summary: "facts hidden in stories, and a question about them, for small and large models that chat",
        jsonl: include_str!("../../data/recall.jsonl"),
    },
    Bundled {
        name: "recall-completion",
        summary: "the same as texts to go on with, for models without a chat template",
        jsonl: include_str!("../../data/recall-completion.jsonl"),
    },
];

/// The names of all bundled data sets, for messages and help.
pub fn names() -> String {
    BUNDLED.iter().map(|set| set.name).collect::<Vec<_>>().join(", ")
}

/// The bundled data set with that name; `None` if there is none.
pub fn find(name: &str) -> Option<&'static Bundled> {
    BUNDLED.iter().find(|set| set.name == name)
}

impl Bundled {
    /// Its examples.
    pub fn examples(&self) -> Result<Vec<Example>> {
        parse(self.jsonl, self.name).map_err(|error| Error::failed(format!("bundled data set: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bundled_set_is_valid() {
        for set in BUNDLED {
            let examples = set.examples().unwrap();
            assert!(examples.len() >= 60, "{} has {} examples", set.name, examples.len());
            for example in &examples {
                for instruction in &example.instructions {
                    assert!(instruction.text.is_some(), "{}: every bundled instruction has a span", example.id);
                }
            }
        }
    }
}
