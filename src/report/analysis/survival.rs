//! Was an instruction followed, given how much of its own text survived?

use std::collections::BTreeMap;

use serde::Serialize;

use crate::exp::InstructionRow;
use crate::report::Table;
use crate::stats::{Estimate, Logistic, logistic, wilson};

/// A policy's instructions, by how much of them survived.
#[derive(Debug, Clone, Serialize)]
pub struct SurvivalCurve {
    /// The policy and what else its conditions have in common, all budgets together.
    pub name: String,
    /// Index of the run.
    pub run: usize,
    /// Instructions of trials.
    pub n: usize,
    /// Pass rates, bin by bin; only bins that hold instructions.
    pub bins: Vec<Bin>,
    /// The logistic curve through all of them.
    pub logistic: Option<Logistic>,
}

/// Instructions of about the same survival.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// From this survival.
    pub from: f64,
    /// To this one: nothing and everything have bins of their own, the others exclude their upper end.
    pub to: f64,
    /// Mean survival within.
    pub survival: f64,
    /// Fraction followed, with Wilson's interval. `n` counts instructions of trials.
    pub followed: Estimate,
}

/// Whether an instruction counts as followed: its score is at least 0.5.
pub(super) fn followed(row: &InstructionRow) -> Option<bool> {
    row.by_rule().or(row.score).map(|score| score >= 0.5)
}

/// One curve per policy; the full cache, where everything survives, has none.
pub(super) fn curves(table: &Table, level: f64) -> Vec<SurvivalCurve> {
    let mut series: Vec<(String, usize, Vec<f64>, Vec<bool>)> = Vec::new();
    for column in table.columns.iter().filter(|column| !column.condition.is_full()) {
        let mut name = column.condition.series();
        if table.runs.len() > 1 {
            name = format!("{name} in {}", table.runs[column.run].name);
        }
        let index =
            series.iter().position(|(other, run, ..)| *other == name && *run == column.run).unwrap_or_else(|| {
                series.push((name, column.run, Vec::new(), Vec::new()));
                series.len() - 1
            });
        let (.., survivals, passes) = &mut series[index];
        for row in column.finished().flat_map(|trial| &trial.instructions) {
            if let (Some(survival), Some(followed)) = (row.survival, followed(row)) {
                survivals.push(survival);
                passes.push(followed);
            }
        }
    }
    series
        .into_iter()
        .filter(|(.., survivals, _)| !survivals.is_empty())
        .map(|(name, run, survivals, passes)| SurvivalCurve {
            name,
            run,
            n: survivals.len(),
            bins: bins(&survivals, &passes, level),
            logistic: logistic(&survivals, &passes),
        })
        .collect()
}

fn bins(survivals: &[f64], passes: &[bool], level: f64) -> Vec<Bin> {
    /// Fifths, with bins of their own for nothing and everything.
    const INNER: f64 = 5.0;
    let mut bins: BTreeMap<usize, (f64, usize, usize)> = BTreeMap::new();
    for (&survival, &pass) in survivals.iter().zip(passes) {
        let bin = match survival {
            none if none <= 0.0 => 0,
            all if all >= 1.0 => INNER as usize + 1,
            part => 1 + (part * INNER) as usize,
        };
        let (sum, followed, n) = bins.entry(bin).or_default();
        *sum += survival;
        *followed += usize::from(pass);
        *n += 1;
    }
    bins.into_iter()
        .map(|(bin, (sum, followed, n))| Bin {
            from: (bin.saturating_sub(1) as f64 / INNER).min(1.0),
            to: (bin as f64 / INNER).min(1.0) * f64::from(u8::from(bin > 0)),
            survival: sum / n as f64,
            followed: wilson(followed, n, level),
        })
        .collect()
}
