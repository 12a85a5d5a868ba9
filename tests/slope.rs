//! Slopes, their test, and Holm's correction behind gates: compared with SciPy, and by simulation.

use kvllama::stats::{holm, holm_gated, sign_flip, slope_test, slope_weights};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[test]
fn slopes_equal_scipy() {
    let goldens: Value = serde_json::from_str(include_str!("fixtures/stats.json")).unwrap();
    for case in goldens["slopes"].as_array().unwrap() {
        let doses = numbers(&case["doses"]);
        let values: Vec<Vec<f64>> = case["values"].as_array().unwrap().iter().map(numbers).collect();
        let weights = slope_weights(&doses);
        for (values, slope) in values.iter().zip(numbers(&case["slopes"])) {
            let ours: f64 = values.iter().zip(&weights).map(|(value, weight)| value * weight).sum();
            assert!((ours - slope).abs() < 1e-9, "{ours} is not {slope}");
        }
        // p counts all label permutations, or sign patterns.
        let (ours, p) = (slope_test(&values, &doses, 1), case["p"].as_f64().unwrap());
        let exact = case["symmetric"].as_bool().unwrap();
        assert!((ours - p).abs() < if exact { 1e-9 } else { 0.012 }, "{ours} is not {p}");
    }
}

/// Uniform in [0, 1).
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[test]
fn the_test_of_a_slope_is_wrong_in_at_most_five_and_a_half_percent_of_null_runs() {
    for doses in [vec![0.0, 0.25, 0.5, 0.75], vec![0.0, 0.5, 0.75, 0.9]] {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (n, runs) = (16, 1_000);
        let wrong = (0..runs)
            .filter(|&run| {
                let values: Vec<Vec<f64>> = (0..n)
                    .map(|_| {
                        let difficulty = uniform(&mut rng);
                        doses.iter().map(|_| (0..3).filter(|_| uniform(&mut rng) < difficulty).count() as f64).collect()
                    })
                    .collect();
                slope_test(&values, &doses, run) <= 0.05
            })
            .count();
        assert!(wrong as f64 <= 0.055 * runs as f64, "{doses:?}: {wrong} of {runs}");
    }
}

/// The hardest case: one policy that loses only at its highest ratio, and others that lose nothing. Returns how often
/// something untrue is called certain: with gates, and with Holm over the slopes and the ratios at the same level.
fn family_wise_errors(policies: usize, runs: u64) -> [f64; 2] {
    let (n, doses) = (12, [0.0, 0.25, 0.5, 0.75]);
    let mut rng = ChaCha8Rng::seed_from_u64(policies as u64);
    let mut wrong = [0usize; 2];
    for run in 0..runs {
        let noise = |rng: &mut ChaCha8Rng| uniform(rng) + uniform(rng) + uniform(rng);
        let full: Vec<f64> = (0..n).map(|_| noise(&mut rng)).collect();
        let chains: Vec<Vec<f64>> = (0..policies)
            .map(|policy| {
                let lost = if policy == 0 { 5.0 } else { 0.0 };
                let values = |&full: &f64| vec![full, noise(&mut rng), noise(&mut rng), noise(&mut rng) - lost];
                let values: Vec<Vec<f64>> = full.iter().map(values).collect();
                let cost = |ratio: usize| values.iter().map(|values| values[ratio] - values[0]).collect::<Vec<f64>>();
                let ratios = [3, 2, 1].map(|ratio| sign_flip(&cost(ratio), run));
                [vec![slope_test(&values, &doses, run)], ratios.to_vec()].concat()
            })
            .collect();
        // True effects are the slope of the first policy and its cost at the highest ratio.
        let untrue =
            |corrected: &[Vec<f64>]| corrected[0][2..].iter().chain(corrected[1..].iter().flatten()).any(|&p| p < 0.05);
        wrong[0] += usize::from(untrue(&holm_gated(&chains)));
        let slopes = holm(&chains.iter().map(|chain| chain[0]).collect::<Vec<_>>());
        let at_its_level = |(chain, slope): (&Vec<f64>, &f64)| {
            let mut highest = 0.0f64;
            let level = slope / chain[0];
            chain
                .iter()
                .map(|p| {
                    highest = highest.max(p * level).max(*slope);
                    highest
                })
                .collect()
        };
        wrong[1] += usize::from(untrue(&chains.iter().zip(&slopes).map(at_its_level).collect::<Vec<_>>()));
    }
    wrong.map(|count| count as f64 / runs as f64)
}

#[test]
fn slopes_and_ratios_together_err_in_at_most_five_and_a_half_percent() {
    for policies in [2, 4] {
        let [gated, same_level] = family_wise_errors(policies, 3_000);
        assert!(gated <= 0.055, "{policies} policies: {gated}");
        assert!(policies > 2 || same_level > 0.055, "the gates would not be needed: {same_level}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn gates_hold_and_single_hypotheses_are_holms(p in proptest::collection::vec(proptest::collection::vec(0.0..1.0f64, 1..4), 1..6)) {
        let corrected = holm_gated(&p);
        for (chain, corrected) in p.iter().zip(&corrected) {
            prop_assert!(corrected.is_sorted(), "later ones wait for earlier ones");
            prop_assert!(chain.iter().zip(corrected).all(|(raw, held)| raw <= held && *held <= 1.0));
        }
        let first: Vec<f64> = p.iter().map(|chain| chain[0]).collect();
        let single = holm_gated(&first.iter().map(|&p| vec![p]).collect::<Vec<_>>());
        for (ours, theirs) in single.iter().zip(holm(&first)) {
            prop_assert!((ours[0] - theirs).abs() < 1e-12);
        }
    }
}
