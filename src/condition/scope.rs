//! Which part of the prompt is compressed.

use super::{Axis, AxisArgs, Condition};
use crate::Result;
use crate::evict::words;

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

/// `--scope`.
#[derive(Debug, Clone, clap::Args)]
pub struct ScopeArgs {
    /// Part of the prompt from which entries are evicted: the whole `prompt`; or only the `system` text or the
    /// `context`, before the model reads what follows.
    #[arg(long, help_heading = "Eviction", value_name = "SPAN,..", value_delimiter = ',', default_value = "prompt")]
    pub scope: Vec<Scope>,
}

impl Axis for Scope {
    type Args = ScopeArgs;
    const NAME: &'static str = "scope";
    const QUESTION: &'static str = "scopes";

    fn values(args: &AxisArgs) -> Result<Vec<Self>> {
        Ok(args.scope.scope.clone())
    }

    fn methods(&self, _condition: &Condition) -> Option<String> {
        (*self != Scope::Prompt).then(|| {
            format!("With scope {self} only that part of the prompt was compressed, before what follows it was read.")
        })
    }
}
