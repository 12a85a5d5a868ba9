//! The layers in which positions are evicted.

use super::{Axis, AxisArgs, Condition, needs_plain_modes};
use crate::Result;
use crate::evict::Layers;

/// `--layers`.
#[derive(Debug, Clone, clap::Args)]
pub struct LayersArgs {
    /// Layers in which positions are evicted: `all`, or only those without (`global`) or with (`local`) a sliding
    /// window.
    #[arg(long, help_heading = "Eviction", value_name = "WHICH,..", value_delimiter = ',', default_value = "all")]
    pub layers: Vec<Layers>,
}

impl Axis for Layers {
    type Args = LayersArgs;
    const NAME: &'static str = "layers";
    const QUESTION: &'static str = "layers that forget";

    fn values(args: &AxisArgs) -> Result<Vec<Self>> {
        Ok(args.layers.layers.clone())
    }

    fn words(&self) -> Option<String> {
        (*self != Self::default()).then(|| format!("{self} layers"))
    }

    fn methods(&self, _condition: &Condition) -> Option<String> {
        let with = if *self == Layers::Local { "with" } else { "without" };
        (*self != Self::default()).then(|| {
            format!("Under conditions named \"{self} layers\" only the layers {with} a sliding window forgot.")
        })
    }

    fn check(&self, condition: &Condition) -> Result<()> {
        if *self == Self::default() { Ok(()) } else { needs_plain_modes(Self::NAME, self, condition) }
    }
}
