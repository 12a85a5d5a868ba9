//! What keeps a set of positions of its own, and words in general.

/// An enum whose variants are written as fixed words in the CLI, in condition names and in the CSV.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident ($what:literal) { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize,
        )]
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
            type Err = $crate::Error;

            fn from_str(text: &str) -> $crate::Result<Self> {
                match text {
                    $($word => Ok($name::$variant),)+
                    _ => Err($crate::Error::input(format!(
                        concat!("`{}` is not a ", $what, "; known are {}"), text, [$($word),+].join(", ")
                    ))),
                }
            }
        }
    };
}

pub(crate) use words;

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
