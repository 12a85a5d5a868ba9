//! The statistics against SciPy and statsmodels (`scripts/stats-goldens.py`), and by simulation.

use kvllama::stats::{
    ConfidenceSequence, Life, Observations, any_dose_test, clustered_proportion, cohens_kappa, compare,
    examples_needed, holm, kaplan_meier, log_rank, logistic, mean_bca, mean_interval, minimum_detectable_difference,
    sign_flip, slope_test, wilcoxon,
};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde_json::Value;

fn goldens() -> Value {
    serde_json::from_str(include_str!("fixtures/stats.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn verdicts(value: &Value) -> Vec<bool> {
    value.as_array().unwrap().iter().map(|verdict| verdict.as_bool().unwrap()).collect()
}

#[track_caller]
fn close(ours: f64, theirs: f64, tolerance: f64) {
    assert!((ours - theirs).abs() <= tolerance * (1.0 + theirs.abs()), "{ours} is not {theirs}");
}

#[test]
fn paired_comparisons_equal_scipy() {
    for case in goldens()["paired"].as_array().unwrap() {
        let number = |name: &str| case[name].as_f64().unwrap();
        let ours = compare(&numbers(&case["a"]), &numbers(&case["b"]), 0.95, 1).unwrap();
        close(ours.difference.point, number("difference"), 1e-9);
        close(ours.sd_difference, number("sd"), 1e-9);
        close(ours.p_wilcoxon, number("p_wilcoxon"), 1e-9);
        close(ours.skewness, number("skewness"), 1e-9);
        close(ours.cliffs_delta, number("cliffs_delta"), 1e-9);
        close(ours.d_z.unwrap(), number("difference") / number("sd"), 1e-9);
        let exact = case["exact"].as_bool().unwrap();
        close(ours.p_permutation, number("p_permutation"), if exact { 1e-9 } else { 0.01 });
        // Both sides use Monte Carlo, and with few examples the resampled means lie on a coarse lattice.
        let differences: Vec<f64> = numbers(&case["a"]).iter().zip(numbers(&case["b"])).map(|(a, b)| b - a).collect();
        let interval = mean_bca(&differences, 0.95, 1).unwrap();
        let width = number("high") - number("low");
        close(interval.low, number("low"), width / 15.0);
        close(interval.high, number("high"), width / 15.0);
    }
    for case in goldens()["continuous"].as_array().unwrap() {
        let differences: Vec<_> = numbers(&case["a"]).iter().zip(numbers(&case["b"])).map(|(a, b)| b - a).collect();
        close(wilcoxon(&differences), case["p_wilcoxon"].as_f64().unwrap(), 1e-9);
    }
}

#[test]
fn everything_else_equals_scipy_and_statsmodels() {
    let goldens = goldens();
    let whole = |value: &Value| value.as_u64().unwrap() as usize;
    for case in goldens["logistic"].as_array().unwrap() {
        let seen = Observations {
            x: numbers(&case["x"]),
            held: numbers(&case["held"]),
            y: verdicts(&case["y"]),
            cluster: case["cluster"].as_array().unwrap().iter().map(whole).collect(),
        };
        let fit = logistic(&seen, 0.95).unwrap();
        close(fit.intercept, case["intercept"].as_f64().unwrap(), 1e-9);
        close(fit.slope.point, case["slope"].as_f64().unwrap(), 1e-9);
        close(fit.slope_se, case["slope_se"].as_f64().unwrap(), 1e-9);
        close(fit.slope.low, case["low"].as_f64().unwrap(), 1e-9);
        close(fit.slope.high, case["high"].as_f64().unwrap(), 1e-9);
    }
    for case in goldens["clustered"].as_array().unwrap() {
        let pair = |pair: &Value| (whole(&pair[0]), whole(&pair[1]));
        let clusters: Vec<(usize, usize)> = case["clusters"].as_array().unwrap().iter().map(pair).collect();
        let ours = clustered_proportion(&clusters, 0.95);
        close(ours.low, case["low"].as_f64().unwrap(), 1e-9);
        close(ours.high, case["high"].as_f64().unwrap(), 1e-9);
    }
    for case in goldens["means"].as_array().unwrap() {
        let ours = mean_interval(&numbers(&case["values"]), 0.95, 1).unwrap();
        close(ours.low, case["interval"][0].as_f64().unwrap(), 1e-9);
        close(ours.high, case["interval"][1].as_f64().unwrap(), 1e-9);
    }
    for (ours, theirs) in holm(&numbers(&goldens["holm"]["p"])).iter().zip(numbers(&goldens["holm"]["corrected"])) {
        close(*ours, theirs, 1e-12);
    }
    for case in goldens["kappa"].as_array().unwrap() {
        close(
            cohens_kappa(&verdicts(&case["a"]), &verdicts(&case["b"])).unwrap(),
            case["kappa"].as_f64().unwrap(),
            1e-9,
        );
    }
    for case in goldens["power"].as_array().unwrap() {
        let [sd, n, difference] = numbers(case)[..] else { panic!("three numbers") };
        let ours = minimum_detectable_difference(sd, n as usize, 0.05, 0.8);
        assert!((ours / difference - 1.0).abs() < 0.02, "{ours} is not about {difference}");
        assert_eq!(examples_needed(ours, sd, 0.05, 0.8), Some(n as usize));
    }
}

/// Uniform in [0, 1).
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// The mean of `count` pass/fail instructions, each passed with probability `p`.
fn score(rng: &mut ChaCha8Rng, p: f64, count: usize) -> f64 {
    (0..count).filter(|_| uniform(rng) < p).count() as f64 / count as f64
}

#[test]
fn the_headline_test_is_wrong_in_at_most_five_and_a_half_percent_of_null_runs() {
    for (n, runs) in [(10, 10_000), (30, 3_000), (100, 3_000)] {
        let mut rng = ChaCha8Rng::seed_from_u64(n as u64);
        let mut wrong = 0;
        for run in 0..runs {
            let difficulty: Vec<f64> = (0..n).map(|_| uniform(&mut rng)).collect();
            let pair = |&p: &f64| score(&mut rng, p, 4) - score(&mut rng, p, 4);
            let differences: Vec<f64> = difficulty.iter().map(pair).collect();
            wrong += usize::from(sign_flip(&differences, run) <= 0.05);
        }
        let rate = wrong as f64 / runs as f64;
        assert!(rate <= 0.055, "n = {n}: {rate}");
    }
}

#[test]
fn the_bca_interval_covers_the_truth() {
    let (n, runs) = (30, 1_500);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    // Skewed: most examples lose little, a few lose much. Mean of the square of a uniform draw: 1/3.
    let covered = (0..runs)
        .filter(|&run| {
            let values: Vec<f64> = (0..n).map(|_| uniform(&mut rng).powi(2)).collect();
            let estimate = mean_bca(&values, 0.95, run).unwrap();
            estimate.low <= 1.0 / 3.0 && 1.0 / 3.0 <= estimate.high
        })
        .count();
    let coverage = covered as f64 / runs as f64;
    assert!(coverage >= 0.93, "{coverage}");
}

#[test]
fn the_interval_of_few_differences_covers_the_truth() {
    let (n, runs) = (16, 4_000);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let covered = (0..runs)
        .filter(|&run| {
            let difference = |_| {
                let p = uniform(&mut rng);
                score(&mut rng, 0.6 * p, 3) - score(&mut rng, p, 3)
            };
            let differences: Vec<f64> = (0..n).map(difference).collect();
            let estimate = mean_interval(&differences, 0.95, run).unwrap();
            estimate.low <= -0.2 && -0.2 <= estimate.high
        })
        .count() as f64;
    assert!((0.93..=0.97).contains(&(covered / runs as f64)), "{covered} of {runs}");
}

/// Instructions of `n` examples under three ratios, which share the example's difficulty and luck. The survival does
/// not matter here; the ratio does.
fn instructions(rng: &mut ChaCha8Rng, n: usize) -> Observations {
    let mut seen = Observations::default();
    for example in 0..n {
        let difficulty = 4.0 * (uniform(rng) - 0.5);
        for ratio in [0.25, 0.5, 0.75] {
            let shared = (uniform(rng) - 0.5) * 3.0;
            for _ in 0..1 + (uniform(rng) * 4.0) as usize {
                let p = 1.0 / (1.0 + (4.0 * (ratio - 0.5) - difficulty - shared).exp());
                seen.x.push((1.0 - ratio + 0.4 * (uniform(rng) - 0.5)).clamp(0.0, 1.0));
                seen.held.push(ratio);
                seen.y.push(uniform(rng) < p);
                seen.cluster.push(example);
            }
        }
    }
    seen
}

#[test]
fn odds_and_pass_rates_cover_the_truth_though_instructions_of_an_example_hang_together() {
    for (n, runs) in [(20, 1_500), (60, 800)] {
        let mut rng = ChaCha8Rng::seed_from_u64(n as u64);
        let (mut odds, mut rates, mut fits) = (0, 0, 0);
        for _ in 0..runs {
            let seen = instructions(&mut rng, n);
            if let Some(fit) = logistic(&seen, 0.95) {
                fits += 1;
                odds += usize::from(fit.slope.low <= 0.0 && 0.0 <= fit.slope.high);
            }
            let mut clusters = vec![(0, 0); n];
            for (&passed, &example) in seen.y.iter().zip(&seen.cluster) {
                clusters[example].0 += usize::from(passed);
                clusters[example].1 += 1;
            }
            let rate = clustered_proportion(&clusters, 0.95);
            rates += usize::from(rate.low <= 0.5 && 0.5 <= rate.high);
        }
        let (odds, rates) = (odds as f64 / fits as f64, rates as f64 / runs as f64);
        assert!((0.93..=0.97).contains(&odds) && (0.93..=0.97).contains(&rates), "n = {n}: {odds} {rates}");
    }
}

#[test]
fn the_confidence_sequence_equals_the_paper() {
    for case in goldens()["sequence"].as_array().unwrap() {
        let mut sequence = ConfidenceSequence::new(case["level"].as_f64().unwrap());
        for (x, ends) in numbers(&case["x"]).into_iter().zip(case["path"].as_array().unwrap()) {
            sequence.push(x);
            let estimate = sequence.estimate();
            close(estimate.low, ends[0].as_f64().unwrap(), 1e-9);
            close(estimate.high, ends[1].as_f64().unwrap(), 1e-9);
        }
    }
}

#[test]
fn the_confidence_sequence_covers_the_truth_at_every_look() {
    type Draw = fn(&mut ChaCha8Rng) -> f64;
    let distributions: [(&str, f64, Draw); 6] = [
        ("scores of four instructions", -0.3, |rng| score(rng, 0.6, 4) - score(rng, 0.9, 4)),
        ("no difference", 0.0, |rng| score(rng, 0.5, 3) - score(rng, 0.5, 3)),
        ("hardly ever a loss of everything", -0.02, |rng| -f64::from(u8::from(uniform(rng) < 0.02))),
        ("nearly always a loss of everything", -0.95, |rng| -f64::from(u8::from(uniform(rng) < 0.95))),
        ("skewed", -1.0 / 3.0, |rng| -uniform(rng).powi(2)),
        ("two points", 0.0, |rng| if uniform(rng) < 0.5 { 1.0 } else { -1.0 }),
    ];
    let (paths, looks) = (1_000, 200);
    for (name, mean, draw) in distributions {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let covered = (0..paths)
            .filter(|_| {
                let mut sequence = ConfidenceSequence::new(0.95);
                // An interval never grows again, so the last one is the narrowest.
                (0..looks).for_each(|_| sequence.push(draw(&mut rng)));
                let estimate = sequence.estimate();
                estimate.low <= mean && mean <= estimate.high
            })
            .count();
        assert!(covered * 100 >= paths * 95, "{name}: {covered} of {paths} paths");
    }
}

#[test]
fn data_without_spread_is_handled() {
    assert_eq!(mean_bca(&[], 0.95, 1), None);
    let equal = mean_bca(&[0.3; 9], 0.95, 1).unwrap();
    assert_eq!((equal.low, equal.point, equal.high), (0.3, 0.3, 0.3));
    let same = compare(&[0.5, 1.0], &[0.5, 1.0], 0.95, 1).unwrap();
    assert_eq!((same.p_permutation, same.p_wilcoxon, same.d_z), (1.0, 1.0, None));
    let fit = |x: &[f64], y: &[bool]| {
        let (x, y) = (x.to_vec(), y.to_vec());
        logistic(&Observations { held: vec![0.5; x.len()], cluster: (0..x.len()).collect(), x, y }, 0.95)
    };
    assert!(fit(&[0.0, 0.1, 0.9, 1.0], &[false, false, true, true]).is_none(), "separated");
    assert!(fit(&[0.5; 4], &[false, true, true, true]).is_none(), "one x only");
    assert!(fit(&[], &[]).is_none());
    let alone = clustered_proportion(&[(3, 4)], 0.95);
    assert_eq!((alone.point, alone.low, alone.high), (0.75, 0.0, 1.0), "one example says nothing of others");
    assert_eq!(cohens_kappa(&[], &[]), None);
    assert_eq!(cohens_kappa(&[true; 3], &[true; 3]), None);
    assert_eq!(examples_needed(0.0, 0.3, 0.05, 0.8), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn comparisons_are_symmetric_and_proper(pairs in proptest::collection::vec((0..=4u8, 0..=4u8), 1..60), seed in 0..99u64) {
        let a: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.0) / 4.0).collect();
        let b: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.1) / 4.0).collect();
        let (there, back) = (compare(&a, &b, 0.95, seed).unwrap(), compare(&b, &a, 0.95, seed).unwrap());
        prop_assert!((there.difference.point + back.difference.point).abs() < 1e-12);
        prop_assert!((there.p_permutation - back.p_permutation).abs() < 1e-12);
        prop_assert!((there.p_wilcoxon - back.p_wilcoxon).abs() < 1e-12);
        prop_assert!((there.cliffs_delta + back.cliffs_delta).abs() < 1e-12);
        for p in [there.p_permutation, there.p_wilcoxon] {
            prop_assert!(p > 0.0 && p <= 1.0);
        }
        prop_assert!(there.difference.low <= there.difference.point && there.difference.point <= there.difference.high);
    }

    #[test]
    fn holm_is_monotone_and_never_smaller(p in proptest::collection::vec(0.0..1.0f64, 0..30)) {
        let corrected = holm(&p);
        for (index, (&raw, &held)) in p.iter().zip(&corrected).enumerate() {
            prop_assert!(raw <= held && held <= 1.0);
            for (other, &its) in p.iter().enumerate() {
                prop_assert!(raw > its || held <= corrected[other], "{index} {other}");
            }
        }
    }
}

