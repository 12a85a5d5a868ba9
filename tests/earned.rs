//! The earned score against its definition (`scripts/stats-goldens.py`), and by simulation.

use kvllama::stats::{Asked, Shares, Verdicts, contrast, shares, sign_flip, t_interval};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde_json::Value;

#[test]
fn earned_scores_equal_their_definition() {
    let goldens: Value = serde_json::from_str(include_str!("fixtures/stats.json")).unwrap();
    let whole = |value: &Value| value.as_u64().unwrap() as usize;
    let real = |value: &Value| value.as_f64().unwrap();
    for case in goldens["earned"].as_array().unwrap() {
        let asked: Vec<Asked> = case["rules"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| {
                let donors: Vec<usize> = rule[1].as_array().unwrap().iter().map(whole).collect();
                Asked { example: whole(&rule[0]), n_donors: donors.len(), donors }
            })
            .collect();
        let conditions: Vec<Verdicts> = case["verdicts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|verdicts| Verdicts {
                answered: vec![true; whole(&case["n"])],
                own: asked.iter().enumerate().map(|(r, rule)| real(&verdicts[r][rule.example])).collect(),
                donated: asked
                    .iter()
                    .enumerate()
                    .map(|(r, rule)| rule.donors.iter().map(|&k| real(&verdicts[r][k])).collect())
                    .collect(),
            })
            .collect();
        let shares = shares(&asked, &conditions.iter().collect::<Vec<_>>()).unwrap();
        for (ours, theirs) in shares.iter().zip(case["estimates"].as_array().unwrap()) {
            let ours = ours.earned(0.95).unwrap();
            for (ours, theirs) in [ours.passed, ours.chance, ours.earned].iter().zip(theirs.as_array().unwrap()) {
                close(ours.point, real(&theirs[0]));
                // A share lies between 0 and 1, an earned score below 1.
                close(ours.low, if ours.low == 0.0 { 0.0 } else { real(&theirs[1]) });
                close(ours.high, real(&theirs[2]).min(1.0));
            }
        }
        let cost = contrast(&shares, &[-1.0, 1.0]).unwrap();
        assert_eq!(cost.by_example.len(), case["d"].as_array().unwrap().len());
        for (ours, theirs) in cost.by_example.iter().zip(case["d"].as_array().unwrap()) {
            close(*ours, real(theirs));
        }
        let interval = t_interval(&cost.by_example, 0.9);
        close(interval.point, shares[1].score().unwrap() - shares[0].score().unwrap());
        close(interval.low, real(&case["t"][0]));
        close(interval.high, real(&case["t"][1]));
    }
}

#[track_caller]
fn close(ours: f64, theirs: f64) {
    assert!((ours - theirs).abs() < 1e-9, "{ours} is not {theirs}");
}

/// Uniform in [0, 1).
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// By condition and type of rule: the probability that chance passes the rule.
const LUCK: [[f64; 8]; 2] = [[0.2, 0.05, 0.5, 0.0, 0.3, 0.1, 0.9, 0.02], [0.7, 0.05, 0.6, 0.0, 0.8, 0.3, 0.95, 0.0]];

