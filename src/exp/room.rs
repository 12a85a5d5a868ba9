//! How many conditions answer side by side: as many as fit into memory and still increase the speed.

use std::str::FromStr;
use std::sync::Arc;

use super::{Demands, Plan};
use crate::engine::Pace;
use crate::llama::{ContextSettings, MemoryUse, Model, free_memory};
use crate::size::Size;
use crate::{Error, Result};

/// How many conditions of an example answer side by side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Parallel {
    /// As many as fit into memory and, as measured at the start, increase the speed.
    #[default]
    Auto,
    /// This many.
    Lanes(u32),
}

impl Parallel {
    /// With more lanes than this a batch gains little, even on a GPU.
    const ENOUGH: u32 = 64;

    /// The number of lanes for examples with this many trials, before memory and speed are considered.
    fn most(self, trials_per_example: usize) -> u32 {
        match self {
            Parallel::Lanes(lanes) => lanes,
            Parallel::Auto => u32::try_from(trials_per_example).unwrap_or(u32::MAX).clamp(1, Self::ENOUGH),
        }
    }
}

impl FromStr for Parallel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.parse() {
            _ if text == "auto" => Ok(Parallel::Auto),
            Ok(lanes @ 1..=255) => Ok(Parallel::Lanes(lanes)),
            _ => Err(Error::input(format!("`{text}` is neither a number from 1 to 255 nor auto"))),
        }
    }
}

/// The memory and the lanes that a plan may take.
pub struct Room {
    /// The model, loaded [dry](crate::llama::LoadSettings::dry): predictions then allocate nothing.
    pub dry: Arc<Model>,
    /// What the conditions require.
    pub demands: Demands,
    /// How llama.cpp computes. Its number of positions is the least that the plan's context has.
    pub context: ContextSettings,
    /// How many conditions answer side by side.
    pub parallel: Parallel,
    /// The most memory to take; without a limit, `Parallel::Auto` stays within the free memory.
    pub memory_limit: Option<Size>,
}

impl Room {
    /// The context for a plan.
    pub fn context(&self, plan: &Plan) -> ContextSettings {
        plan.context(self.demands, self.context.clone())
    }

    /// Sets the number of conditions of a plan that answer side by side, within the memory. Returns the memory that the
    /// process will take.
    ///
    /// # Errors
    /// If the chosen number, or with [`Parallel::Auto`] a single condition, exceeds the limit; and as
    /// [`MemoryUse::predict`].
    pub fn fit(&self, plan: &mut Plan) -> Result<MemoryUse> {
        let auto = self.parallel == Parallel::Auto;
        let free = free_memory();
        let fits = |memory: &MemoryUse| match self.memory_limit {
            Some(limit) => memory.total() <= limit.0,
            None => !auto || memory.fits(free),
        };
        let most = self.parallel.most(plan.most_beside());
        let memory = self.set(plan, most)?;
        if fits(&memory) {
            return Ok(memory);
        }
        let mut least = most;
        if auto {
            // More lanes never take less memory.
            let (mut fitting, mut too_many) = (0, most);
            while too_many - fitting > 1 {
                let middle = fitting.midpoint(too_many);
                let fits = fits(&self.set(plan, middle)?);
                *(if fits { &mut fitting } else { &mut too_many }) = middle;
            }
            if fitting > 0 {
                return self.set(plan, fitting);
            }
            least = 1;
        }
        let memory = self.set(plan, least)?;
        // The free memory that the system reports is a guess; a limit is exact.
        let Some(limit) = self.memory_limit else { return Ok(memory) };
        let needed = Size(memory.total());
        let what = if least == 1 { "one condition".to_owned() } else { format!("{least} conditions side by side") };
        Err(Error::input(format!(
            "{what} would take {needed}, and --memory-limit is {limit}; lower --parallel, --n-predict or --batch, or \
             choose a smaller --kv-type or model"
        )))
    }

    /// With [`Parallel::Auto`], reduces the lanes of a [fitted](Room::fit) plan to those that make the run faster, as a
    /// measurement on `model` finds. Returns the memory that the process will take.
    ///
    /// # Errors
    /// As [`MemoryUse::predict`], or if decoding fails.
    pub fn measure(&self, plan: &mut Plan, model: &Arc<Model>) -> Result<MemoryUse> {
        let most = plan.settings.generation.parallel;
        if self.parallel != Parallel::Auto || most <= FEW {
            return self.set(plan, most);
        }
        let mut pace = Pace::new(model, self.context(plan), most)?;
        let lanes = go_on_while_it_gains(most, |lanes| {
            let speed = pace.tokens_per_second(lanes)?;
            tracing::info!("{lanes} conditions side by side: {speed:.1} tokens/s");
            Ok(speed)
        })?;
        self.set(plan, lanes)
    }

    /// Sets the number of lanes, and predicts the memory.
    fn set(&self, plan: &mut Plan, lanes: u32) -> Result<MemoryUse> {
        plan.settings.generation.parallel = lanes;
        let n_seq = 1 + plan.lanes();
        let settings = ContextSettings { n_seq, ..self.context(plan) };
        let dense = plan.dense_context(&settings);
        let with = |kv_type| {
            let settings = std::iter::once(&settings).chain(&dense);
            settings.map(move |settings| ContextSettings { kv_type, ..settings.clone() })
        };
        MemoryUse::predict(&self.dry, plan.kv_types().into_iter().flat_map(with))
    }
}

/// With fewer lanes than this, measuring is not worth its time.
const FEW: u32 = 8;
/// The required speedup for twice as many lanes.
const GAIN: f64 = 1.1;

/// Doubles the number of lanes as long as this decodes a tenth more tokens per second.
fn go_on_while_it_gains(most: u32, mut speed: impl FnMut(u32) -> Result<f64>) -> Result<u32> {
    let (mut lanes, mut fastest) = (FEW, speed(FEW)?);
    while lanes < most {
        let more = most.min(lanes * 2);
        let faster = speed(more)?;
        if faster < fastest * GAIN {
            break;
        }
        (lanes, fastest) = (more, faster);
    }
    Ok(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_doubled_as_long_as_that_gains() {
        let chosen = |most, speed: fn(u32) -> f64| go_on_while_it_gains(most, |lanes| Ok(speed(lanes))).unwrap();
        assert_eq!(chosen(64, f64::from), 64, "bound by memory bandwidth: all");
        assert_eq!(chosen(50, f64::from), 50);
        assert_eq!(chosen(64, |_| 46.0), 8, "bound by arithmetic: no more than it takes");
        assert_eq!(chosen(64, |lanes| f64::from(lanes.min(20))), 32);
    }
}
