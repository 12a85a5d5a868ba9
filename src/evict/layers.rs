//! Which layers forget.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Layers with a number below this can be named.
const MOST: u32 = 256;

/// Which layers forget, in the text forms `all`, `global`, `local`, `each` and `0-5+9`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Layers {
    /// All of them.
    #[default]
    All,
    /// Those without a sliding window.
    Global,
    /// Those with a sliding window.
    Local,
    /// Each in a condition of its own: stands for one condition a layer, once the model is known.
    Each,
    /// Those with these numbers.
    Only(LayerSet),
}

/// A set of layer numbers, in the text form `0-5+9`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LayerSet([u64; MOST as usize / 64]);

impl LayerSet {
    fn insert(&mut self, layer: u32) {
        self.0[layer as usize / 64] |= 1 << (layer % 64);
    }

    /// Whether a layer is in it.
    pub fn contains(&self, layer: u32) -> bool {
        layer < MOST && self.0[layer as usize / 64] >> (layer % 64) & 1 == 1
    }
}

impl Layers {
    /// One layer alone.
    pub fn only(layer: u32) -> Self {
        let mut set = LayerSet::default();
        if layer < MOST {
            set.insert(layer);
        }
        Layers::Only(set)
    }

    /// Whether a layer is among them: its number, and whether it has a sliding window.
    pub fn include(self, layer: u32, is_local: bool) -> bool {
        match self {
            Layers::All | Layers::Each => true,
            Layers::Global => !is_local,
            Layers::Local => is_local,
            Layers::Only(set) => set.contains(layer),
        }
    }

    /// Whether they have a cache of their own, from which positions can be freed. In other layers positions are hidden.
    pub fn has_cache(self) -> bool {
        matches!(self, Layers::All | Layers::Global | Layers::Local)
    }
}

impl fmt::Display for LayerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layers: Vec<u32> = (0..MOST).filter(|&layer| self.contains(layer)).collect();
        let run = |run: &[u32]| match run {
            [only] => only.to_string(),
            run => format!("{}-{}", run[0], run[run.len() - 1]),
        };
        let runs: Vec<_> = layers.chunk_by(|a, b| a + 1 == *b).map(run).collect();
        f.write_str(&runs.join("+"))
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layers::All => f.write_str("all"),
            Layers::Global => f.write_str("global"),
            Layers::Local => f.write_str("local"),
            Layers::Each => f.write_str("each"),
            Layers::Only(set) => set.fmt(f),
        }
    }
}

impl FromStr for Layers {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::input(format!(
                "`{text}` is not a choice of layers; write all, global, local, each, or numbers below {MOST} such as 3, 0-5 or \
                 0-5+9"
            ))
        };
        let number = |text: &str| text.parse::<u32>().ok().filter(|&layer| layer < MOST);
        let mut set = LayerSet::default();
        match text {
            "all" => return Ok(Layers::All),
            "global" => return Ok(Layers::Global),
            "local" => return Ok(Layers::Local),
            "each" => return Ok(Layers::Each),
            _ => {}
        }
        for item in text.split('+') {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => (first..=last).for_each(|layer| set.insert(layer)),
                _ => return Err(bad()),
            }
        }
        Ok(Layers::Only(set))
    }
}

impl TryFrom<String> for Layers {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Layers> for String {
    fn from(layers: Layers) -> Self {
        layers.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_named_by_numbers_and_ranges() {
        for (text, shown) in [("3", "3"), ("0-5", "0-5"), ("9+0-4+5", "0-5+9"), ("63-64", "63-64"), ("255", "255")] {
            assert_eq!(text.parse::<Layers>().unwrap().to_string(), shown);
        }
        let layers: Layers = "0-1+70".parse().unwrap();
        assert_eq!([0, 1, 2, 70, 256].map(|layer| layers.include(layer, false)), [true, true, false, true, false]);
        for bad in ["", "x", "5-3", "256", "0-", "-1", "1..3", "1,2", "99999999999"] {
            assert!(bad.parse::<Layers>().is_err(), "{bad}");
        }
    }
}
