//! A confidence sequence: an interval that stays valid if you look at it after every example.

use super::Estimate;

/// Number of candidate means in [0, 1]; differences are resolved to a thousandth.
const GRID: usize = 2_000;
/// Largest share of its capital that a bet may risk.
const MOST_AT_STAKE: f64 = 0.5;

/// Confidence sequence for the mean of paired differences in [-1, 1], by betting: the hedged capital process with
/// predictable plug-in bets (Waudby-Smith & Ramdas 2024, J. R. Stat. Soc. B 86:1-27, Theorem 3; arXiv 2010.09686).
/// Whatever the distribution, the true mean lies in *all* intervals at once with probability `level`: you may look
/// after every example and stop at any time.
///
/// Differences are rescaled to `x` in [0, 1]. For every candidate mean `m`, one gambler bets that the true mean is
/// higher, and another that it is lower:
///
/// ```text
/// up(m)   = prod_i 1 + min(bet_i, c / m)       (x_i - m)
/// down(m) = prod_i 1 - min(bet_i, c / (1 - m)) (x_i - m)
/// bet_i   = sqrt(2 ln(2/alpha) / (variance_(i-1) i ln(i + 1)))
/// mean_i  = (1/2 + x_1 + .. + x_i) / (i + 1)
/// variance_i = (1/4 + sum_(j <= i) (x_j - mean_j)^2) / (i + 1)
/// ```
///
/// If `m` is the true mean, neither gambler's capital is expected to grow, and by Ville's inequality the probability
/// that one of the two ever reaches `2/alpha` is at most `alpha`. If one does, `m` is rejected for good. `up` falls
/// with `m` and `down` rises, so the candidates that remain form an interval. Its ends are the nearest *rejected*
/// candidates: what the grid leaves open counts as inside.
#[derive(Debug, Clone)]
pub struct ConfidenceSequence {
    level: f64,
    up: Vec<f64>,
    down: Vec<f64>,
    /// The ends: all candidates outside are rejected, and those strictly between are not.
    low: usize,
    high: usize,
    n: usize,
    sum: f64,
    squares: f64,
}

impl ConfidenceSequence {
    /// The state before the first example: the interval is [-1, 1].
    pub fn new(level: f64) -> Self {
        let one = vec![1.0; GRID + 1];
        ConfidenceSequence { level, up: one.clone(), down: one, low: 0, high: GRID, n: 0, sum: 0.0, squares: 0.0 }
    }

    /// Adds the difference of one more example.
    ///
    /// # Panics
    /// If it is not in [-1, 1].
    pub fn push(&mut self, difference: f64) {
        assert!((-1.0..=1.0).contains(&difference), "a difference of scores in [0, 1], not {difference}");
        let x = (difference + 1.0) / 2.0;
        let (fortune, i) = (2.0 / (1.0 - self.level), (self.n + 1) as f64);
        let variance = (0.25 + self.squares) / i;
        let bet = (2.0 * fortune.ln() / (variance * i * (i + 1.0).ln())).sqrt();
        for candidate in self.low + 1..self.high {
            let m = candidate as f64 / GRID as f64;
            self.up[candidate] *= 1.0 + bet.min(MOST_AT_STAKE / m) * (x - m);
            self.down[candidate] *= 1.0 - bet.min(MOST_AT_STAKE / (1.0 - m)) * (x - m);
        }
        while self.low + 1 < self.high && self.up[self.low + 1] >= fortune {
            self.low += 1;
        }
        while self.low + 1 < self.high && self.down[self.high - 1] >= fortune {
            self.high -= 1;
        }
        self.n += 1;
        self.sum += x;
        self.squares += (x - (0.5 + self.sum) / (i + 1.0)).powi(2);
    }

    /// The mean difference so far, with the interval that remains after all examples so far.
    pub fn estimate(&self) -> Estimate {
        let end = |candidate: usize| (2 * candidate) as f64 / GRID as f64 - 1.0;
        let point = if self.n == 0 { 0.0 } else { 2.0 * self.sum / self.n as f64 - 1.0 };
        Estimate { point, low: end(self.low), high: end(self.high), level: self.level, n: self.n }
    }
}
