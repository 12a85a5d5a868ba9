//! Logistic regression on one variable, with another held fixed, for observations in clusters.

use serde::{Deserialize, Serialize};

use super::student::t_quantile;
use super::{Estimate, mean};

/// `log(p / (1 - p)) = intercept + slope x + (another slope) (held - mean of held)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Logistic {
    /// Log-odds at `x = 0` and at the mean of the variable held fixed.
    pub intercept: f64,
    /// Change of the log-odds per unit of `x`, with its interval over clusters.
    pub slope: Estimate,
    /// Standard error of the slope, robust to dependence within clusters.
    pub slope_se: f64,
    /// Number of observations.
    pub n: usize,
    /// Number of clusters.
    pub clusters: usize,
}

/// Yes/no observations.
#[derive(Debug, Clone, Default)]
pub struct Observations {
    /// The variable.
    pub x: Vec<f64>,
    /// Another variable, held fixed; it is left out of the fit if all its values are equal.
    pub held: Vec<f64>,
    /// The outcome of each observation.
    pub y: Vec<bool>,
    /// The cluster of each observation, such as its example; in any order.
    pub cluster: Vec<usize>,
}

/// Fits by maximum likelihood (iteratively reweighted least squares). The standard error is the sandwich over clusters
/// (Liang & Zeger 1986) with the correction `G / (G - 1) (n - 1) / (n - k)` for `G` clusters and `k` coefficients; the
/// interval uses t with `G - 1` degrees of freedom. `None` if no finite estimate exists: only one class, one `x` or one
/// cluster, or classes that can be separated.
///
/// # Panics
/// If the lists differ in length.
pub fn logistic(observations: &Observations, level: f64) -> Option<Logistic> {
    let Observations { x, held, y, cluster } = observations;
    assert!([held.len(), y.len(), cluster.len()].iter().all(|&n| n == x.len()), "one of each an observation");
    let center = mean(held);
    let varies = held.iter().any(|value| *value != held[0]);
    let row = |at: usize| {
        let whole = [1.0, x[at], held[at] - center];
        if varies { whole.to_vec() } else { whole[..2].to_vec() }
    };
    let rows: Vec<Vec<f64>> = (0..x.len()).map(row).collect();
    let fit = maximize(&rows, y)?;
    let mut sums: std::collections::BTreeMap<usize, Vec<f64>> = std::collections::BTreeMap::new();
    for ((row, &yes), &cluster) in rows.iter().zip(y).zip(cluster) {
        let residual = f64::from(u8::from(yes)) - probability(row, &fit.coefficients);
        let sum = sums.entry(cluster).or_insert_with(|| vec![0.0; row.len()]);
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += residual * value);
    }
    let (n, k, clusters) = (x.len() as f64, rows[0].len(), sums.len());
    if clusters < 2 || x.len() <= k {
        return None;
    }
    // The influence of each cluster on the slope.
    let moves = |sum: &Vec<f64>| sum.iter().zip(&fit.inverse[1]).map(|(sum, bread)| sum * bread).sum::<f64>();
    let meat: f64 = sums.values().map(|sum| moves(sum).powi(2)).sum();
    let correction = clusters as f64 / (clusters as f64 - 1.0) * (n - 1.0) / (n - k as f64);
    let (slope, slope_se) = (fit.coefficients[1], (meat * correction).sqrt());
    let half = t_quantile((1.0 + level) / 2.0, clusters) * slope_se;
    let slope = Estimate { point: slope, low: slope - half, high: slope + half, level, n: clusters };
    Some(Logistic { intercept: fit.coefficients[0], slope, slope_se, n: x.len(), clusters })
}

struct Fit {
    coefficients: Vec<f64>,
    /// Inverse of the information matrix.
    inverse: Vec<Vec<f64>>,
}

fn probability(row: &[f64], coefficients: &[f64]) -> f64 {
    let log_odds: f64 = row.iter().zip(coefficients).map(|(value, coefficient)| value * coefficient).sum();
    1.0 / (1.0 + (-log_odds).exp())
}

fn maximize(rows: &[Vec<f64>], y: &[bool]) -> Option<Fit> {
    let k = rows.first()?.len();
    let mut coefficients = vec![0.0f64; k];
    for _ in 0..100 {
        let (mut information, mut gradient) = (vec![vec![0.0; k]; k], vec![0.0; k]);
        for (row, &yes) in rows.iter().zip(y) {
            let p = probability(row, &coefficients);
            let (weight, residual) = (p * (1.0 - p), f64::from(u8::from(yes)) - p);
            for i in 0..k {
                gradient[i] += residual * row[i];
                (0..k).for_each(|j| information[i][j] += weight * row[i] * row[j]);
            }
        }
        // If the fitted probabilities are 0 and 1 everywhere, the classes are separated and the fit has not converged.
        let separated = information[0][0] < 1e-6 * rows.len() as f64;
        let inverse = inverse(information)?;
        let step: Vec<f64> =
            inverse.iter().map(|row| row.iter().zip(&gradient).map(|(a, b)| a * b).sum::<f64>()).collect();
        coefficients.iter_mut().zip(&step).for_each(|(coefficient, step)| *coefficient += step);
        let size = |values: &[f64]| values.iter().map(|value| value.abs()).sum::<f64>();
        if size(&coefficients) > 1e3 {
            return None;
        }
        if size(&step) < 1e-12 * (1.0 + size(&coefficients)) {
            return (!separated).then_some(Fit { coefficients, inverse });
        }
    }
    None
}

/// The inverse of a symmetric positive definite matrix, by Gauss-Jordan elimination; `None` for any other matrix.
fn inverse(mut matrix: Vec<Vec<f64>>) -> Option<Vec<Vec<f64>>> {
    let k = matrix.len();
    let scale: Vec<f64> = (0..k).map(|i| matrix[i][i]).collect();
    let mut inverse: Vec<Vec<f64>> = (0..k).map(|i| (0..k).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for i in 0..k {
        let pivot = matrix[i][i];
        if pivot.is_nan() || pivot <= 1e-10 * scale[i] {
            return None;
        }
        for half in [&mut matrix, &mut inverse] {
            half[i].iter_mut().for_each(|value| *value /= pivot);
        }
        for j in (0..k).filter(|&j| j != i) {
            let factor = matrix[j][i];
            for half in [&mut matrix, &mut inverse] {
                let row = half[i].clone();
                half[j].iter_mut().zip(row).for_each(|(value, subtracted)| *value -= factor * subtracted);
            }
        }
    }
    Some(inverse)
}
