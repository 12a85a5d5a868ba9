//! The earned score: how much was followed beyond luck.
//!
//! An answer can pass a rule that it never saw: a short answer often has no commas, and noise has no capital letters.
//! How often this happens is measured on the *donors* of a rule: the answers to *other* prompts under the same
//! condition that ask for no rule of its type. With `P` the share of rules passed and `Q` the share passed by luck (the
//! chance), the earned score is `(P - Q) / (1 - Q)`: 0 is no better than luck, 1 is always followed; `P` = 0.6 and `Q`
//! = 0.2 give 0.5. This is Cohen's kappa (1960) and Abbott's formula (1925), with a measured chance instead of an
//! assumed one.

use serde::{Deserialize, Serialize};

use super::{Estimate, mean, t_interval};

/// A rule of an example, and the examples whose answers measure its chance.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The example that asks for the rule.
    pub example: usize,
    /// Its donors, or a sample of them.
    pub donors: Vec<usize>,
    /// How many donors there are.
    pub n_donors: usize,
}

/// The verdicts on the answers of one condition. They are fractions: means over repeats.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdicts {
    /// For each example, whether it has a scored answer.
    pub answered: Vec<bool>,
    /// For each rule, its verdict on the answer to its own example.
    pub own: Vec<f64>,
    /// For each rule and donor, in the order of [`Asked::donors`], the verdict on the donor's answer.
    pub donated: Vec<Vec<f64>>,
}

/// The contribution of each example to `P` and `Q` of one condition, times the number of examples: the mean of `own` is
/// `P`, and the means of `given` and of `met` are `Q`.
#[derive(Debug, Clone, PartialEq)]
pub struct Shares {
    /// From the example's own rules that passed.
    pub own: Vec<f64>,
    /// From its answer, as a donor to the rules of others.
    pub given: Vec<f64>,
    /// From the chance of its own rules.
    pub met: Vec<f64>,
    /// The same as `given`, with the chance of its rule subtracted from each verdict: the influence of the answer
    /// alone.
    pull: Vec<f64>,
    /// 0 for an example that is only a donor; else the inverse of the share of examples that ask for rules.
    asks: Vec<f64>,
    /// Variance of `Q` that comes from sampling donors.
    sampling: f64,
}

/// Share passed, chance, and earned score of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Earned {
    /// `P`: mean over examples of the share of their rules that their answers pass.
    pub passed: Estimate,
    /// `Q`: the same for answers that never saw those rules.
    pub chance: Estimate,
    /// `(P - Q) / (1 - Q)`.
    pub earned: Estimate,
    /// Standard error of `Q` from sampling donors; 0 if all donors were used.
    pub sampling_error: f64,
}

/// The contributions for several conditions, on the examples that all of them answered. `None` if no rule has a donor
/// among these.
pub fn shares(asked: &[Asked], conditions: &[&Verdicts]) -> Option<Vec<Shares>> {
    let n_examples = conditions.first()?.answered.len();
    let there: Vec<bool> = (0..n_examples).map(|k| conditions.iter().all(|condition| condition.answered[k])).collect();
    // The rules of those examples, each with the places of its remaining donors.
    let left = |rule: &Asked| -> Vec<usize> {
        (0..rule.donors.len()).filter(|&place| there[rule.donors[place]]).collect::<Vec<usize>>()
    };
    let rules: Vec<(usize, Vec<usize>)> = asked
        .iter()
        .enumerate()
        .filter(|(_, rule)| there[rule.example])
        .map(|(index, rule)| (index, left(rule)))
        .filter(|(_, places)| !places.is_empty())
        .collect();
    let mut n_rules = vec![0.0; n_examples];
    let mut takes_part = vec![false; n_examples];
    for (index, places) in &rules {
        let rule = &asked[*index];
        n_rules[rule.example] += 1.0;
        takes_part[rule.example] = true;
        places.iter().for_each(|&place| takes_part[rule.donors[place]] = true);
    }
    let n_asking = n_rules.iter().filter(|&&count| count > 0.0).count() as f64;
    let clusters: Vec<usize> = (0..n_examples).filter(|&k| takes_part[k]).collect();
    let scale = clusters.len() as f64 / n_asking;
    let of = |condition: &&Verdicts| {
        let zero = || vec![0.0; n_examples];
        let (mut own, mut given, mut met, mut pull, mut sampling) = (zero(), zero(), zero(), zero(), 0.0);
        for (index, places) in &rules {
            let (rule, donated) = (&asked[*index], &condition.donated[*index]);
            let weight = scale / n_rules[rule.example];
            let share = 1.0 / places.len() as f64;
            let chance: f64 = places.iter().map(|&place| donated[place] * share).sum();
            own[rule.example] += weight * condition.own[*index];
            met[rule.example] += weight * chance;
            let mut squares = 0.0;
            for &place in places {
                let donor = rule.donors[place];
                given[donor] += weight * share * donated[place];
                pull[donor] += weight * share * (donated[place] - chance);
                squares += (donated[place] - chance).powi(2);
            }
            let unseen = 1.0 - rule.donors.len() as f64 / rule.n_donors as f64;
            if unseen > 0.0 && places.len() > 1 {
                let weight = weight / clusters.len() as f64;
                sampling += weight.powi(2) * squares / (places.len() - 1) as f64 * share * unseen;
            }
        }
        let kept = |all: Vec<f64>| clusters.iter().map(|&k| all[k]).collect::<Vec<f64>>();
        let asks = clusters.iter().map(|&k| if n_rules[k] > 0.0 { scale } else { 0.0 }).collect();
        Shares { own: kept(own), given: kept(given), met: kept(met), pull: kept(pull), asks, sampling }
    };
    (!rules.is_empty()).then(|| conditions.iter().map(of).collect())
}

