//! Where an eviction applies, and what becomes of the survivors.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// An enum whose variants are written as fixed words in the CLI, in condition names and in the CSV.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident ($what:literal) { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// The word used in the CLI and in files.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                match text {
                    $($word => Ok($name::$variant),)+
                    _ => Err(Error::input(format!(
                        concat!("`{}` is not a ", $what, "; known are {}"), text, [$($word),+].join(", ")
                    ))),
                }
            }
        }
    };
}

words! {
    /// What becomes of the survivors' positions.
    Positions ("positions mode") {
        /// They keep their RoPE positions; generation continues at `n-1`.
        #[default]
        Keep = "keep",
        /// They are moved to `0..k` and their keys rotated anew; generation continues at `k` (StreamingLLM's own rule).
        Compact = "compact",
    }
}

words! {
    /// What evicted tokens were to the model.
    Memory ("memory mode") {
        /// Heard and forgotten: read with the whole prompt, then evicted from the KV cache.
        #[default]
        Kv = "kv",
        /// Never heard: only the kept tokens are read, as a fresh prompt. The contrast control.
        Text = "text",
    }
}

words! {
    /// Which part of the prompt is compressed. What follows that part is read after the eviction.
    Scope ("scope") {
        /// All cached positions.
        #[default]
        Prompt = "prompt",
        /// The system text.
        System = "system",
        /// The context of the example.
        Context = "context",
    }
}
