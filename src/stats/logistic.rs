//! Logistic regression on one variable.

use serde::{Deserialize, Serialize};

/// `log(p / (1 - p)) = intercept + slope x`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Logistic {
    /// Log-odds at `x = 0`.
    pub intercept: f64,
    /// Change of the log-odds per unit of `x`.
    pub slope: f64,
    /// Standard error of the slope.
    pub slope_se: f64,
    /// Observations.
    pub n: usize,
}

/// Fits by maximum likelihood (iteratively reweighted least squares). `None` where no finite
/// estimate exists: one class or one `x` only, or classes that a threshold separates.
///
/// # Panics
/// If the slices differ in length.
pub fn logistic(x: &[f64], y: &[bool]) -> Option<Logistic> {
    assert_eq!(x.len(), y.len(), "paired data");
    let (mut intercept, mut slope) = (0.0f64, 0.0f64);
    for _ in 0..100 {
        let (mut h00, mut h01, mut h11, mut g0, mut g1) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (&x, &y) in x.iter().zip(y) {
            let p = 1.0 / (1.0 + (-(intercept + slope * x)).exp());
            let (weight, residual) = (p * (1.0 - p), f64::from(u8::from(y)) - p);
            h00 += weight;
            h01 += weight * x;
            h11 += weight * x * x;
            g0 += residual;
            g1 += residual * x;
        }
        let determinant = h00 * h11 - h01 * h01;
        if determinant.is_nan() || determinant <= 1e-12 * h00 * h11 {
            return None;
        }
        let step = [(h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant];
        intercept += step[0];
        slope += step[1];
        if intercept.abs() > 1e3 || slope.abs() > 1e3 {
            return None;
        }
        if step[0].abs() + step[1].abs() < 1e-12 * (1.0 + intercept.abs() + slope.abs()) {
            // Fitted probabilities of 0 and 1 throughout mean separation, not convergence.
            let separated = h00 < 1e-6 * x.len() as f64;
            return (!separated).then(|| Logistic {
                intercept,
                slope,
                slope_se: (h00 / determinant).sqrt(),
                n: x.len(),
            });
        }
    }
    None
}
