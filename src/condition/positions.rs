//! The positions of the survivors after an eviction.

use super::{Axis, AxisArgs, Condition, Memory};
use crate::Result;
use crate::evict::words;

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

/// `--positions`.
#[derive(Debug, Clone, clap::Args)]
pub struct PositionsArgs {
    /// Positions of what survives: `keep` leaves them as they were, `compact` renumbers them from 0 on without gaps.
    #[arg(long, help_heading = "Eviction", value_name = "MODE,..", value_delimiter = ',', default_value = "keep")]
    pub positions: Vec<Positions>,
}

impl Axis for Positions {
    type Args = PositionsArgs;
    const NAME: &'static str = "positions";
    const QUESTION: &'static str = "position modes";

    fn values(args: &AxisArgs) -> Result<Vec<Self>> {
        Ok(args.positions.positions.clone())
    }

    fn settle(condition: &mut Condition, _args: &AxisArgs) {
        if condition.policy.policy().moves() {
            condition.positions = Positions::Compact;
        }
        // A prompt of what is kept alone has no gaps to close.
        if condition.memory == Memory::Text {
            condition.positions = Positions::Keep;
        }
    }

    fn suffix(&self, _condition: &Condition) -> Option<String> {
        (*self != Self::default()).then(|| format!("/{self}"))
    }

    fn words(&self) -> Option<String> {
        (*self != Self::default()).then(|| self.to_string())
    }

    fn methods(&self, _condition: &Condition) -> Option<String> {
        Some(match self {
            Positions::Keep => "Survivors kept their rotary positions.".to_owned(),
            Positions::Compact => {
                "In compact conditions survivors were moved together and their keys rotated to the new positions."
                    .to_owned()
            }
        })
    }
}
