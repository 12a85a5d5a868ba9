//! How much an eviction changes the model's predictions, measured on one answer against the full cache.

use super::lanes::first_seq;
use super::reader::Place;
use super::{Cut, Forgetting, Reader};
use crate::Result;
use crate::evict::KeepSet;
use crate::llama::{Prompt, Slot, Token};

/// How the predictions of a cut cache differ from those of the full cache, over the tokens of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Fidelity {
    /// Mean negative log-likelihood of the answer's tokens, in nats.
    pub nll: f64,
    /// Mean KL divergence of the cut cache's distribution from the full cache's, in nats.
    pub kl_mean: f64,
    /// Fraction of tokens for which both give the highest probability to the same token.
    pub top1_agree: f64,
}

impl Reader {
    /// Feeds `answer` to the full cache and, in the same batches, to caches cut by each of `cuts`, which the reader
    /// must [take](Reader::takes). The reader has at least one lane more than there are cuts.
    ///
    /// Cuts that keep everything are decoded alone, each in calls of its own. What they differ by from the full cache is
    /// the noise floor: only the composition of the batches differs.
    pub fn fidelity(&mut self, prompt: &Prompt, answer: &[Token], cuts: &[&Forgetting]) -> Result<Vec<Fidelity>> {
        debug_assert!(cuts.len() < self.lanes());
        let full = Forgetting::new(KeepSet::all(prompt.n_cached()));
        let (whole, cut): (Vec<usize>, Vec<usize>) = (0..cuts.len()).partition(|&at| cuts[at].keeps_all());
        let mut lanes: Vec<Cut> = Vec::with_capacity(1 + cuts.len());
        // Sequences of a batch have adjacent numbers, so those that are decoded alone come last.
        for forgetting in std::iter::once(&full).chain(cut.iter().chain(&whole).map(|&at| cuts[at])) {
            let place = self.place_of(forgetting);
            let seq = first_seq(place) + lanes.iter().filter(|lane| lane.place == place).count() as i32;
            lanes.push(self.cut_in(place, prompt, forgetting, seq, false)?);
        }
        let mut sums = vec![Fidelity::default(); cuts.len()];
        for (&input, &target) in std::iter::zip(&prompt.tokens[prompt.n_cached()..], answer).chain(pairs(answer)) {
            let mut predictions: Vec<Option<Prediction>> = lanes.iter().map(|_| None).collect();
            let together = 0..=cut.len();
            let batch =
                |place| -> Vec<usize> { together.clone().filter(|&index| lanes[index].place == place).collect() };
            let alone = (cut.len() + 1..lanes.len()).map(|index| vec![index]);
            for here in [batch(Place::Shared), batch(Place::Dense)].into_iter().chain(alone) {
                let Some(place) = here.first().map(|&index| lanes[index].place) else { continue };
                let slot = |&index: &usize| {
                    let Cut { seq, next_pos, .. } = lanes[index];
                    Slot { token: input, pos: next_pos as i32, seq, logits: true }
                };
                let context = self.context_at(place);
                context.decode(&here.iter().map(slot).collect::<Vec<_>>())?;
                for (row, &index) in here.iter().enumerate() {
                    predictions[index] = Some(Prediction::of(context.logits(row)?));
                }
            }
            lanes.iter_mut().for_each(|lane| lane.next_pos += 1);
            let mut predictions = predictions.into_iter().flatten();
            let expected = predictions.next().expect("the full cache is the first lane");
            for (found, &at) in predictions.zip(cut.iter().chain(&whole)) {
                sums[at].add(&expected, &found, target);
            }
        }
        lanes.iter().for_each(|lane| self.context_at(lane.place).forget_sequence(lane.seq));
        Ok(sums.into_iter().map(|sum| sum.divided_by(answer.len())).collect())
    }

    /// The same as [`Reader::fidelity`] for a condition that reads the prompt itself: `cut` belongs to the reader
    /// `aside`.
    pub fn fidelity_aside(
        &mut self,
        prompt: &Prompt,
        answer: &[Token],
        aside: &mut Reader,
        cut: &mut Cut,
    ) -> Result<Fidelity> {
        let mut full = self.cut(prompt, &Forgetting::new(KeepSet::all(prompt.n_cached())))?;
        let mut sum = Fidelity::default();
        for (&input, &target) in std::iter::zip(&prompt.tokens[prompt.n_cached()..], answer).chain(pairs(answer)) {
            let expected = Prediction::of(self.step(&mut full, input)?);
            sum.add(&expected, &Prediction::of(aside.step(cut, input)?), target);
        }
        self.context.forget_sequence(full.seq);
        Ok(sum.divided_by(answer.len()))
    }
}

/// Pairs of each token, except the last, with the next one.
fn pairs(answer: &[Token]) -> impl Iterator<Item = (&Token, &Token)> {
    answer.iter().zip(answer.iter().skip(1))
}

impl Fidelity {
    fn add(&mut self, expected: &Prediction, found: &Prediction, target: Token) {
        self.nll -= found.log_probability(target as usize);
        self.kl_mean += expected.kl_from(found);
        self.top1_agree += f64::from(u8::from(expected.best == found.best));
    }

    fn divided_by(self, tokens: usize) -> Self {
        let n = tokens as f64;
        Fidelity { nll: self.nll / n, kl_mean: self.kl_mean / n, top1_agree: self.top1_agree / n }
    }
}

/// A distribution over the next token.
struct Prediction {
    logits: Vec<f32>,
    best: usize,
    log_sum: f64,
}

impl Prediction {
    fn of(logits: &[f32]) -> Self {
        let (best, max) =
            logits.iter().enumerate().fold(
                (0, f32::NEG_INFINITY),
                |(best, max), (id, &logit)| if logit > max { (id, logit) } else { (best, max) },
            );
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
        Prediction { logits: logits.to_vec(), best, log_sum: f64::from(max) + sum.ln() }
    }

    fn log_probability(&self, token: usize) -> f64 {
        f64::from(self.logits[token]) - self.log_sum
    }

    /// KL(self || other), in nats; rounding cannot make it negative.
    fn kl_from(&self, other: &Prediction) -> f64 {
        let terms = (0..self.logits.len()).map(|token| {
            let log_p = self.log_probability(token);
            let p = log_p.exp();
            if p > 0.0 { p * (log_p - other.log_probability(token)) } else { 0.0 }
        });
        terms.sum::<f64>().max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_likelihood_and_agreement_follow_their_definitions() {
        // Probabilities (1/2, 1/4, 1/4) and (1/4, 1/2, 1/4), up to a constant in the logits.
        let full = Prediction::of(&[2f32.ln() + 3.0, 3.0, 3.0]);
        let cut = Prediction::of(&[0.0, 2f32.ln(), 0.0]);
        let mut sum = Fidelity::default();
        sum.add(&full, &cut, 0);
        sum.add(&full, &full, 0);
        let mean = sum.divided_by(2);
        let kl = 0.5 * 2f64.ln() + 0.25 * 0.5f64.ln();
        assert!((mean.kl_mean - kl / 2.0).abs() < 1e-6, "{mean:?}");
        assert!((mean.nll - (4f64.ln() + 2f64.ln()) / 2.0).abs() < 1e-6, "{mean:?}");
        assert_eq!(mean.top1_agree, 0.5);
    }
}
