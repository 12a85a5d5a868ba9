//! Eviction ratios as exact decimals, as the user wrote them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Decimal places a ratio may have.
const PLACES: u32 = 9;
const ONE: u64 = 10u64.pow(PLACES);

/// The fraction of positions evicted, in `[0, 1)`, as an exact decimal.
///
/// `0.9` of 100 positions leaves 10; in binary floating point, `100 * (1 - 0.9)` leaves 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ratio(u64);

impl Ratio {
    /// Nothing is evicted.
    pub const ZERO: Ratio = Ratio(0);

    /// As a floating-point number, for axes and statistics.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / ONE as f64
    }

    /// How many of `len` positions survive: `floor(len * (1 - ratio))`.
    pub fn survivors(self, len: usize) -> usize {
        let kept = len as u128 * u128::from(ONE - self.0) / u128::from(ONE);
        usize::try_from(kept).expect("at most len")
    }
}

impl FromStr for Ratio {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match parse_decimal(text) {
            Some(value) if value < ONE => Ok(Ratio(value)),
            _ => Err(Error::input(format!(
                "`{text}` is not a ratio; write the fraction to evict as a decimal from 0 up to but not including 1, \
                 such as 0.5"
            ))),
        }
    }
}

/// `text` in units of 10^-9; `None` if it is not a plain decimal of at most nine places.
fn parse_decimal(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) || whole.len() > 6 {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > PLACES as usize {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let scaled: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    Some(whole * ONE + scaled * 10u64.pow(PLACES - u32::try_from(fraction.len()).ok()?))
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:09}", self.0);
        match fraction.trim_end_matches('0') {
            "" => f.write_str("0"),
            digits => write!(f, "0.{digits}"),
        }
    }
}

impl TryFrom<String> for Ratio {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Ratio> for String {
    fn from(ratio: Ratio) -> Self {
        ratio.to_string()
    }
}

/// Reads one item of `--ratio`: a decimal, or a range `a..b:step` with both ends included.
pub fn parse_ratios(text: &str) -> Result<Vec<Ratio>> {
    let Some((from, rest)) = text.split_once("..") else {
        return Ok(vec![text.parse()?]);
    };
    let bad = || {
        Error::input(format!(
            "`{text}` is not a range of ratios; write FROM..TO:STEP, such as 0.1..0.9:0.2 (both ends included)"
        ))
    };
    let (to, step) = rest.split_once(':').ok_or_else(bad)?;
    let (from, to): (Ratio, Ratio) = (from.parse()?, to.parse()?);
    let step = parse_decimal(step).filter(|&step| step > 0).ok_or_else(bad)?;
    if from > to || (to.0 - from.0) / step > 10_000 {
        return Err(bad());
    }
    Ok((from.0..=to.0).step_by(usize::try_from(step).map_err(|_| bad())?).map(Ratio).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hundredth_of_every_length_follows_the_exact_decimal_rule() {
        for len in 1..=300usize {
            for hundredth in 0..100usize {
                let ratio: Ratio = format!("0.{hundredth:02}").parse().unwrap();
                assert_eq!(ratio.survivors(len), len * (100 - hundredth) / 100, "len {len} ratio {ratio}");
            }
        }
    }

    #[test]
    fn the_written_decimal_is_kept() {
        for (written, shown) in
            [("0.50", "0.5"), ("0", "0"), (".25", "0.25"), ("0.123456789", "0.123456789"), ("00.1", "0.1")]
        {
            assert_eq!(written.parse::<Ratio>().unwrap().to_string(), shown);
        }
        for bad in
            ["1", "1.0", "-0.1", "0.1234567891", "", ".", "a", "0.5x", "1e-1", "0,5", "NaN", "99999999999999999999"]
        {
            assert!(bad.parse::<Ratio>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_are_exact_and_inclusive() {
        let text: Vec<_> = parse_ratios("0.1..0.9:0.2").unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(text, ["0.1", "0.3", "0.5", "0.7", "0.9"]);
        for bad in ["0.1..0.9", "0.9..0.1:0.1", "0..0.5:0", "0.1..1:0.1", "0..0.9:0.000000001"] {
            assert!(parse_ratios(bad).is_err(), "{bad}");
        }
    }
}
