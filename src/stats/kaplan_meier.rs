//! How long something lasts: Kaplan-Meier curves and the log-rank test.

use statrs::distribution::{ChiSquared, ContinuousCDF as _};

use super::paired::sign_flip;
use super::{Estimate, normal_quantile};

/// How long something lasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// The time at which it ended, or at which it was seen last.
    pub time: usize,
    /// Whether it ended then; otherwise it was still whole.
    pub ended: bool,
}

/// By time from 0 to the last: the fraction that is still whole after it (Kaplan & Meier 1958). Lives come in groups, such
/// as the rules of one chat, and only the groups are independent: the variance sums the influence of each group. If each
/// group has one life, this is Greenwood's variance. The interval is on the scale of `log(-log)`, as in lifelines. Where
/// all or none are whole, it is the exact binomial one of the groups at risk. `n` is the number of lives at risk.
pub fn kaplan_meier(groups: &[Vec<Life>], level: f64) -> Vec<Estimate> {
    let lives = || groups.iter().flatten();
    let last = lives().map(|life| life.time).max();
    let z = normal_quantile(f64::midpoint(1.0, level));
    let mut whole = 1.0f64;
    // By group: the derivative of log(whole) by the weight of its lives.
    let mut influence = vec![0.0; groups.len()];
    let mut curve = Vec::new();
    for time in 0..last.map_or(0, |last| last + 1) {
        let at_risk = |life: &Life| life.time >= time;
        let ends = |life: &Life| life.time == time && life.ended;
        let count = lives().filter(|life| at_risk(life)).count();
        let (n, d) = (count as f64, lives().filter(|life| ends(life)).count() as f64);
        whole *= 1.0 - d / n;
        if d < n {
            for (sum, group) in influence.iter_mut().zip(groups) {
                for life in group.iter().filter(|life| at_risk(life)) {
                    *sum -= (f64::from(u8::from(ends(life))) - d / n) / (n - d);
                }
            }
        }
        let groups_at_risk = groups.iter().filter(|group| group.iter().any(at_risk)).count();
        let edge = ((1.0 - level) / 2.0).powf(1.0 / groups_at_risk as f64);
        let (low, high) = if whole >= 1.0 {
            (edge, 1.0)
        } else if whole <= 0.0 {
            // It cannot be more than before.
            let before = curve.last().map_or(1.0, |before: &Estimate| before.high);
            (0.0, (1.0 - edge).min(before))
        } else {
            let variance: f64 = influence.iter().map(|sum| sum * sum).sum();
            let spread = z * variance.sqrt() / whole.ln().abs();
            (whole.powf(spread.exp()), whole.powf((-spread).exp()))
        };
        curve.push(Estimate { point: whole, low, high, level, n: count });
    }
    curve
}

/// The log-rank test of two independent groups (Mantel 1966): chi-square with one degree of freedom, and its p-value;
/// 0 and 1 where nothing ends.
pub fn log_rank(a: &[Life], b: &[Life]) -> (f64, f64) {
    let pooled: Vec<Life> = [a, b].concat();
    let last = pooled.iter().map(|life| life.time).max().unwrap_or(0);
    let count = |lives: &[Life], test: &dyn Fn(&Life) -> bool| lives.iter().filter(|life| test(life)).count() as f64;
    let (mut difference, mut variance) = (0.0, 0.0);
    for time in 0..=last {
        let at_risk = |life: &Life| life.time >= time;
        let ends = |life: &Life| life.time == time && life.ended;
        let (n, n_a) = (count(&pooled, &at_risk), count(a, &at_risk));
        let (d, d_a) = (count(&pooled, &ends), count(a, &ends));
        if d == 0.0 {
            continue;
        }
        difference += d_a - d * n_a / n;
        if n > 1.0 {
            variance += d * n_a / n * (1.0 - n_a / n) * (n - d) / (n - 1.0);
        }
    }
    if variance <= 0.0 {
        return (0.0, 1.0);
    }
    let statistic = difference * difference / variance;
    (statistic, ChiSquared::new(1.0).map_or(1.0, |chi| chi.sf(statistic)))
}

