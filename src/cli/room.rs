//! How many conditions answer side by side: as many as fit into memory and still increase the speed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::doctor;
use crate::engine::Pace;
use crate::exp::Plan;
use crate::llama::{ContextSettings, MemoryUse, Model};
use crate::{Error, Result};

const UNITS: [(&str, u32); 8] =
    [("KIB", 10), ("MIB", 20), ("GIB", 30), ("K", 10), ("M", 20), ("G", 30), ("T", 40), ("TIB", 40)];

/// An amount of memory as one types it: `10GiB`, `512M`, `1.5g`, or bytes. Units are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub u64);

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let upper = text.trim().to_ascii_uppercase();
        let end = upper.find(|letter: char| !(letter.is_ascii_digit() || letter == '.')).unwrap_or(upper.len());
        let (number, unit) = (&upper[..end], upper[end..].trim());
        let shift = match unit {
            "" | "B" => Some(0),
            unit => UNITS.iter().find(|(name, _)| *name == unit).map(|(_, shift)| *shift),
        };
        let bytes = number.parse().ok().zip(shift).map(|(number, shift): (f64, u32)| number * 2f64.powi(shift as i32));
        match bytes {
            Some(bytes) if (1.0..1e18).contains(&bytes) => Ok(Size(bytes as u64)),
            _ => Err(Error::input(format!("`{text}` is no amount of memory; write 10GiB, 512MiB or bytes"))),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} GiB", self.0 as f64 / f64::from(1u32 << 30))
    }
}

/// Sets the number of conditions of a plan that answer side by side, and returns the memory that the process will then
/// take. `dry` is the model, loaded [dry](crate::llama::LoadSettings::dry).
///
/// # Errors
/// As [`MemoryUse::predict`].
pub(super) fn set(
    plan: &mut Plan,
    dry: &Arc<Model>,
    context: impl Fn(&Plan) -> ContextSettings,
    lanes: u32,
) -> Result<MemoryUse> {
    plan.settings.generation.parallel = lanes;
    let n_seq = 1 + lanes + u32::from(plan.settings.generation.fidelity);
    let settings = ContextSettings { n_seq, ..context(plan) };
    let dense = plan.dense_context(&settings);
    let mut all: Option<MemoryUse> = None;
    for kv_type in plan.kv_types() {
        for settings in std::iter::once(&settings).chain(&dense) {
            let memory = MemoryUse::predict(dry, ContextSettings { kv_type, ..settings.clone() })?;
            all = Some(all.map_or(memory, |all| all.beside(&memory)));
        }
    }
    Ok(all.expect("a plan has conditions"))
}

/// Chooses the number of conditions of a plan that answer side by side. It never exceeds the plan's own number; with
/// `ours_to_choose` it is the largest that fits into `limit`, or, without one, into the free memory. Returns the memory
/// that the process will take.
///
/// # Errors
/// If the plan's number exceeds the limit, or if not even one condition fits.
pub(super) fn fit(
    plan: &mut Plan,
    dry: &Arc<Model>,
    context: impl Fn(&Plan) -> ContextSettings,
    ours_to_choose: bool,
    limit: Option<Size>,
) -> Result<MemoryUse> {
    let predict = |plan: &mut Plan, lanes: u32| set(plan, dry, &context, lanes);
    let free = doctor::free_memory();
    let fits = |memory: &MemoryUse| match limit {
        Some(limit) => memory.total() <= limit.0,
        None => !ours_to_choose || doctor::fits(memory, free),
    };
    let asked = plan.settings.generation.parallel;
    let memory = predict(plan, asked)?;
    if fits(&memory) {
        return Ok(memory);
    }
    let mut least = asked;
    if ours_to_choose {
        // More lanes never take less memory.
        let (mut fitting, mut too_many) = (0, asked);
        while too_many - fitting > 1 {
            let middle = fitting.midpoint(too_many);
            let fits = fits(&predict(plan, middle)?);
            *(if fits { &mut fitting } else { &mut too_many }) = middle;
        }
        if fitting > 0 {
            return predict(plan, fitting);
        }
        least = 1;
    }
    let memory = predict(plan, least)?;
    // The free memory that the system reports is a guess; a limit is exact.
    let Some(limit) = limit else { return Ok(memory) };
    let needed = Size(memory.total());
    let conditions = if least == 1 { "one condition".to_owned() } else { format!("{least} conditions side by side") };
    Err(Error::input(format!(
        "{conditions} would take {needed}, and --memory-limit is {limit}; lower --parallel, --n-predict or --batch, or \
         choose a smaller --kv-type or model"
    )))
}

/// With fewer lanes than this, measuring is not worth its time.
const FEW: u32 = 8;
/// The required speedup for twice as many lanes.
const GAIN: f64 = 1.1;

/// The number of lanes, at most `most`, that is worth using: it doubles as long as this decodes a tenth more tokens per
/// second.
///
/// # Errors
/// If decoding fails.
pub(super) fn worthwhile(model: &Arc<Model>, context: ContextSettings, most: u32) -> Result<u32> {
    if most <= FEW {
        return Ok(most);
    }
    let mut pace = Pace::new(model, context, most)?;
    go_on_while_it_gains(most, |lanes| {
        let speed = pace.tokens_per_second(lanes)?;
        tracing::info!("{lanes} conditions side by side: {speed:.1} tokens/s");
        Ok(speed)
    })
}

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

    #[test]
    fn sizes_are_read_as_they_are_typed() {
        let size = |text: &str| text.parse::<Size>().map(|size| size.0);
        assert_eq!(size("10GiB").unwrap(), 10 << 30);
        assert_eq!(size(" 1.5 g ").unwrap(), 3 << 29);
        assert_eq!(size("512M").unwrap(), 512 << 20);
        assert_eq!(size("4096").unwrap(), 4096);
        for bad in ["", "x", "-1", "5 apples", "1e9", "0", "999999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
