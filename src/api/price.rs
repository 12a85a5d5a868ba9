//! Prices of requests: the only table of prices.

use std::ops::AddAssign;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Tokens that were billed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Input tokens that were neither written to nor read from the prompt cache.
    pub input: u64,
    /// Generated tokens.
    pub output: u64,
    /// Input tokens written to the prompt cache.
    #[serde(default)]
    pub cache_write: u64,
    /// Input tokens read from the prompt cache.
    #[serde(default)]
    pub cache_read: u64,
}

impl Usage {
    /// All input tokens.
    pub fn read(&self) -> u64 {
        self.input + self.cache_write + self.cache_read
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input += other.input;
        self.output += other.output;
        self.cache_write += other.cache_write;
        self.cache_read += other.cache_read;
    }
}

/// US dollars per million tokens. Writing to the prompt cache costs 1.25 times as much as plain input, reading from it
/// 0.1 times as much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// Price of input tokens.
    pub input: f64,
    /// Price of output tokens.
    pub output: f64,
}

impl Price {
    /// The cost of `usage`, in US dollars.
    pub fn cost(&self, usage: &Usage) -> f64 {
        let input = usage.input as f64 + 1.25 * usage.cache_write as f64 + 0.1 * usage.cache_read as f64;
        (input * self.input + usage.output as f64 * self.output) / 1e6
    }

    /// The price in a batch, which is half.
    pub fn half(self) -> Self {
        Price { input: self.input / 2.0, output: self.output / 2.0 }
    }
}

impl FromStr for Price {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.trim().parse().ok().filter(|price: &f64| price.is_finite() && *price >= 0.0);
        let pair = text.split_once(',').and_then(|(input, output)| Some((number(input)?, number(output)?)));
        let (input, output) = pair.ok_or_else(|| {
            Error::input(format!("`{text}` is not a price; write IN,OUT in US dollars per million tokens, such as 1,5"))
        })?;
        Ok(Price { input, output })
    }
}

/// The facts about a family of models.
pub(crate) struct Known {
    family: &'static str,
    pub price: Price,
    /// Number of tokens that a prompt needs to enter the prompt cache.
    pub cacheable: u64,
    /// Whether the model accepts a temperature.
    pub temperature: bool,
}

const fn known(family: &'static str, input: f64, output: f64, cacheable: u64, temperature: bool) -> Known {
    Known { family, price: Price { input, output }, cacheable, temperature }
}

/// List prices of the Claude models, as of mid 2026.
static KNOWN: &[Known] = &[
    known("claude-haiku-4-5", 1.0, 5.0, 4096, true),
    known("claude-sonnet-4-6", 3.0, 15.0, 2048, true),
    known("claude-sonnet-4-5", 3.0, 15.0, 1024, true),
    known("claude-sonnet-4-0", 3.0, 15.0, 1024, true),
    known("claude-sonnet-4-2025", 3.0, 15.0, 1024, true),
    known("claude-opus-4-7", 5.0, 25.0, 4096, false),
    known("claude-opus-4-6", 5.0, 25.0, 4096, true),
    known("claude-opus-4-5", 5.0, 25.0, 4096, true),
    known("claude-opus-4-1", 15.0, 75.0, 1024, true),
    known("claude-opus-4-0", 15.0, 75.0, 1024, true),
    known("claude-opus-4-2025", 15.0, 75.0, 1024, true),
    known("claude-3-7-sonnet", 3.0, 15.0, 1024, true),
    known("claude-3-5-haiku", 0.8, 4.0, 2048, true),
    known("claude-3-haiku", 0.25, 1.25, 2048, true),
];

/// The facts about a model, found by the start of its name.
pub(crate) fn find(model: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| model.starts_with(known.family))
}

/// The approximate number of tokens of a text.
pub(crate) fn tokens(text: &str) -> u64 {
    text.len().div_ceil(4) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_follow_the_table() {
        let haiku = find("claude-haiku-4-5-20251001").unwrap().price;
        let usage = Usage { input: 1_000_000, output: 200_000, cache_write: 400_000, cache_read: 1_000_000 };
        assert!((haiku.cost(&usage) - (1.0 + 1.0 + 0.5 + 0.1)).abs() < 1e-9);
        assert!((haiku.half().cost(&usage) - 1.3).abs() < 1e-9);
        assert!(find("claude-opus-4-9").is_none(), "no price is guessed");
        assert_eq!("0.5, 2".parse::<Price>().unwrap(), Price { input: 0.5, output: 2.0 });
        assert!("1".parse::<Price>().is_err() && "1,-2".parse::<Price>().is_err());
    }
}
