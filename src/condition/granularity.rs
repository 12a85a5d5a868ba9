//! The unit that keeps its own set of positions: the whole model, a layer, or a KV head.

use super::{Axis, AxisArgs, Condition, needs_plain_modes};
use crate::evict::Granularity;
use crate::{Error, Result};

/// `--granularity`.
#[derive(Debug, Clone, clap::Args)]
pub struct GranularityArgs {
    /// Free whole positions (`token`), or let each `layer` or each KV `head` keep its own, as the papers do: then nothing is freed.
    #[arg(long, help_heading = "Eviction", value_name = "UNIT,..", value_delimiter = ',', default_value = "token")]
    pub granularity: Vec<Granularity>,
}

impl Axis for Granularity {
    type Args = GranularityArgs;
    const NAME: &'static str = "granularity";
    const QUESTION: &'static str = "granularities";

    fn values(args: &AxisArgs) -> Result<Vec<Self>> {
        Ok(args.granularity.granularity.clone())
    }

    fn suffix(&self, _condition: &Condition) -> Option<String> {
        (*self != Self::default()).then(|| format!("/{self}"))
    }

    fn columns() -> &'static [&'static str] {
        &["granularity", "freed"]
    }

    fn cells(&self, condition: &Condition) -> Vec<String> {
        vec![self.to_string(), condition.frees().to_string()]
    }

    fn words(&self) -> Option<String> {
        (*self != Self::default()).then(|| format!("by {self}"))
    }

    fn methods(&self, _condition: &Condition) -> Option<String> {
        (*self != Self::default()).then(|| {
            let unit = if *self == Granularity::Head { "each KV head of each layer" } else { "each layer" };
            format!(
                "By {self}, {unit} kept positions of its own and the others were hidden from its attention, which frees no \
                 memory."
            )
        })
    }

    fn check(&self, condition: &Condition) -> Result<()> {
        let coarsest = condition.policy.policy().coarsest();
        if (*self as u8) < coarsest as u8 {
            let budget = if coarsest == Granularity::Head { "KV head" } else { "layer" };
            let or = if coarsest == Granularity::Head { "head" } else { "layer or head" };
            return Err(Error::input(format!(
                "{} gives each {budget} a budget of its own, which --granularity {self} cannot; run it with \
                 --granularity {or}",
                condition.policy
            )));
        }
        if *self == Self::default() { Ok(()) } else { needs_plain_modes(Self::NAME, self, condition) }
    }
}
