//! The keep set: the surviving positions.

use std::ops::Range;

use crate::{Error, Result};

/// Which of the positions `0..len` of a cached prompt survive, such as `0..4` and `20..40` of `0..40`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepSet {
    len: usize,
    /// The evicted ranges: sorted, disjoint, not adjacent, not empty.
    evicted: Vec<Range<usize>>,
}

impl KeepSet {
    /// Everything survives.
    pub fn all(len: usize) -> Self {
        KeepSet { len, evicted: Vec::new() }
    }

    /// Everything but `evicted` survives. Order and repetition do not matter; all positions must be below `len`.
    pub fn without(len: usize, mut evicted: Vec<usize>) -> Self {
        evicted.sort_unstable();
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for position in evicted {
            match ranges.last_mut() {
                Some(last) if position < last.end => {}
                Some(last) if position == last.end => last.end += 1,
                _ => ranges.push(position..position + 1),
            }
        }
        KeepSet { len, evicted: ranges }
    }

    /// Everything but these ranges survives.
    ///
    /// # Errors
    /// If a range is empty or contains a position that cannot be evicted (the last one, or one beyond it).
    pub fn without_ranges(len: usize, ranges: &[Range<usize>]) -> Result<Self> {
        if let Some(bad) = ranges.iter().find(|range| range.is_empty() || range.end >= len) {
            return Err(Error::input(format!(
                "cannot evict {}..{}: ranges are half-open, not empty, and end at {} at most, because the last of the \
                 {len} cached positions must survive",
                bad.start,
                bad.end,
                len.saturating_sub(1)
            )));
        }
        Ok(Self::without(len, ranges.iter().cloned().flatten().collect()))
    }

    /// Number of positions before the eviction.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there were no positions.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The evicted positions as maximal ascending ranges.
    pub fn evicted(&self) -> &[Range<usize>] {
        &self.evicted
    }

    /// The surviving positions as maximal ascending ranges.
    pub fn kept(&self) -> Vec<Range<usize>> {
        let mut kept = Vec::with_capacity(self.evicted.len() + 1);
        let mut start = 0;
        for range in &self.evicted {
            if start < range.start {
                kept.push(start..range.start);
            }
            start = range.end;
        }
        if start < self.len {
            kept.push(start..self.len);
        }
        kept
    }

    /// Number of evicted positions.
    pub fn n_evicted(&self) -> usize {
        self.evicted.iter().map(Range::len).sum()
    }

    /// Number of surviving positions.
    pub fn n_kept(&self) -> usize {
        self.len - self.n_evicted()
    }

    /// Whether a position survives. Positions beyond the cached ones (the held-back last token) always do.
    pub fn contains(&self, position: usize) -> bool {
        let next = self.evicted.partition_point(|range| range.end <= position);
        self.evicted.get(next).is_none_or(|range| position < range.start)
    }

    /// How many positions of `range` survive.
    pub fn kept_within(&self, range: Range<usize>) -> usize {
        let lost: usize = self
            .evicted
            .iter()
            .map(|evicted| evicted.end.min(range.end).saturating_sub(evicted.start.max(range.start)))
            .sum();
        range.len() - lost
    }
}

/// Ranges as text, such as `3..9,15..16`: the column `evicted_ranges`, and the value of `probe --evict`.
pub fn ranges_text(ranges: &[Range<usize>]) -> String {
    let items: Vec<_> = ranges.iter().map(|range| format!("{}..{}", range.start, range.end)).collect();
    items.join(",")
}

/// Reads what [`ranges_text`] writes.
pub fn parse_ranges(text: &str) -> Result<Vec<Range<usize>>> {
    let bad = |item: &str| Error::input(format!("`{item}` is not a range; write half-open ranges such as 3..9,15..16"));
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| {
            let (start, end) = item.split_once("..").ok_or_else(|| bad(item))?;
            match (start.parse::<usize>(), end.parse::<usize>()) {
                (Ok(start), Ok(end)) if start < end && end <= u32::MAX as usize => Ok(start..end),
                _ => Err(bad(item)),
            }
        })
        .collect()
}
