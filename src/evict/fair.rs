//! `--fair`: each part of the prompt survives in proportion to its length.
//!
//! A policy that ranks the whole prompt at once may evict all of one instruction and none of the next ("The Pitfalls of
//! KV Cache Compression", arXiv 2510.00231).

use std::ops::Range;

use crate::span::Span;

/// The parts of `candidates`: maximal runs of positions that are in the same spans.
pub fn segments(candidates: Range<usize>, spans: &[Span]) -> Vec<Range<usize>> {
    let inside = |at: &usize| candidates.start < *at && *at < candidates.end;
    let mut cuts: Vec<usize> = spans.iter().flat_map(|span| [span.start, span.end]).filter(inside).collect();
    cuts.extend([candidates.start, candidates.end]);
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// How many positions of each segment survive: in proportion to its length, but at least `least`.
///
/// Survivors are assigned one by one to the segment with the highest quotient (Webster's method), so a larger budget
/// never makes a share smaller: what survives at a ratio survives at every smaller one.
pub(super) fn shares(segments: &[Range<usize>], least: &[usize], survivors: usize) -> Vec<usize> {
    let mut shares = least.to_vec();
    for _ in shares.iter().sum()..survivors {
        // Compares len_a / (2 share_a + 1) with len_b / (2 share_b + 1), exactly; of equal ones the later segment wins.
        let next = (0..segments.len())
            .filter(|&index| shares[index] < segments[index].len())
            .max_by(|&a, &b| (segments[a].len() * (2 * shares[b] + 1)).cmp(&(segments[b].len() * (2 * shares[a] + 1))));
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
    fn segments_are_cut_where_a_span_begins_or_ends() {
        let span = |label, start, end| Span { label, start, end };
        let spans = [
            span(Label::Bos, 0, 1),
            span(Label::User, 2, 30),
            span(Label::Instruction(0), 5, 9),
            span(Label::Instruction(1), 9, 12),
        ];
        assert_eq!(segments(0..20, &spans), [0..1, 1..2, 2..5, 5..9, 9..12, 12..20]);
        assert_eq!(segments(6..10, &spans), [6..9, 9..10]);
    }

    proptest! {
        #[test]
        fn shares_are_proportional_exact_and_monotone(lengths in proptest::collection::vec(1..60usize, 1..12), cut in 0.0..1.0f64) {
            let mut start = 0;
            let segments: Vec<_> = lengths.iter().map(|len| { start += len; start - len..start }).collect();
            let survivors = (start as f64 * cut) as usize;
            let given = shares(&segments, &vec![0; lengths.len()], survivors);
            prop_assert_eq!(given.iter().sum::<usize>(), survivors);
            for (share, len) in given.iter().zip(&lengths) {
                prop_assert!(share <= len);
                let quota = *len as f64 * survivors as f64 / start as f64;
                prop_assert!((*share as f64 - quota).abs() < 1.0 + lengths.len() as f64 / 2.0);
            }
            if survivors < start {
                let more = shares(&segments, &vec![0; lengths.len()], survivors + 1);
                prop_assert!(given.iter().zip(&more).all(|(a, b)| a <= b));
            }
            let least: Vec<_> = lengths.iter().map(|len| len.min(&1)).copied().collect();
            if survivors >= lengths.len() {
                prop_assert!(shares(&segments, &least, survivors).iter().all(|&share| share >= 1));
            }
        }
    }
}