/// The log-rank test of pairs of groups, such as the rules of one chat under two conditions: a p-value. Each life has a
/// score, whether it ended minus the hazard of all lives up to its time, and `O - E` of a side is the sum of its scores.
/// Under the null hypothesis the two groups of a pair may be exchanged, so this is the [sign-flip test](sign_flip) of the
/// differences within pairs.
///
/// # Panics
/// If there are not as many of both.
pub fn paired_log_rank(a: &[Vec<Life>], b: &[Vec<Life>], seed: u64) -> f64 {
    assert_eq!(a.len(), b.len(), "pairs");
    let pooled: Vec<&Life> = a.iter().chain(b).flatten().collect();
    let last = pooled.iter().map(|life| life.time).max().unwrap_or(0);
    let mut hazard = 0.0;
    let hazards: Vec<f64> = (0..=last)
        .map(|time| {
            let at_risk = pooled.iter().filter(|life| life.time >= time).count();
            let ended = pooled.iter().filter(|life| life.time == time && life.ended).count();
            hazard += ended as f64 / at_risk.max(1) as f64;
            hazard
        })
        .collect();
    let score = |life: &Life| f64::from(u8::from(life.ended)) - hazards[life.time];
    let sum = |group: &Vec<Life>| group.iter().map(score).sum::<f64>();
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| sum(a) - sum(b)).collect();
    sign_flip(&differences, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(time: usize, ended: bool) -> Life {
        Life { time, ended }
    }

    fn alone(lives: &[Life]) -> Vec<Vec<Life>> {
        lives.iter().map(|&life| vec![life]).collect()
    }

    #[test]
    fn curves_without_an_end_and_without_a_survivor_have_exact_intervals() {
        let whole = kaplan_meier(&alone(&[life(2, false); 10]), 0.95);
        assert_eq!(whole.len(), 3);
        assert!(whole[2].point == 1.0 && whole[2].high == 1.0 && (whole[2].low - 0.025f64.powf(0.1)).abs() < 1e-12);
        let gone = kaplan_meier(&alone(&[life(0, true); 10]), 0.95);
        assert!(
            gone[0].point == 0.0 && gone[0].low == 0.0 && (gone[0].high - (1.0 - 0.025f64.powf(0.1))).abs() < 1e-12
        );
        assert!(kaplan_meier(&[], 0.95).is_empty());
        assert_eq!(log_rank(&[life(3, false)], &[life(2, false)]), (0.0, 1.0));
    }

    #[test]
    fn copies_within_a_group_are_no_new_evidence() {
        let lives = [life(0, true), life(1, true), life(1, false), life(2, true), life(3, false), life(3, true)];
        let copied: Vec<Vec<Life>> = lives.iter().map(|&life| vec![life; 3]).collect();
        for (one, three) in kaplan_meier(&alone(&lives), 0.95).iter().zip(kaplan_meier(&copied, 0.95)) {
            for (a, b) in [(one.point, three.point), (one.low, three.low), (one.high, three.high)] {
                assert!((a - b).abs() < 1e-12, "{one:?} {three:?}");
            }
        }
    }

    #[test]
    fn pairs_are_exchanged_within_themselves() {
        // In every one of 10 pairs, b ends first: of 2^10 exchanges, 2 are as extreme.
        let (a, b): (Vec<_>, Vec<_>) = (0..10).map(|at| (life(9, false), life(at % 3, true))).unzip();
        assert!((paired_log_rank(&alone(&a), &alone(&b), 1) - 2.0 / 1024.0).abs() < 1e-12);
        assert_eq!(paired_log_rank(&alone(&a), &alone(&a), 1), 1.0);
    }
}
