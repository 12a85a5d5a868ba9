//! `--fair`: each part of the prompt survives in proportion to its length.
//!
//! A policy that ranks the whole prompt at once may evict all of one instruction and none of the next ("The Pitfalls of
//! KV Cache Compression", arXiv 2510.00231).

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::span::{Label, Span};
use crate::{Error, Result};

/// How much a position of a span counts when a budget is shared out, in the text form `system=2+user=1`. Spans without
/// a weight count 1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Weights(Vec<(String, usize)>);

/// The names of spans that can have a weight, the innermost first: an instruction lies inside a message.
const NAMES: [&str; 8] = ["instruction", "question", "context", "bos", "system", "user", "assistant", "template"];
const HEAVIEST: usize = 1_000;

impl Weights {
    /// Whether all positions count the same.
    pub fn is_even(&self) -> bool {
        self.0.is_empty()
    }

    /// The weight of a part that is in these spans.
    fn of(&self, labels: &[Label]) -> usize {
        let name = |label: &Label| label.to_string().split(':').next().unwrap_or_default().to_owned();
        let inside: Vec<String> = labels.iter().map(name).collect();
        let innermost = NAMES.iter().filter(|name| inside.iter().any(|label| label == *name));
        let weight = |name: &&str| self.0.iter().find(|(known, _)| known == *name).map(|(_, weight)| *weight);
        innermost.into_iter().find_map(weight).unwrap_or(1)
    }
}

impl FromStr for Weights {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let weight = |item: &str| {
            let (name, weight) = item.split_once('=')?;
            let weight = weight.parse().ok().filter(|weight| (1..=HEAVIEST).contains(weight))?;
            NAMES.contains(&name).then(|| (name.to_owned(), weight))
        };
        let mut weights: Vec<(String, usize)> = Vec::new();
        for item in text.split('+').map(str::trim).filter(|item| !item.is_empty()) {
            match weight(item) {
                Some((name, _)) if weights.iter().any(|(known, _)| *known == name) => {
                    return Err(Error::input(format!("--fair-weight names {name} twice")));
                }
                Some(weight) => weights.push(weight),
                None => {
                    return Err(Error::input(format!(
                        "--fair-weight: `{item}` is no weight; write SPAN=N with N from 1 to {HEAVIEST} and a span of {}",
                        NAMES.join(", ")
                    )));
                }
            }
        }
        weights.retain(|(_, weight)| *weight != 1);
        weights.sort();
        Ok(Weights(weights))
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items: Vec<_> = self.0.iter().map(|(name, weight)| format!("{name}={weight}")).collect();
        f.write_str(&items.join("+"))
    }
}

/// A part of the prompt with a share of the budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its positions.
    pub range: Range<usize>,
    /// How much each of them counts.
    pub weight: usize,
}

/// The parts of `candidates`: maximal runs of positions that are in the same spans.
pub fn parts(candidates: Range<usize>, spans: &[Span], weights: &Weights) -> Vec<Part> {
    let inside = |at: &usize| candidates.start < *at && *at < candidates.end;
    let mut cuts: Vec<usize> = spans.iter().flat_map(|span| [span.start, span.end]).filter(inside).collect();
    cuts.extend([candidates.start, candidates.end]);
    cuts.sort_unstable();
    cuts.dedup();
    let part = |pair: &[usize]| {
        let around = spans.iter().filter(|span| span.start <= pair[0] && pair[1] <= span.end);
        let labels: Vec<Label> = around.map(|span| span.label).collect();
        Part { range: pair[0]..pair[1], weight: weights.of(&labels) }
    };
    cuts.windows(2).map(part).collect()
}