/// 500 random groups (`scripts/lives-goldens.py`). Where all or none are whole, lifelines has no interval.
#[test]
fn curves_and_log_rank_tests_equal_lifelines() {
    let cases: Value = serde_json::from_str(include_str!("fixtures/lives.json")).unwrap();
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 500);
    for case in cases {
        let lives = |name: &str| -> Vec<Life> {
            let life =
                |pair: &Value| Life { time: pair[0].as_u64().unwrap() as usize, ended: pair[1].as_bool().unwrap() };
            case[name].as_array().unwrap().iter().map(life).collect()
        };
        let (a, b) = (lives("a"), lives("b"));
        let curve = kaplan_meier(&a.iter().map(|&life| vec![life]).collect::<Vec<_>>(), 0.95);
        assert_eq!(curve.len(), case["whole"].as_array().unwrap().len());
        for (time, ours) in curve.iter().enumerate() {
            close(ours.point, case["whole"][time].as_f64().unwrap(), 1e-9);
            if ours.point > 1e-9 && ours.point < 1.0 - 1e-9 {
                close(ours.low, case["low"][time].as_f64().unwrap(), 1e-9);
                close(ours.high, case["high"][time].as_f64().unwrap(), 1e-9);
            }
        }
        let (chi_square, p) = log_rank(&a, &b);
        // Without an end there is nothing to test; lifelines then divides by zero.
        if let (Some(theirs), Some(p_theirs)) = (case["chi_square"].as_f64(), case["p"].as_f64()) {
            close(chi_square, theirs, 1e-9);
            close(p, p_theirs, 1e-9);
        } else {
            assert_eq!((chi_square, p), (0.0, 1.0));
        }
    }
}

