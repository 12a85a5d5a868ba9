//! Counts of equal values, for fast resampling. Scores are fractions of a few instructions, so thousands of examples
//! share about ten values. Drawing how often each value occurs is equivalent to drawing every example, and much faster.

use rand::Rng as _;

use super::Draws;
use crate::random::{binomial, heads};

/// Values that occur at least this often are drawn together.
const FREQUENT: usize = 16;

/// Values that are resampled many times.
pub struct Tally {
    /// Frequent values and how often each occurs, the most frequent first.
    frequent: Vec<(f64, u64)>,
    /// All others, one by one.
    rare: Vec<f64>,
}

impl Tally {
    /// Counts values.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (mut frequent, mut rare) = (Vec::new(), Vec::new());
        for equal in sorted.chunk_by(|a, b| a == b) {
            if equal.len() >= FREQUENT {
                frequent.push((equal[0], equal.len() as u64));
            } else {
                rare.extend_from_slice(equal);
            }
        }
        frequent.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        Tally { frequent, rare }
    }

    /// Values that are drawn one by one.
    pub fn n_rare(&self) -> usize {
        self.rare.len()
    }

    /// Draws as many values as there are, with replacement, and returns their sum.
    pub fn resampled_sum(&self, rng: &mut Draws) -> f64 {
        let rare = self.rare.len() as u64;
        let mut rest = rare + self.frequent.iter().map(|(_, count)| count).sum::<u64>();
        let (mut draws, mut sum) = (rest, 0.0);
        for &(value, count) in &self.frequent {
            // Of the remaining draws, the share that gives this value is its share of the remaining values.
            let drawn = binomial(rng, draws, count, rest);
            sum += value * drawn as f64;
            draws -= drawn;
            rest -= count;
        }
        sum + drawn_sum(&self.rare, draws, rng)
    }

    /// The sum of the values, each with a random sign.
    pub fn flipped_sum(&self, rng: &mut Draws) -> f64 {
        let flipped = |&(value, count): &(f64, u64)| value * (2.0 * heads(rng, count) as f64 - count as f64);
        let frequent: f64 = self.frequent.iter().map(flipped).sum();
        // Several sums, so that an addition need not wait for the one before.
        let mut sums = [0.0; 8];
        for chunk in self.rare.chunks(64) {
            let mut signs = rng.next_u64();
            // Flips the sign bit without a branch.
            let flipped =
                |value: f64, signs: u64, bit: usize| f64::from_bits(value.to_bits() ^ (((signs >> bit) & 1) << 63));
            let (eights, rest) = chunk.as_chunks::<8>();
            for eight in eights {
                for bit in 0..8 {
                    sums[bit] += flipped(eight[bit], signs, bit);
                }
                signs >>= 8;
            }
            for (bit, &value) in rest.iter().enumerate() {
                sums[bit] += flipped(value, signs, bit);
            }
        }
        frequent + sums.iter().sum::<f64>()
    }
}

/// The sum of `draws` values drawn with replacement. A report spends most of its time here.
fn drawn_sum(values: &[f64], draws: u64, rng: &mut Draws) -> f64 {
    if draws == 0 {
        return 0.0;
    }
    let bound = u32::try_from(values.len()).expect("fewer than 2^32 values");
    // Unbiased, with two draws per random word (Lemire 2019, arXiv 1805.10941).
    let threshold = bound.wrapping_neg() % bound;
    let (mut left, mut sums) = (draws, [0.0; 2]);
    while left > 0 {
        let word = rng.next_u64();
        for (half, sum) in [word as u32, (word >> 32) as u32].into_iter().zip(&mut sums) {
            let wide = u64::from(half) * u64::from(bound);
            if (wide as u32) >= threshold && left > 0 {
                *sum += values[(wide >> 32) as usize];
                left -= 1;
            }
        }
    }
    sums[0] + sums[1]
}
