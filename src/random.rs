//! Draws that stay the same for ever. The helpers of `rand` may change their streams between releases.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

/// An unbiased number in `[0, bound)` (Lemire 2019, arXiv 1805.10941).
pub(crate) fn below(rng: &mut ChaCha8Rng, bound: u64) -> usize {
    loop {
        let wide = u128::from(rng.next_u64()) * u128::from(bound);
        if (wide as u64) >= bound.wrapping_neg() % bound {
            return (wide >> 64) as usize;
        }
    }
}
