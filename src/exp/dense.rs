//! Which conditions answer in dense lanes.
//!
//! In the shared cache of a prompt an evicted position still occupies its cell, and attention walks over all cells. In
//! a dense lane the survivors lie together in cells of their own, so an answer costs as much as what was kept; copying
//! them takes about as long as one token.

use serde::{Deserialize, Serialize};

use super::{Generation, Plan, kept_at_most};
use crate::condition::{Condition, Memory, Positions, Scope};
use crate::llama::{ContextSettings, Model, Prompt};

/// Whether conditions answer in dense lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Dense {
    /// Every condition that can.
    On,
    /// None.
    Off,
    /// Where it saves time: beside other conditions or where speed is measured, on long prompts of which half or less is
    /// kept.
    #[default]
    Auto,
}

/// Prompts shorter than this are not worth a second cache: attention is then a small part of the time.
const WORTHWHILE_FROM: usize = 1024;

/// For each condition of a plan the largest number of positions that it keeps, if it can answer in a dense lane.
#[derive(Debug, Default)]
pub(super) struct DenseSizes {
    kept: Vec<Option<usize>>,
    possible: bool,
}

impl DenseSizes {
    pub fn new(conditions: &[Condition], model: &Model) -> Self {
        DenseSizes { kept: vec![None; conditions.len()], possible: !model.rope_depends_on_size() }
    }

    /// Takes another prompt into account.
    pub fn add(&mut self, conditions: &[Condition], prompt: &Prompt, swa_full: bool) {
        for (kept, condition) in self.kept.iter_mut().zip(conditions) {
            let gathers = condition.everywhere()
                && !condition.is_full()
                && condition.memory == Memory::Kv
                && condition.budget.rolling().is_none()
                // A small cache of the window has lost what the text after the scope looks back on.
                && (swa_full || condition.scope == Scope::Prompt);
            if gathers && self.possible {
                *kept = kept_at_most(condition, prompt).max(*kept);
            }
        }
    }
}

impl Dense {
    /// Whether some conditions may answer in dense lanes, given the longest prompt.
    pub fn applies(self, generation: &Generation, longest_prompt: usize) -> bool {
        match self {
            Dense::On => true,
            Dense::Off => false,
            Dense::Auto => longest_prompt >= WORTHWHILE_FROM && (generation.parallel > 1 || generation.measure_speed),
        }
    }
}

impl Plan {
    /// Number of cells of each dense lane, and the number of conditions that answer there; `None` if there are none.
    pub fn dense(&self) -> Option<(u32, usize)> {
        let generation = &self.settings.generation;
        let longest = self.longest_prompt();
        if !generation.dense.applies(generation, longest) {
            return None;
        }
        let small = |kept: usize| generation.dense == Dense::On || 2 * kept <= longest;
        let is_dense: Vec<bool> = self.dense.kept.iter().map(|kept| kept.is_some_and(small)).collect();
        if !is_dense.contains(&true) {
            return None;
        }
        // Compacted conditions need cells of their own, here or in a context with streams, which excludes dense lanes.
        let is_dense = std::iter::zip(&self.settings.conditions, is_dense)
            .map(|(condition, dense)| dense || (condition.positions == Positions::Compact && !condition.is_full()));
        let mut sizes = std::iter::zip(is_dense, &self.dense.kept).filter(|(dense, _)| *dense).map(|(_, kept)| *kept);
        let n_conditions = sizes.clone().count();
        let largest = sizes.try_fold(0, |largest, kept| Some(kept?.max(largest)))?;
        let cells = largest.saturating_add(generation.n_predict);
        Some((u32::try_from(cells).unwrap_or(u32::MAX), n_conditions))
    }

    /// The context of the dense lanes beside `context`, which is that of the prompts.
    pub fn dense_context(&self, context: &ContextSettings) -> Option<ContextSettings> {
        let (n_ctx, _) = self.dense()?;
        let compacts = self.settings.conditions.iter().any(|condition| condition.positions == Positions::Compact);
        let n_seq = self.lanes();
        Some(ContextSettings { n_ctx, n_seq, streams: true, tap: false, swa_full: compacts, ..context.clone() })
    }
}