/// Every p-value of the test of any dose by going through all orders of all examples.
fn exact_any_dose(values: &[Vec<f64>]) -> f64 {
    let statistic = |values: &[&[f64]]| {
        (1..values[0].len())
            .map(|dose| {
                let differences: Vec<f64> = values.iter().map(|values| values[dose] - values[0]).collect();
                let squares: f64 = differences.iter().map(|difference| difference.powi(2)).sum();
                if squares > 0.0 { differences.iter().sum::<f64>().abs() / squares.sqrt() } else { 0.0 }
            })
            .fold(0.0, f64::max)
    };
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let observed = statistic(&values.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let all = 6usize.pow(values.len() as u32);
    let as_large = |&code: &usize| {
        let order = |at: usize| orders[code / 6usize.pow(at as u32) % 6];
        let permuted: Vec<Vec<f64>> =
            values.iter().enumerate().map(|(at, values)| order(at).map(|place| values[place]).to_vec()).collect();
        statistic(&permuted.iter().map(Vec::as_slice).collect::<Vec<_>>()) >= observed - 1e-12
    };
    (0..all).filter(as_large).count() as f64 / all as f64
}

#[test]
fn the_test_of_any_dose_equals_its_definition_and_finds_a_dip() {
    let values = [[0.5, 0.25, 0.0], [1.0, 0.5, 0.75], [0.75, 0.5, 0.25], [0.25, 0.0, 0.5], [1.0, 0.75, 0.0]];
    let values = values.map(Vec::from);
    let found = any_dose_test(&values, 1);
    close(found.p, exact_any_dose(&values), 0.01);
    assert_eq!(found.at, 1, "all five fall at the second dose");
    // A curve that falls and rises again has no slope, but a dose that matters.
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let dip: Vec<Vec<f64>> =
        (0..30).map(|_| [0.8, 0.5, 0.5, 0.8].iter().map(|&p| score(&mut rng, p, 4)).collect()).collect();
    assert!(any_dose_test(&dip, 1).p < 0.01 && slope_test(&dip, &[0.0, 0.25, 0.5, 0.75], 1) > 0.05);
    assert_eq!(any_dose_test(&vec![vec![0.5; 3]; 9], 1).p, 1.0);
}

#[test]
fn the_test_of_any_dose_is_wrong_in_at_most_five_and_a_half_percent_of_null_runs() {
    // Few instructions, of which most are always or never followed: few differences are not 0.
    for (n, runs) in [(10, 1_500), (40, 500)] {
        let mut rng = ChaCha8Rng::seed_from_u64(n as u64);
        let mut wrong = 0;
        for run in 0..runs {
            let difficulty: Vec<f64> = (0..n).map(|_| (uniform(&mut rng) * 1.6 - 0.3).clamp(0.0, 1.0)).collect();
            let doses = |&p: &f64| (0..4).map(|_| score(&mut rng, p, 2)).collect();
            let values: Vec<Vec<f64>> = difficulty.iter().map(doses).collect();
            wrong += usize::from(any_dose_test(&values, run).p <= 0.05);
        }
        let rate = wrong as f64 / runs as f64;
        assert!(rate <= 0.055, "n = {n}: {rate}");
    }
}
