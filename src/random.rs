//! Random draws that never change between versions; the helpers of `rand` may change their streams.

use rand::Rng;

/// An unbiased number in `[0, bound)` (Lemire 2019, arXiv 1805.10941).
pub(crate) fn below(rng: &mut impl Rng, bound: u64) -> usize {
    loop {
        let wide = u128::from(rng.next_u64()) * u128::from(bound);
        // The remainder is below `bound`, so the slow division is rarely needed.
        if (wide as u64) >= bound || (wide as u64) >= bound.wrapping_neg() % bound {
            return (wide >> 64) as usize;
        }
    }
}

/// Shuffles in place (Fisher-Yates).
pub(crate) fn shuffle<T>(items: &mut [T], rng: &mut impl Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(rng, last as u64 + 1));
    }
}

/// Draws `count` distinct numbers from `[0, of)`, every set with equal probability (Floyd; Bentley 1987, CACM 30:754).
pub(crate) fn sample(rng: &mut impl Rng, of: usize, count: usize) -> Vec<usize> {
    let mut drawn = std::collections::HashSet::with_capacity(count);
    let mut take = |last: usize| {
        let number = below(rng, last as u64 + 1);
        let number = if drawn.contains(&number) { last } else { number };
        drawn.insert(number);
        number
    };
    (of - count..of).map(&mut take).collect()
}

/// Draws how many of `trials` succeed with probability `numerator / denominator` each: exactly binomial.
///
/// Each trial compares a random number with the probability, bit by bit; every bit decides half of those that are still
/// equal. So it draws about `trials / 32` words of randomness in all.
pub(crate) fn binomial(rng: &mut impl Rng, trials: u64, numerator: u64, denominator: u64) -> u64 {
    if numerator >= denominator {
        return trials;
    }
    let (mut undecided, mut successes, mut rest) = (trials, 0, numerator);
    while undecided > 0 && rest > 0 {
        // The next binary digit of the probability, by long division.
        rest *= 2;
        let ones = heads(rng, undecided);
        if rest >= denominator {
            rest -= denominator;
            successes += undecided - ones;
            undecided = ones;
        } else {
            undecided -= ones;
        }
    }
    successes
}

/// Draws how many of `tosses` of a fair coin show heads.
pub(crate) fn heads(rng: &mut impl Rng, tosses: u64) -> u64 {
    let whole: u64 = (0..tosses / 64).map(|_| u64::from(rng.next_u64().count_ones())).sum();
    match tosses % 64 {
        0 => whole,
        rest => whole + u64::from((rng.next_u64() >> (64 - rest)).count_ones()),
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng as _;

    use super::*;

    #[test]
    fn samples_are_distinct_and_even() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut seen = [0; 7];
        for _ in 0..7_000 {
            let mut drawn = sample(&mut rng, 7, 3);
            drawn.iter().for_each(|&number| seen[number] += 1);
            drawn.sort_unstable();
            drawn.dedup();
            assert_eq!(drawn.len(), 3);
        }
        // Expected 3,000 each; the standard deviation is 41.
        assert!(seen.iter().all(|&count| (2_800..3_200).contains(&count)), "{seen:?}");
        assert_eq!(sample(&mut rng, 3, 3).len(), 3);
    }

    #[test]
    fn binomial_draws_have_binomial_frequencies() {
        const DRAWS: u64 = 200_000;
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (trials, numerator, denominator) in [(5, 1, 3), (70, 2, 7), (3, 1, 2), (130, 129, 130)] {
            let p = numerator as f64 / denominator as f64;
            let mut seen = vec![0u64; trials as usize + 1];
            (0..DRAWS).for_each(|_| seen[binomial(&mut rng, trials, numerator, denominator) as usize] += 1);
            let mut expected = (1.0 - p).powi(trials as i32);
            let mut statistic = 0.0;
            let mut cells = 0.0;
            for (successes, &count) in seen.iter().enumerate() {
                let mean = expected * DRAWS as f64;
                if mean >= 5.0 {
                    statistic += (count as f64 - mean).powi(2) / mean;
                    cells += 1.0;
                }
                expected *= (trials as f64 - successes as f64) / (successes as f64 + 1.0) * p / (1.0 - p);
            }
            // Five standard deviations of a chi-squared variable.
            assert!(
                statistic < cells + 5.0 * (2.0f64 * cells).sqrt(),
                "{trials} x {p}: {statistic} over {cells} cells"
            );
        }
        assert_eq!([binomial(&mut rng, 9, 0, 4), binomial(&mut rng, 9, 4, 4)], [0, 9]);
    }
}
