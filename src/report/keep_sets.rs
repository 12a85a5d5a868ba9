//! Keep sets that are not what the name of their policy promises: equal to another policy's, plain recency, without the
//! first position, or filled by the policy's window.

use super::Warning;
use super::table::{Column, Table, Trial};
use super::words::percent;
use crate::condition::{Axis as _, Condition, Memory};
use crate::evict::PolicySpec;

/// Share of paired trials from which two policies count as keeping the same positions.
const EQUAL: f64 = 0.9;
/// Share of trials from which there is another warning.
const SOME: f64 = 0.1;

/// The warnings that apply; `names` are those of the columns.
pub(super) fn find(table: &Table, names: &[String]) -> Vec<Warning> {
    let mut found = Vec::new();
    let evicting: Vec<usize> = (0..table.columns.len()).filter(|&at| evicts(&table.columns[at].condition)).collect();
    let mut equal = Vec::new();
    for (nth, &a) in evicting.iter().enumerate() {
        for &b in &evicting[nth + 1..] {
            let share = equal_share(&table.columns[a], &table.columns[b]).filter(|&share| share >= EQUAL);
            equal.extend(share.map(|share| format!("{} and {} ({})", names[a], names[b], percent(share))));
        }
    }
    if !equal.is_empty() {
        found.push(Warning::EqualKeepSets { pairs: equal });
    }
    let shares = |is_so: &dyn Fn(&Column, &Trial) -> bool| -> Vec<String> {
        let share = |&at: &usize| Some((at, share_of(&table.columns[at], is_so).filter(|&share| share >= SOME)?));
        let mut shares: Vec<(usize, f64)> = evicting.iter().filter_map(share).collect();
        // The worst first: a warning names only some.
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        shares.into_iter().map(|(at, share)| format!("{} ({})", names[at], percent(share))).collect()
    };
    // Streaming keeps the last positions by definition.
    let suffix = shares(&|column, trial| !column.condition.policy.policy().is_sinks_and_window() && is_suffix(trial));
    if !suffix.is_empty() {
        found.push(Warning::Recency { conditions: suffix });
    }
    let sink = shares(&|_, trial| trial.row.evicted_ranges.starts_with("0.."));
    if !sink.is_empty() {
        found.push(Warning::SinkEvicted { conditions: sink });
    }
    let window = shares(&|column, trial| fills_budget(column, trial));
    if !window.is_empty() {
        found.push(Warning::WindowFillsBudget { conditions: window });
    }
    found
}

/// Whether a condition evicts what was heard, once, after the prompt.
fn evicts(condition: &Condition) -> bool {
    !condition.is_full() && condition.memory == Memory::Kv && condition.budget.rolling().is_none()
}

/// Share of the trials with an eviction for which `is_so` holds; `None` if there are none.
fn share_of(column: &Column, is_so: &dyn Fn(&Column, &Trial) -> bool) -> Option<f64> {
    let evicted: Vec<&Trial> = column.finished().filter(|trial| trial.row.n_evicted > 0).collect();
    let so = evicted.iter().filter(|trial| is_so(column, trial)).count();
    (!evicted.is_empty()).then(|| so as f64 / evicted.len() as f64)
}

/// If two columns of a run differ in the policy alone: the share of paired trials in which both evicted the same
/// positions. Pairs with nothing evicted, or whose heads differ, do not count.
fn equal_share(a: &Column, b: &Column) -> Option<f64> {
    let only = a.condition.only_difference(&b.condition)?;
    if a.run != b.run || only.name != PolicySpec::NAME {
        return None;
    }
    let (mut pairs, mut equal) = (0usize, 0usize);
    for (a, b) in a.trials.iter().zip(&b.trials) {
        for a in a {
            let Some(b) = b.iter().find(|b| (b.row.repeat, b.row.turn) == (a.row.repeat, a.row.turn)) else { continue };
            let (a, b) = (&a.row.evicted_ranges, &b.row.evicted_ranges);
            if !a.is_empty() && !b.is_empty() {
                pairs += 1;
                equal += usize::from(a == b);
            }
        }
    }
    (pairs > 0).then(|| equal as f64 / pairs as f64)
}

/// Whether the survivors are the last positions and no others: one range was evicted, and it starts at 0.
fn is_suffix(trial: &Trial) -> bool {
    let ranges = &trial.row.evicted_ranges;
    ranges.starts_with("0..") && !ranges.contains(',')
}

/// Whether the window that the policy always keeps takes more than half of the survivors.
fn fills_budget(column: &Column, trial: &Trial) -> bool {
    let (kept, cached) = (trial.row.n_kept, trial.row.n_kept + trial.row.n_evicted);
    // On short prompts the window is half of the prompt.
    column.condition.policy.parameter("window").is_some_and(|window| 2 * window.min(cached / 2) > kept)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::report::{Run, load};

    /// The warnings of the small run with `streaming` replaced by `policy`, and other positions evicted.
    fn warnings(policy: &str, random: &str, other: &str) -> Vec<String> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/run");
        let mut runs: Vec<Run> = load(&[directory]).unwrap();
        for condition in runs[0].manifest.sessions.iter_mut().flat_map(|session| &mut session.conditions) {
            if condition.policy.name() == "streaming" {
                condition.policy = policy.parse().unwrap();
            }
        }
        for row in runs[0].trials.iter_mut().filter(|row| row.n_evicted > 0) {
            let is_random = row.condition.starts_with("random");
            row.evicted_ranges = if is_random { random } else { other }.to_owned();
            row.condition = row.condition.replace("streaming", policy);
        }
        let table = Table::new(&runs);
        let names: Vec<String> = table.columns.iter().map(|column| column.condition.words()).collect();
        find(&table, &names).iter().map(|warning| format!("{}: {warning}", warning.kind())).collect()
    }

    #[test]
    fn keep_sets_are_named_for_what_they_are() {
        assert_eq!(warnings("streaming", "1..3,4..6,8..10", "4..10"), Vec::<String>::new());
        let equal = warnings("knorm", "1..3,4..8", "1..3,4..8");
        assert_eq!(equal.len(), 1, "{equal:?}");
        assert!(
            equal[0].starts_with("equal_keep_sets: ") && equal[0].contains("Random at 0.5 and Key norm at 0.5 (100%)")
        );
        let recent = warnings("knorm", "1..3,4..8", "0..6");
        assert!(recent[0].starts_with("recency: ") && recent[0].contains("Key norm at 0.5 (100%)"), "{recent:?}");
        assert!(recent[1].starts_with("sink_evicted: ") && !recent[1].contains("Random"), "{recent:?}");
        // A prompt of 11 positions: 5 survive, and the window is 5 of them.
        let filled = warnings("snapkv", "1..3,4..8", "1..7");
        assert!(filled[0].starts_with("window_fills_budget: ") && filled[0].contains("SnapKV at 0.5"), "{filled:?}");
        assert_eq!(warnings("snapkv:window=2", "1..3,4..8", "1..7"), Vec::<String>::new());
    }
}
