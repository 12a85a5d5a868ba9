//! The spans that survive whatever the policy says.

use super::{Axis, AxisArgs, Condition};
use crate::Result;
use crate::evict::Protect;

/// `--protect`.
#[derive(Debug, Clone, clap::Args)]
pub struct ProtectArgs {
    /// Parts of the prompt that are never evicted: bos, sink:N (the first N positions), template, system, instruction,
    /// question, none.
    #[arg(long, help_heading = "Eviction", value_name = "SPAN,..", default_value = "none")]
    pub protect: Protect,
}

impl Axis for Protect {
    type Args = ProtectArgs;
    const NAME: &'static str = "protect";
    const QUESTION: &'static str = "protection";

    fn values(args: &AxisArgs) -> Result<Vec<Self>> {
        Ok(vec![args.protect.protect.clone()])
    }

    fn options(&self, _condition: &Condition) -> Vec<String> {
        if self.is_none() { Vec::new() } else { vec!["--protect".to_owned(), self.items().join(",")] }
    }

    fn words(&self) -> Option<String> {
        (!self.is_none()).then(|| format!("protecting {self}"))
    }

    fn methods(&self, _condition: &Condition) -> Option<String> {
        (!self.is_none()).then(|| format!("Spans of {} were protected from eviction.", self.items().join(", ")))
    }
}
