//! Whether the model has heard and forgotten the evicted tokens, or has never heard them.

use super::{Axis, AxisArgs, Condition};
use crate::Result;
use crate::evict::words;

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

/// `--memory`.
#[derive(Debug, Clone, clap::Args)]
pub struct MemoryArgs {
    /// `kv`: the model reads the whole prompt, then entries are evicted. `text`: the model reads only the tokens that
    /// `kv` keeps, as a fresh prompt, and never sees the others.
    #[arg(long, help_heading = "Eviction", value_name = "MODE,..", value_delimiter = ',', default_value = "kv")]
    pub memory: Vec<Memory>,
}

impl Axis for Memory {
    type Args = MemoryArgs;
    const NAME: &'static str = "memory";
    const QUESTION: &'static str = "heard and forgotten (kv) against never heard (text)";

    fn values(args: &AxisArgs) -> Result<Vec<Self>> {
        Ok(args.memory.memory.clone())
    }

    fn suffix(&self, _condition: &Condition) -> Option<String> {
        (*self != Self::default()).then(|| format!("/{self}"))
    }

    fn words(&self) -> Option<String> {
        (*self != Self::default()).then(|| self.to_string())
    }

    fn methods(&self, _condition: &Condition) -> Option<String> {
        (*self == Memory::Text)
            .then(|| "Text-only conditions read the surviving tokens alone as a fresh prompt.".to_owned())
    }
}
