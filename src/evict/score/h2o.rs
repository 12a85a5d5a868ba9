//! `h2o`: keeps heavy hitters, the positions with the most attention (Zhang et al. 2023, arXiv 2306.14048).

use std::ops::Range;

use super::{Family, Heads, Layer, Needs, Parameter, Policy, Score, View, lowest};

/// Attention weights of all queries.
pub struct Attended {
    /// Whether weights are only summed. Otherwise the sum is divided by the number of queries that can see the position.
    pub sums: bool,
}

/// Keeps the heavy hitters and the last positions.
struct H2o {
    /// Percentage of the budget that goes to the last positions, whatever their scores.
    recent: usize,
    attended: Attended,
}

/// The name, summary and parameters of `h2o`.
pub(in crate::evict) static H2O: Family = Family {
    name: "h2o",
    title: "H2O",
    summary: "heavy hitters: the mean attention of all queries that saw the position",
    paper: Some("2306.14048"),
    parameters: &[
        Parameter {
            name: "recent",
            default: 0,
            range: 0..=100,
            about: "percentage of the budget that goes to the last positions; 50 in the paper",
        },
        Parameter {
            name: "sums",
            default: 0,
            range: 0..=1,
            about: "1: attention is summed over queries, as in the paper; 0: its mean",
        },
    ],
    make: |values| Box::new(H2o { recent: values[0], attended: Attended { sums: values[1] == 1 } }),
};

impl Policy for H2o {
    fn score(&self) -> Option<&dyn Score> {
        Some(&self.attended)
    }

    fn reserve(&self, view: &View, protected: &mut [bool]) -> bool {
        let candidates = view.candidates.clone();
        let survivors =
            view.survivors.unwrap_or_else(|| view.budget.survivors(candidates.len() + view.gone).min(candidates.len()));
        let recent = candidates.end - survivors * self.recent / 100;
        // What is protected counts inside the budget, so that less of it is left for the last positions.
        let n_protected = candidates.clone().filter(|&position| protected[position]).count();
        let mut left = survivors.saturating_sub(n_protected);
        for position in (recent..candidates.end).rev() {
            if !protected[position] && left > 0 {
                protected[position] = true;
                left -= 1;
            }
        }
        false
    }

    fn choose(&self, view: &View, n_evict: usize) -> Vec<usize> {
        lowest(view, n_evict)
    }
}

impl Score for Attended {
    fn needs(&self, _len: usize) -> Needs {
        Needs::attention(0)
    }

    fn score(&self, layer: &Layer) -> Heads {
        let seen_by = |at| if self.sums { 1.0 } else { layer.seen_by(at) as f64 };
        let head = |sums: &&[f64]| sums.iter().enumerate().map(|(at, sum)| sum / seen_by(at)).collect();
        layer.attention_from(0).iter().map(head).collect()
    }

    fn needs_in_parts(&self, parts: &[Range<usize>]) -> Option<Needs> {
        Some(Needs::attention_at(parts.iter().flat_map(|part| [part.start, part.end])))
    }

    /// The attention of the queries of a position's own part.
    fn score_in_parts(&self, layer: &Layer, parts: &[Range<usize>]) -> Heads {
        let mut heads = layer.per_head(|_| vec![0.0; layer.len]);
        for part in parts {
            let sums = layer.attention_within(part);
            for (scores, sums) in heads.iter_mut().zip(&sums) {
                for at in part.clone() {
                    let seen_by = (part.end - at).min(layer.window.unwrap_or(usize::MAX));
                    scores[at] = sums[at] / if self.sums { 1.0 } else { seen_by as f64 };
                }
            }
        }
        heads
    }
}
