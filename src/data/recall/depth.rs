//! The depths of facts in a text, as shares of its length.

use std::str::FromStr;

use rand_chacha::ChaCha8Rng;

use crate::random::{below, shuffle};
use crate::{Error, Result};

/// How the depths of facts are chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Depths {
    /// Spread over the text: as many equal parts as there are facts, with one fact at a random place in each.
    Uniform,
    /// Shares of the text in [0, 1], used in turn by the facts of an example; each example starts one share further.
    Listed(Vec<f64>),
}

impl FromStr for Depths {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "uniform" {
            return Ok(Depths::Uniform);
        }
        let depths = text.split(',').map(range).collect::<Result<Vec<_>>>()?.concat();
        match depths.iter().find(|depth| !(0.0..=1.0).contains(*depth)) {
            Some(depth) => Err(Error::input(format!(
                "{depth} is not a depth; it is the share of the text before the fact, from 0 to 1"
            ))),
            None => Ok(Depths::Listed(depths)),
        }
    }
}

impl Depths {
    /// The depth of each fact of an example; ascending if the facts depend on each other.
    pub(super) fn draw(&self, example: usize, facts: usize, ascending: bool, rng: &mut ChaCha8Rng) -> Vec<f64> {
        const STEPS: u64 = 1 << 32;
        let mut depths: Vec<f64> = match self {
            Depths::Listed(listed) => (0..facts).map(|fact| listed[(example + fact) % listed.len()]).collect(),
            Depths::Uniform => {
                let within = (0..facts).map(|part| part as f64 + below(rng, STEPS) as f64 / STEPS as f64);
                let mut depths: Vec<f64> = within.map(|place| place / facts as f64).collect();
                shuffle(&mut depths, rng);
                depths
            }
        };
        if ascending {
            depths.sort_by(f64::total_cmp);
        }
        depths
    }
}

/// Reads a number, or a range `a..b:step` with both ends included.
pub fn range(text: &str) -> Result<Vec<f64>> {
    /// Upper limit, larger than any sensible value.
    const MOST: f64 = 10_000.0;
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    let read = || match text.split_once("..") {
        None => Some(vec![number(text)?]),
        Some((from, rest)) => {
            let (to, step) = rest.split_once(':')?;
            let (from, to, step) = (number(from)?, number(to)?, number(step)?);
            // A step that misses the end only through lack of digits still reaches it.
            let steps = (step > 0.0 && from <= to).then(|| ((to - from) / step + 1e-9).floor())?;
            (steps <= MOST).then(|| (0..=steps as usize).map(|index| (from + index as f64 * step).min(to)).collect())
        }
    };
    read().ok_or_else(|| {
        Error::input(format!(
            "`{text}` is neither a number nor a range FROM..TO:STEP, such as 0..1:0.25 (both ends included)"
        ))
    })
}
