//! Runs a trial under a rolling budget.

use crate::Result;
use crate::condition::Condition;
use crate::engine::{Answer, Cut, Forgetting, Reader, Rolling};
use crate::evict::{self, RollingBudget, Scores, TrialSeed, View};
use crate::llama::{Prompt, Sampler};

/// Reads the prompt, cuts the cache down to the condition's rolling budget and generates under it. The returned
/// eviction is the first cut, over the prompt.
///
/// # Errors
/// If the budget cannot be met, or as [`Reader::roll`].
pub fn roll(
    condition: &Condition,
    budget: RollingBudget,
    prompt: &Prompt,
    seed: TrialSeed,
    reader: &mut Reader,
    sampler: &mut Sampler,
    n_predict: usize,
) -> Result<(Forgetting, Cut, Answer)> {
    let policy = condition.policy.policy();
    let window = budget.after_eviction(condition.sinks().unwrap_or(0))?;
    let in_prompt = condition.protect.mask(prompt.n_cached(), &prompt.spans);
    let choose = |origins: &[usize], scores: Option<&Scores>, eviction: usize| {
        let protected: Vec<bool> = origins.iter().map(|&at| in_prompt.get(at).copied().unwrap_or(false)).collect();
        let scores = scores.map_or_else(Vec::new, |scores| scores.aggregate(condition.aggregate, |_| true));
        let seed = seed.of_eviction(eviction);
        let view = View {
            block: condition.block.0.get(),
            scores: &scores,
            ..View::new(0..origins.len(), &protected, window, seed)
        };
        evict::evict(policy, origins.len(), &view)
    };
    let rolling = Rolling {
        budget: budget.budget,
        every: budget.every,
        positions: condition.positions,
        score: policy.score(),
        choose: &choose,
    };
    let (cut, keep, answer) = reader.roll(prompt, &rolling, sampler, n_predict)?;
    Ok((Forgetting { positions: condition.positions, ..Forgetting::new(keep) }, cut, answer))
}