/// How many positions of each part survive: in proportion to its length times its weight, but at least `least`.
///
/// Survivors are assigned one by one to the part with the highest quotient (Webster's method), so a larger budget never
/// makes a share smaller: what survives at a ratio survives at every smaller one.
pub(super) fn shares(parts: &[Part], least: &[usize], survivors: usize) -> Vec<usize> {
    let mut shares = least.to_vec();
    let claim = |index: usize| parts[index].range.len() * parts[index].weight;
    for _ in shares.iter().sum()..survivors {
        // Compares claim_a / (2 share_a + 1) with claim_b / (2 share_b + 1), exactly; of equal ones the later part wins.
        let next = (0..parts.len())
            .filter(|&index| shares[index] < parts[index].range.len())
            .max_by(|&a, &b| (claim(a) * (2 * shares[b] + 1)).cmp(&(claim(b) * (2 * shares[a] + 1))));
        shares[next.expect("no more survivors than positions")] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::span::Label;

    #[test]
    fn parts_are_cut_where_a_span_begins_or_ends() {
        let span = |label, start, end| Span { label, start, end };
        let spans = [
            span(Label::Bos, 0, 1),
            span(Label::User, 2, 30),
            span(Label::Instruction(0), 5, 9),
            span(Label::Instruction(1), 9, 12),
        ];
        let ranges = |candidates, weights: &str| -> Vec<(Range<usize>, usize)> {
            let parts = parts(candidates, &spans, &weights.parse().unwrap());
            parts.into_iter().map(|part| (part.range, part.weight)).collect()
        };
        let even = |range: Range<usize>| (range, 1);
        assert_eq!(ranges(0..20, ""), [0..1, 1..2, 2..5, 5..9, 9..12, 12..20].map(even));
        assert_eq!(ranges(6..10, ""), [6..9, 9..10].map(even));
        assert_eq!(ranges(1..12, "user=2+bos=9"), [(1..2, 1), (2..5, 2), (5..9, 2), (9..12, 2)]);
        assert_eq!(ranges(1..12, "user=2+instruction=3"), [(1..2, 1), (2..5, 2), (5..9, 3), (9..12, 3)]);
    }

    #[test]
    fn a_heavier_part_keeps_more_until_it_is_whole() {
        let parts = [Part { range: 0..10, weight: 3 }, Part { range: 10..40, weight: 1 }];
        assert_eq!(shares(&parts, &[0, 0], 20), [10, 10]);
        assert_eq!(shares(&parts, &[0, 0], 12), [6, 6]);
        for (bad, part) in [
            ("system", "`system` is no weight"),
            ("user=0", "is no weight"),
            ("x=2", "span of instruction"),
            ("user=2+user=3", "twice"),
        ] {
            let said = bad.parse::<Weights>().unwrap_err().to_string();
            assert!(said.contains(part), "{bad}: {said}");
        }
    }

    proptest! {
        #[test]
        fn shares_are_proportional_exact_and_monotone(lengths in proptest::collection::vec(1..60usize, 1..12), cut in 0.0..1.0f64) {
            let mut start = 0;
            let parts: Vec<_> = lengths.iter().map(|len| { start += len; Part { range: start - len..start, weight: 1 } }).collect();
            let survivors = (start as f64 * cut) as usize;
            let given = shares(&parts, &vec![0; lengths.len()], survivors);
            prop_assert_eq!(given.iter().sum::<usize>(), survivors);
            for (share, len) in given.iter().zip(&lengths) {
                prop_assert!(share <= len);
                let quota = *len as f64 * survivors as f64 / start as f64;
                prop_assert!((*share as f64 - quota).abs() < 1.0 + lengths.len() as f64 / 2.0);
            }
            if survivors < start {
                let more = shares(&parts, &vec![0; lengths.len()], survivors + 1);
                prop_assert!(given.iter().zip(&more).all(|(a, b)| a <= b));
            }
            let least: Vec<_> = lengths.iter().map(|len| len.min(&1)).copied().collect();
            if survivors >= lengths.len() {
                prop_assert!(shares(&parts, &least, survivors).iter().all(|&share| share >= 1));
            }
        }
    }
}
