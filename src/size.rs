//! An amount of memory.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

const UNITS: [(&str, u32); 8] =
    [("KIB", 10), ("MIB", 20), ("GIB", 30), ("K", 10), ("M", 20), ("G", 30), ("T", 40), ("TIB", 40)];

/// An amount of memory in bytes, as one types it: `10GiB`, `512M`, `1.5g`, or bytes. Units are powers of 1024.
///
/// ```
/// let size: kvllama::size::Size = "1.5g".parse()?;
/// assert_eq!((size.0, size.to_string().as_str()), (3 << 29, "1.50 GiB"));
/// # Ok::<(), kvllama::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

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
        match self.0 as f64 / f64::from(1u32 << 30) {
            small if small < 0.1 => write!(f, "{:.1} MiB", small * 1024.0),
            large => write!(f, "{large:.2} GiB"),
        }
    }
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
