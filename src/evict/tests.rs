//! Properties that every policy has.

use proptest::prelude::*;

use super::*;

fn ratio(text: &str) -> Budget {
    Budget::Ratio(text.parse().unwrap())
}

fn run(name: &str, budget: Budget, len: usize, protected: &[usize], seed: u64, block: usize) -> Result<KeepSet> {
    let mut mask = vec![false; len];
    protected.iter().for_each(|&position| mask[position] = true);
    let view = View { block, ..View::new(0..len, &mask, budget, TrialSeed(seed)) };
    evict(name.parse::<PolicySpec>().unwrap().policy(), len, &view)
}

#[test]
fn the_number_kept_is_exact_or_refused_for_every_length_and_ratio() {
    for name in ["streaming", "random"] {
        for len in 1..=300usize {
            for hundredth in 0..100usize {
                let survivors = len * (100 - hundredth) / 100;
                match run(name, ratio(&format!("0.{hundredth:02}")), len, &[], 7, 1) {
                    Ok(keep) => {
                        assert_eq!(keep.n_kept(), survivors, "{name} {len} 0.{hundredth:02}");
                        assert!(keep.contains(len - 1));
                    }
                    Err(error) => {
                        assert_eq!(survivors, 0, "{error}");
                        assert!(error.to_string().contains("leaves 0 of") && error.to_string().contains("but 1 must"));
                    }
                }
            }
        }
    }
}

#[test]
fn streaming_keeps_sinks_and_recent() {
    assert_eq!(run("streaming", ratio("0.5"), 20, &[], 0, 1).unwrap().kept(), [0..4, 14..20]);
    // Fewer survivors than sinks: the last position survives, and as many sinks as fit.
    assert_eq!(run("streaming", ratio("0.9"), 20, &[], 0, 1).unwrap().kept(), [0..1, 19..20]);
    let window = Budget::Window { keep_first: 3, keep_last: 5 };
    assert_eq!(run("streaming", window, 20, &[], 0, 1).unwrap().kept(), [0..3, 15..20]);
    assert_eq!(run("streaming", window, 20, &[8, 9], 0, 1).unwrap().kept(), [0..3, 8..10, 15..20]);
    assert_eq!(run("streaming", window, 8, &[], 0, 1).unwrap(), KeepSet::all(8));
    // The control keeps the same number at this budget, but other positions.
    assert_eq!(run("random", window, 20, &[], 0, 1).unwrap().n_kept(), 8);
}

#[test]
fn random_is_the_same_on_every_machine() {
    let keep = run("random", ratio("0.5"), 24, &[], TrialSeed::derive(1, "demo-001", 0).0, 1).unwrap();
    assert_eq!(ranges_text(keep.evicted()), GOLDEN_RANDOM);
    assert_eq!(TrialSeed::derive(1, "demo-001", 0), TrialSeed(GOLDEN_SEED));
}

#[test]
fn random_is_uniform() {
    let (len, draws) = (40usize, 4_000u64);
    let mut counts = vec![0f64; len - 1];
    for seed in 0..draws {
        let keep = run("random", ratio("0.25"), len, &[], seed, 1).unwrap();
        keep.evicted().iter().cloned().flatten().for_each(|position| counts[position] += 1.0);
    }
    // Chi-square with 38 degrees of freedom: 69 is beyond the 99.8th percentile, and draws without replacement vary
    // even less. The seeds are fixed, so the result never changes.
    let expected = draws as f64 * 10.0 / 39.0;
    let chi_square: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
    assert!(chi_square < 69.0, "{chi_square}");
}

#[test]
fn blocks_are_evicted_whole() {
    let keep = run("random", ratio("0.4"), 101, &[], 3, 10).unwrap();
    // 41 of 101: four blocks of ten and one position more (or a run of the shorter last block).
    assert_eq!(keep.n_evicted(), 41);
    assert!(keep.evicted().iter().filter(|range| range.start % 10 == 0).count() >= keep.evicted().len());
}

proptest! {
    #[test]
    fn protection_holds_inside_the_budget(
        len in 2..200usize, hundredth in 0..100usize, seed in 0..1_000u64, block in 1..9usize,
        protected in proptest::collection::vec(0..200usize, 0..20), name in prop_oneof!["streaming", "random"],
    ) {
        let protected: Vec<_> = protected.into_iter().filter(|&position| position < len).collect();
        let survivors = len * (100 - hundredth) / 100;
        let mut must: Vec<_> = protected.clone();
        must.push(len - 1);
        must.sort_unstable();
        must.dedup();
        match run(&name, ratio(&format!("0.{hundredth:02}")), len, &protected, seed, block) {
            Ok(keep) => {
                prop_assert_eq!(keep.n_kept(), survivors);
                prop_assert!(must.iter().all(|&position| keep.contains(position)));
                prop_assert_eq!(keep.kept().iter().map(Range::len).sum::<usize>(), survivors);
            }
            Err(error) => {
                prop_assert!(must.len() > survivors);
                let needle = format!("leaves {survivors} of {len} positions, but {} must", must.len());
                prop_assert!(error.to_string().contains(&needle));
            }
        }
    }

    #[test]
    fn random_evictions_are_nested(len in 2..200usize, low in 0..100usize, high in 0..100usize, seed in 0..1_000u64, block in 1..9usize) {
        let (low, high) = (low.min(high), low.max(high));
        let small = run("random", ratio(&format!("0.{low:02}")), len, &[], seed, block);
        let large = run("random", ratio(&format!("0.{high:02}")), len, &[], seed, block);
        if let (Ok(small), Ok(large)) = (small, large) {
            prop_assert!(small.evicted().iter().cloned().flatten().all(|position| !large.contains(position)));
        }
    }

    #[test]
    fn ranges_survive_their_text(positions in proptest::collection::vec(0..99usize, 0..60)) {
        let keep = KeepSet::without(100, positions.clone());
        prop_assert_eq!(&parse_ranges(&ranges_text(keep.evicted())).unwrap(), keep.evicted());
        prop_assert_eq!(&KeepSet::without_ranges(100, keep.evicted()).unwrap(), &keep);
        for position in 0..100 {
            prop_assert_eq!(keep.contains(position), !positions.contains(&position));
        }
        prop_assert_eq!(keep.kept_within(10..60), (10..60).filter(|position| !positions.contains(position)).count());
    }
}

/// Computed by an independent implementation of SHA-256, ChaCha8 and Fisher-Yates in Python.
const GOLDEN_RANDOM: &str = "0..2,3..4,7..8,9..11,12..15,19..20,21..23";
const GOLDEN_SEED: u64 = 2_110_422_304_996_356;

#[test]
fn h2o_keeps_recent_positions_with_a_part_of_the_budget_that_protection_leaves() {
    let policy: PolicySpec = "h2o:recent=50".parse().unwrap();
    let scores: Vec<f64> = (0..20).map(|at| 20.0 - f64::from(at)).collect();
    let kept = |protected: &[usize]| {
        let protected: Vec<bool> = (0..20).map(|at| protected.contains(&at)).collect();
        let view = View { scores: &scores, ..View::new(0..20, &protected, "0.6".parse().unwrap(), TrialSeed(0)) };
        evict(policy.policy(), 20, &view).unwrap().kept()
    };
    assert_eq!(kept(&[]), [0..4, 16..20]);
    assert_eq!(kept(&[5, 6, 7, 8, 9, 10]), [5..11, 18..20], "the last two are all that fits");
}
