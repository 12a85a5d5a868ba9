//! How many conditions fit side by side into memory.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

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

/// Chooses how many conditions of a plan answer side by side: no more than it asks for; if that was left to us, as many
/// as fit into `limit`. Returns what the process will take. `model` is loaded [dry](crate::llama::LoadSettings::dry).
///
/// # Errors
/// If what was asked for exceeds the limit, or if not even one condition fits.
pub(super) fn fit(
    plan: &mut Plan,
    model: &Arc<Model>,
    context: impl Fn(&Plan) -> ContextSettings,
    ours_to_choose: bool,
    limit: Option<Size>,
) -> Result<MemoryUse> {
    let predict = |plan: &mut Plan, lanes: u32| {
        plan.settings.generation.parallel = lanes;
        let n_seq = 1 + lanes + u32::from(plan.settings.generation.fidelity);
        MemoryUse::predict(model, ContextSettings { n_seq, ..context(plan) })
    };
    let asked = plan.settings.generation.parallel;
    let memory = predict(plan, asked)?;
    let Some(limit) = limit.filter(|limit| memory.total() > limit.0) else { return Ok(memory) };
    let mut least = asked;
    if ours_to_choose {
        // More lanes never take less.
        let (mut fitting, mut too_many) = (0, asked);
        while too_many - fitting > 1 {
            let middle = fitting.midpoint(too_many);
            let fits = predict(plan, middle)?.total() <= limit.0;
            *(if fits { &mut fitting } else { &mut too_many }) = middle;
        }
        if fitting > 0 {
            return predict(plan, fitting);
        }
        least = 1;
    }
    let needed = Size(predict(plan, least)?.total());
    let conditions = if least == 1 { "one condition".to_owned() } else { format!("{least} conditions side by side") };
    Err(Error::input(format!(
        "{conditions} would take {needed}, and --memory-limit is {limit}; lower --parallel, --n-predict or --batch, or \
         choose a smaller --kv-type or model"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

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