impl Shares {
    fn passed(&self) -> f64 {
        mean(&self.own)
    }

    fn chance(&self) -> f64 {
        mean(&self.given)
    }

    /// The earned score; `None` if the chance is 1.
    pub fn score(&self) -> Option<f64> {
        let (p, q) = (self.passed(), self.chance());
        (q < 1.0 - 1e-9).then(|| (p - q) / (1.0 - q))
    }

    /// Share passed, chance and earned score, with t intervals over examples on the influence of each (linearization,
    /// as in Efron & Tibshirani 1993, chapter 21). The influence of an example contains its rules, what its answer
    /// passes of them, and what its answer passes of other examples' rules.
    pub fn earned(&self, level: f64) -> Option<Earned> {
        let (p, q, score) = (self.passed(), self.chance(), self.score()?);
        let examples = 0..self.own.len();
        let passed: Vec<f64> = examples.clone().map(|k| self.own[k] - self.asks[k] * p).collect();
        let chance: Vec<f64> = examples.map(|k| self.pull[k] + self.met[k] - self.asks[k] * q).collect();
        let earned: Vec<f64> = passed
            .iter()
            .zip(&chance)
            .map(|(passed, chance)| passed / (1.0 - q) - chance * (1.0 - p) / (1.0 - q).powi(2))
            .collect();
        let around = |point: f64, influence: &[f64], lowest: f64| {
            let values: Vec<f64> = influence.iter().map(|moved| point + moved).collect();
            let interval = t_interval(&values, level);
            Estimate { point, low: interval.low.max(lowest), high: interval.high.min(1.0), ..interval }
        };
        Some(Earned {
            passed: around(p, &passed, 0.0),
            chance: around(q, &chance, 0.0),
            earned: around(score, &earned, f64::NEG_INFINITY),
            sampling_error: self.sampling.sqrt(),
        })
    }
}

/// A contrast of earned scores, `sum of weight times earned score`, by example.
#[derive(Debug, Clone, PartialEq)]
pub struct Contrast {
    /// Values whose mean is exactly the contrast; for its interval.
    pub by_example: Vec<f64>,
    /// The same on a scale that does not change when an example's answers are exchanged between conditions; for its
    /// test.
    pub tested: Vec<f64>,
    /// For each example and condition, the terms whose weighted sum is `tested`; for permutations.
    pub parts: Vec<Vec<f64>>,
}

/// Contrasts the earned scores of conditions on the same examples, as [`shares`] gives them. With `Pm`, `Qm` the means
/// over conditions, an earned score minus that of the means is exactly
/// `((1 - Qm)(P - Pm) - (1 - Pm)(Q - Qm)) / ((1 - Q)(1 - Qm))`, and `P` and `Q` are sums over examples. For two
/// conditions with the weights -1 and 1 this is
/// `((1 - Qm)(own_b - own_a) - (1 - Pm)(given_b - given_a)) / ((1 - Q_a)(1 - Q_b))`. `None` if the chance of some
/// condition is 1.
///
/// # Panics
/// If the number of weights is not that of conditions, or the weights do not sum to 0.
pub fn contrast(conditions: &[Shares], weights: &[f64]) -> Option<Contrast> {
    assert_eq!(conditions.len(), weights.len(), "one weight a condition");
    assert!(weights.iter().sum::<f64>().abs() < 1e-9, "a contrast's weights sum to 0");
    let n = conditions.first()?.own.len();
    let middle = |value: fn(&Shares) -> f64| mean(&conditions.iter().map(value).collect::<Vec<_>>());
    let (p, q) = (middle(Shares::passed), middle(Shares::chance));
    if conditions.iter().any(|condition| condition.score().is_none()) {
        return None;
    }
    // Conditions with equal answers differ by nothing, not by the last bits of sums.
    let round = |value: f64| (value * 1e12).round() / 1e12;
    let part = |condition: &Shares, k: usize| round((1.0 - q) * condition.own[k] - (1.0 - p) * condition.given[k]);
    let parts: Vec<Vec<f64>> =
        (0..n).map(|k| conditions.iter().map(|condition| part(condition, k)).collect()).collect();
    let scaled: Vec<f64> = conditions
        .iter()
        .zip(weights)
        .map(|(condition, weight)| weight / ((1.0 - condition.chance()) * (1.0 - q)))
        .collect();
    let by_example = parts
        .iter()
        .map(|parts| {
            let middle = mean(parts);
            round(parts.iter().zip(&scaled).map(|(part, weight)| weight * (part - middle)).sum())
        })
        .collect();
    let common = (1.0 - q).powi(2);
    let parts: Vec<Vec<f64>> =
        parts.into_iter().map(|parts| parts.into_iter().map(|part| part / common).collect()).collect();
    let weighted = |parts: &Vec<f64>| round(parts.iter().zip(weights).map(|(part, weight)| part * weight).sum());
    Some(Contrast { by_example, tested: parts.iter().map(weighted).collect(), parts })
}
