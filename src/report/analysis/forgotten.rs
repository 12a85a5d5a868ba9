//! One instruction forgotten: is it still followed, and are the others?

use std::collections::BTreeMap;

use serde::Serialize;

use super::Resampling;
use super::survival::followed;
use crate::evict::Target;
use crate::report::table::{Column, Trial};
use crate::report::{Table, words};
use crate::stats::{Estimate, clustered_proportion};

/// The results of `forget:instruction` and `forget:filler` under otherwise equal conditions. Each is the fraction still
/// followed of the instructions that were followed with the full cache, with its interval over examples; `n` counts
/// instructions of trials.
#[derive(Debug, Clone, Serialize)]
pub struct Forgotten {
    /// Index of the run.
    pub run: usize,
    /// What differs from the defaults, such as `text`; empty for the defaults.
    pub name: String,
    /// The forgotten instruction itself.
    pub own: Option<Estimate>,
    /// The other instructions of its prompt, all of whose tokens survived.
    pub others: Option<Estimate>,
    /// All instructions, after as many tokens were evicted that belong to none.
    pub filler: Option<Estimate>,
}

/// By example: instructions still followed, and all of them.
type Counts = BTreeMap<usize, (usize, usize)>;

pub(super) fn matrix(table: &Table, resampling: Resampling) -> Vec<Forgotten> {
    let mut found: Vec<Forgotten> = Vec::new();
    for (index, column) in table.columns.iter().enumerate() {
        let (Some(target), Some(baseline)) = (column.condition.target(), table.baseline_of(index)) else { continue };
        let (own, others) = counts(column, &table.columns[baseline]);
        let estimate = |counts: Counts| {
            let clusters: Vec<(usize, usize)> = counts.into_values().collect();
            (!clusters.is_empty()).then(|| clustered_proportion(&clusters, resampling.level))
        };
        let name = column.condition.details().join(", ");
        let place = found.iter().position(|one| one.run == column.run && one.name == name).unwrap_or_else(|| {
            found.push(Forgotten { run: column.run, name, own: None, others: None, filler: None });
            found.len() - 1
        });
        let found = &mut found[place];
        match target {
            Target::Instruction => (found.own, found.others) = (estimate(own), estimate(others)),
            Target::Filler => found.filler = estimate(others),
        }
    }
    found
}

/// The instruction that each trial is about, and the others whose tokens all survived.
fn counts(column: &Column, baseline: &Column) -> (Counts, Counts) {
    let (mut own, mut others) = (Counts::new(), Counts::new());
    let forgets = column.condition.target() == Some(Target::Instruction);
    for (example, (trials, full)) in column.trials.iter().zip(&baseline.trials).enumerate() {
        let Some(full) = full.iter().min_by_key(|trial| trial.row.repeat) else { continue };
        let before = |instruction: usize| {
            full.instructions.iter().find(|row| row.instruction == instruction).and_then(|row| followed(row))
        };
        for trial in trials {
            let forgotten = forgets.then(|| instruction_of(trial));
            for row in trial.instructions.iter().filter(|row| before(row.instruction) == Some(true)) {
                let Some(still) = followed(row) else { continue };
                let counts = match forgotten == Some(row.instruction) {
                    true => &mut own,
                    // An instruction that shares tokens with the forgotten one is neither.
                    false if row.survival.is_some_and(|survival| survival < 1.0) => continue,
                    false => &mut others,
                };
                let (kept, all) = counts.entry(example).or_default();
                *kept += usize::from(still);
                *all += 1;
            }
        }
    }
    (own, others)
}

fn instruction_of(trial: &Trial) -> usize {
    trial.row.key().instruction(trial.instructions.len())
}

impl Forgotten {
    /// The result as a sentence; `None` if `forget:instruction` was not run.
    pub fn sentence(&self) -> Option<String> {
        let own = self.own.as_ref()?;
        let with = if self.name.is_empty() { String::new() } else { format!(" ({})", self.name) };
        let mut text = format!(
            "Of the instructions followed with the full cache, one whose tokens alone are evicted{with} is still followed in {} \
             of {} cases",
            shown(own),
            words::thousands(own.n)
        );
        if let Some(others) = &self.others {
            text.push_str(&format!(", the others of its prompt in {}", shown(others)));
        }
        if let Some(filler) = &self.filler {
            text.push_str(&format!(", and all of them in {} if as many other tokens are evicted", shown(filler)));
        }
        Some(text + ".")
    }
}

/// `4.9% [3.1, 7.6]`.
pub fn shown(share: &Estimate) -> String {
    let percent = |value: f64| format!("{:.1}", 100.0 * value);
    format!("{}% [{}, {}]", percent(share.point), percent(share.low), percent(share.high))
}