/// Two conditions: each answer follows the instructions of its own prompt with the probability `following`, and passes
/// other rules by chance; some answers have more luck than others.
fn experiment(rng: &mut ChaCha8Rng, n: usize, following: [f64; 2]) -> Vec<Shares> {
    let types = LUCK[0].len();
    let mut asks: Vec<Vec<usize>> = Vec::new();
    for _ in 0..n {
        let mut own: Vec<usize> =
            (0..1 + (uniform(rng) * 3.0) as usize).map(|_| (uniform(rng) * types as f64) as usize).collect();
        own.sort_unstable();
        own.dedup();
        asks.push(own);
    }
    let asked: Vec<Asked> = asks
        .iter()
        .enumerate()
        .flat_map(|(example, own)| own.iter().map(move |kind| (example, *kind)))
        .map(|(example, kind)| {
            let donors: Vec<usize> = (0..n).filter(|&k| !asks[k].contains(&kind)).collect();
            Asked { example, n_donors: donors.len(), donors }
        })
        .collect();
    let kinds: Vec<usize> = asks.iter().flatten().copied().collect();
    let conditions: Vec<Verdicts> = (0..2)
        .map(|condition| {
            let passes: Vec<Vec<bool>> = (0..n)
                .map(|_| {
                    let lucky = uniform(rng);
                    LUCK[condition]
                        .iter()
                        .map(|&luck| if uniform(rng) < 0.5 { lucky < luck } else { uniform(rng) < luck })
                        .collect()
                })
                .collect();
            let own = asked.iter().zip(&kinds).map(|(rule, &kind)| {
                f64::from(u8::from(uniform(rng) < following[condition] || passes[rule.example][kind]))
            });
            Verdicts {
                answered: vec![true; n],
                own: own.collect(),
                donated: asked
                    .iter()
                    .zip(&kinds)
                    .map(|(rule, &kind)| rule.donors.iter().map(|&k| f64::from(u8::from(passes[k][kind]))).collect())
                    .collect(),
            }
        })
        .collect();
    shares(&asked, &conditions.iter().collect::<Vec<_>>()).unwrap()
}

/// The results of many experiments.
#[derive(Debug, Default)]
struct Found {
    /// Mean difference of the earned scores, and mean earned score of the first condition.
    difference: f64,
    first: f64,
    /// Share of experiments whose test rejects at 0.05.
    rejected: f64,
    /// Share of experiments whose interval of the difference, and of the first earned score, contains the truth.
    covered: f64,
    first_covered: f64,
}

/// Tests only the first `tested` experiments, because tests take most of the time.
fn simulate(n: usize, runs: u64, tested: u64, following: [f64; 2]) -> Found {
    let mut rng = ChaCha8Rng::seed_from_u64(n as u64);
    let mut found = Found::default();
    for run in 0..runs {
        let shares = experiment(&mut rng, n, following);
        let cost = contrast(&shares, &[-1.0, 1.0]).unwrap();
        let (interval, first) = (t_interval(&cost.by_example, 0.95), shares[0].earned(0.95).unwrap().earned);
        let count = |yes: bool| f64::from(u8::from(yes));
        found.difference += interval.point;
        found.first += first.point;
        found.rejected += count(run < tested && sign_flip(&cost.tested, run) <= 0.05);
        found.covered += count((interval.low..=interval.high).contains(&(following[1] - following[0])));
        found.first_covered += count((first.low..=first.high).contains(&following[0]));
    }
    let of = |sum: f64| sum / runs as f64;
    Found {
        difference: of(found.difference),
        first: of(found.first),
        rejected: found.rejected / tested.max(1) as f64,
        covered: of(found.covered),
        first_covered: of(found.first_covered),
    }
}

#[test]
fn luck_alone_earns_nothing() {
    for (n, runs, tested) in [(16, 3_000, 1_500), (60, 1_500, 400), (200, 600, 100)] {
        let found = simulate(n, runs, tested, [0.0, 0.0]);
        assert!(found.difference.abs() < 0.01 && found.first.abs() < 0.01, "n = {n}: {found:?}");
        assert!(found.rejected <= 0.055, "n = {n}: {found:?}");
        assert!((0.93..=0.97).contains(&found.covered), "n = {n}: {found:?}");
    }
}

#[test]
fn true_following_is_found_without_bias() {
    for (n, runs) in [(16, 3_000), (60, 1_500), (200, 600)] {
        let found = simulate(n, runs, 0, [0.7, 0.4]);
        assert!((found.difference + 0.3).abs() < 0.01 && (found.first - 0.7).abs() < 0.01, "n = {n}: {found:?}");
        assert!((0.93..=0.97).contains(&found.covered), "n = {n}: {found:?}");
        assert!((0.92..=0.97).contains(&found.first_covered), "n = {n}: {found:?}");
    }
    let equal = simulate(60, 500, 500, [0.5, 0.5]);
    assert!(equal.rejected <= 0.055, "{equal:?}");
}
