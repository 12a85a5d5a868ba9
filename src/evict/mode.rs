//! Where an eviction applies, and what becomes of the survivors.

use crate::{Error, Result};

/// An enum whose variants are written as fixed words in the CLI, in condition names and in the CSV.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident ($what:literal) { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// The word used in the CLI and in files.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
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

pub(in crate::evict) use words;

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

words! {
    /// What keeps a set of positions of its own.
    Granularity ("granularity") {
        /// All layers and heads keep the same positions; the others' cells are freed.
        #[default]
        Token = "token",
        /// Each layer keeps its own; the others are hidden, no cell is freed.
        Layer = "layer",
        /// Each layer and KV head keeps its own; the others are hidden, no cell is freed.
        Head = "head",
    }
}

words! {
    /// Which layers forget.
    Layers ("choice of layers") {
        /// All of them.
        #[default]
        All = "all",
        /// Those without a sliding window.
        Global = "global",
        /// Those with a sliding window.
        Local = "local",
    }
}

impl Layers {
    /// Whether a layer is among them.
    pub fn include(self, is_local: bool) -> bool {
        match self {
            Layers::All => true,
            Layers::Global => !is_local,
            Layers::Local => is_local,
        }
    }
}
