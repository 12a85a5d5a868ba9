//! The layers in which positions are evicted.

use super::{Axis, AxisArgs, Condition, needs_plain_modes};
use crate::Result;
use crate::evict::Layers;

/// `--layers`.
#[derive(Debug, Clone, clap::Args)]
pub struct LayersArgs {
    /// Layers in which positions are evicted: `all`, or only those without (`global`) or with (`local`) a sliding
    /// window; or by number, such as 3, 0-5 or 0-5+9; or `each`: one condition a layer. In layers chosen by number
    /// positions are hidden without freeing memory.
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
        match self {
            Layers::All => None,
            Layers::Only(_) => Some(format!("layers {self}")),
            _ => Some(format!("{self} layers")),
        }
    }

    fn methods(&self, _condition: &Condition) -> Option<String> {
        let forgot = match self {
            Layers::All => return None,
            Layers::Local => "only the layers with a sliding window forgot",
            Layers::Global => "only the layers without a sliding window forgot",
            _ => {
                "only these layers (counted from 0) forgot: evicted positions were hidden from them, which frees no memory"
            }
        };
        Some(format!("Under conditions named \"{}\" {forgot}.", self.words()?))
    }

    fn check(&self, condition: &Condition) -> Result<()> {
        if *self == Self::default() { Ok(()) } else { needs_plain_modes(Self::NAME, self, condition) }
    }
}
