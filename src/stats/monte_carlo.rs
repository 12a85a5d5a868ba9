//! p-values from random draws.

use super::Draws;
use crate::random::below;

/// Draws at least as extreme as the observed value after which a p-value is known well enough: within 2% of itself.
const ENOUGH: usize = 2_000;

/// The p-value of a test whose null distribution is sampled: the share of draws that are at least as extreme as the
/// observed value, which is counted in (Phipson & Smyth 2010), so that p is never 0. Sampling ends early if the value is
/// clearly not extreme; the share is a valid p-value all the same (Besag & Clifford 1991).
pub fn p_value(most: usize, mut is_extreme: impl FnMut() -> bool) -> f64 {
    let mut hits = 0usize;
    for draw in 1..=most {
        hits += usize::from(is_extreme());
        if hits == ENOUGH {
            return hits as f64 / draw as f64;
        }
    }
    (hits + 1) as f64 / (most + 1) as f64
}

/// Random orders of a few things.
pub struct Orders {
    /// Every order, one after the other, if there are not many.
    all: Vec<usize>,
    /// The last order drawn; with `all`, only its length counts.
    drawn: Vec<usize>,
}

impl Orders {
    /// Orders of `n` things.
    pub fn of(n: usize) -> Self {
        const FEW: usize = 6;
        let mut all = vec![Vec::new()];
        for thing in 0..if n <= FEW { n } else { 0 } {
            let inserted = |order: &Vec<usize>| -> Vec<Vec<usize>> {
                let at = |place: usize| [&order[..place], &[thing], &order[place..]].concat();
                (0..=order.len()).map(at).collect()
            };
            all = all.iter().flat_map(inserted).collect();
        }
        Orders { all: all.concat(), drawn: (0..n).collect() }
    }

    /// One of them, each as likely as any other.
    pub fn draw(&mut self, rng: &mut Draws) -> &[usize] {
        let n = self.drawn.len();
        if !self.all.is_empty() {
            let at = below(rng, (self.all.len() / n) as u64) * n;
            return &self.all[at..at + n];
        }
        for last in (1..n).rev() {
            self.drawn.swap(last, below(rng, last as u64 + 1));
        }
        &self.drawn
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn every_order_is_as_likely_as_any_other() {
        let mut rng = Draws::seed_from_u64(1);
        for (n, different) in [(4, 24), (7, 5_040)] {
            let mut orders = Orders::of(n);
            let mut seen: HashMap<Vec<usize>, usize> = HashMap::new();
            (0..40 * different).for_each(|_| *seen.entry(orders.draw(&mut rng).to_vec()).or_default() += 1);
            assert_eq!(seen.len(), different);
            // 40 are expected of each.
            assert!(seen.values().all(|&count| (10..90).contains(&count)), "{n}");
        }
    }

    #[test]
    fn a_value_that_is_not_extreme_needs_few_draws() {
        let mut draws = 0;
        let p = p_value(1_000_000, || {
            draws += 1;
            draws % 2 == 0
        });
        assert_eq!((p, draws), (0.5, 4_000));
        assert_eq!(p_value(99, || false), 0.01);
    }
}
