//! Was an instruction followed, given how much of its own text survived?

use std::collections::BTreeMap;

use serde::Serialize;

use super::Condition;
use crate::exp::InstructionRow;
use crate::report::Table;
use crate::stats::{Estimate, Logistic, Observations, clustered_proportion, logistic};

/// A policy's instructions, by how much of them survived.
#[derive(Debug, Clone, Serialize)]
pub struct SurvivalCurve {
    /// The policy and the other common parts of its conditions, all budgets together.
    pub name: String,
    /// Index of the run.
    pub run: usize,
    /// Instructions of trials.
    pub n: usize,
    /// Pass rates, bin by bin; only bins that contain instructions.
    pub bins: Vec<Bin>,
    /// The logistic curve through all of them, at the mean fraction evicted: it separates the effect of an
    /// instruction's survival from that of the fraction evicted.
    pub logistic: Option<Logistic>,
}

/// Instructions of about the same survival.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Lower end of survival.
    pub from: f64,
    /// Upper end of survival, excluded from the bin; survival 0 and survival 1 have bins of their own.
    pub to: f64,
    /// Mean survival in the bin.
    pub survival: f64,
    /// Fraction followed, with its interval over examples. `n` counts instructions of trials.
    pub followed: Estimate,
}

/// Whether an instruction counts as followed: its score is at least 0.5.
pub(super) fn followed(row: &InstructionRow) -> Option<bool> {
    row.by_rule().or(row.score).map(|score| score >= 0.5)
}

/// One curve per policy; the full cache has none, because everything survives there.
pub(super) fn curves(table: &Table, conditions: &[Condition], level: f64) -> Vec<SurvivalCurve> {
    let mut series: Vec<(String, usize, Observations)> = Vec::new();
    for (column, condition) in table.columns.iter().zip(conditions) {
        if condition.is_baseline() || condition.condition.one_layer().is_some() {
            continue;
        }
        let index = series.iter().position(|(name, run, _)| *name == condition.series && *run == column.run);
        let index = index.unwrap_or_else(|| {
            series.push((condition.series.clone(), column.run, Observations::default()));
            series.len() - 1
        });
        let seen = &mut series[index].2;
        for (example, trial) in
            column.trials.iter().enumerate().flat_map(|(k, trials)| trials.iter().map(move |trial| (k, trial)))
        {
            for row in &trial.instructions {
                if let (Some(survival), Some(followed)) = (row.survival, followed(row)) {
                    seen.x.push(survival);
                    seen.held.push(condition.ratio.unwrap_or(condition.evicted));
                    seen.y.push(followed);
                    seen.cluster.push(example);
                }
            }
        }
    }
    series
        .into_iter()
        .filter(|(.., seen)| !seen.x.is_empty())
        .map(|(name, run, seen)| SurvivalCurve {
            name,
            run,
            n: seen.x.len(),
            bins: bins(&seen, level),
            logistic: logistic(&seen, level),
        })
        .collect()
}

/// The content of a bin: the sum of survival, and for each example the numbers of followed and of all instructions.
type Filling = (f64, BTreeMap<usize, (usize, usize)>);

fn bins(seen: &Observations, level: f64) -> Vec<Bin> {
    /// Number of bins between survival 0 and 1, which have bins of their own.
    const INNER: f64 = 5.0;
    let mut bins: BTreeMap<usize, Filling> = BTreeMap::new();
    for ((&survival, &pass), &example) in seen.x.iter().zip(&seen.y).zip(&seen.cluster) {
        let bin = match survival {
            none if none <= 0.0 => 0,
            all if all >= 1.0 => INNER as usize + 1,
            part => 1 + (part * INNER) as usize,
        };
        let (sum, examples) = bins.entry(bin).or_default();
        *sum += survival;
        let (followed, n) = examples.entry(example).or_default();
        *followed += usize::from(pass);
        *n += 1;
    }
    bins.into_iter()
        .map(|(bin, (sum, examples))| {
            let followed = clustered_proportion(&examples.into_values().collect::<Vec<_>>(), level);
            Bin {
                from: (bin.saturating_sub(1) as f64 / INNER).min(1.0),
                to: (bin as f64 / INNER).min(1.0) * f64::from(u8::from(bin > 0)),
                survival: sum / followed.n as f64,
                followed,
            }
        })
        .collect()
}
