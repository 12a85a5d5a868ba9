//! Heat maps: scores by type and condition, scores and divergences by layer.

use serde::Serialize;

use crate::report::analysis::{Analysis, Condition};
use crate::report::figures::{is_everything, shade};
use crate::report::words::{decimals, number};
use crate::stats::Estimate;

/// A heat map.
#[derive(Serialize)]
pub struct Heat {
    /// For people who cannot see it.
    caption: &'static str,
    /// What the rows are.
    of: &'static str,
    columns: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    cells: Vec<Option<Cell>>,
}

#[derive(Serialize)]
struct Cell {
    shade: usize,
    text: String,
    range: String,
    n: usize,
}

/// Scores by type of instruction and condition.
pub fn types(analysis: &Analysis) -> Option<Heat> {
    let row = |row: &crate::report::analysis::Row<String>| Row {
        name: row.name.clone(),
        cells: row.scores.iter().map(|score| score.as_ref().map(scored)).collect(),
    };
    (!analysis.types.is_empty()).then(|| Heat {
        caption: "Score by type of instruction and condition",
        of: "type",
        columns: analysis.conditions.iter().map(|condition| condition.words.clone()).collect(),
        rows: analysis.types.iter().map(row).collect(),
    })
}

/// Scores by the layer that forgets and, if they were measured, divergences.
pub fn layers(analysis: &Analysis) -> Vec<Heat> {
    let divergences = analysis.layers.iter().flat_map(|row| &row.conditions).flatten();
    let divergences: Vec<f64> =
        divergences.filter_map(|&index| Some(analysis.conditions[index].fidelity.kl?.point.ln())).collect();
    let lowest = divergences.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = divergences.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let fine = |value: f64| decimals(value, 3);
    let diverged = |kl: &Estimate| Cell {
        // Divergences spread over orders of magnitude.
        shade: shade((kl.point.ln() - lowest) / (highest - lowest).max(1e-9)),
        text: fine(kl.point),
        range: format!("{}–{}", fine(kl.low), fine(kl.high)),
        n: kl.n,
    };
    let score =
        of_layers(analysis, "Score if one layer alone forgets", |condition| condition.score.as_ref().map(scored));
    let kl = of_layers(analysis, "KL divergence (nats per token) if one layer alone forgets", |condition| {
        condition.fidelity.kl.as_ref().map(diverged)
    });
    let there = [(!analysis.layers.is_empty()).then_some(score), (!divergences.is_empty()).then_some(kl)];
    there.into_iter().flatten().collect()
}

fn of_layers(analysis: &Analysis, caption: &'static str, cell: impl Fn(&Condition) -> Option<Cell>) -> Heat {
    let n_layers = analysis.layers.iter().map(|row| row.conditions.len()).max().unwrap_or(0);
    let cell = |index: Option<usize>| index.and_then(|index| cell(&analysis.conditions[index]));
    Heat {
        caption,
        of: "layer",
        columns: (0..n_layers).map(|layer| layer.to_string()).collect(),
        rows: analysis
            .layers
            .iter()
            .map(|row| Row {
                name: row.name.clone(),
                cells: (0..n_layers).map(|layer| cell(row.conditions.get(layer).copied().flatten())).collect(),
            })
            .collect(),
    }
}

fn scored(score: &Estimate) -> Cell {
    let range = format!("{}–{}", number(score.low.max(0.0)), number(score.high.min(1.0)));
    Cell {
        shade: shade(score.point),
        text: number(score.point),
        range: if is_everything(score) { String::new() } else { range },
        n: score.n,
    }
}
