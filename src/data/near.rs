//! Near-duplicates: prompts that share many of their runs of five words.

use std::collections::{HashMap, HashSet};

use super::Example;

/// Two prompts that share at least this fraction of their runs count as near-duplicates.
pub(super) const NEAR: f64 = 0.3;

/// Number of words in a run.
const RUN: usize = 5;

/// A run that stands in more prompts than this, such as a common closing sentence, no longer tells which are similar; the
/// later ones are not looked up by it, so that time grows with the number of prompts and not with its square.
const COMMON: usize = 32;

/// The runs of words of many prompts.
#[derive(Default)]
pub(super) struct Prompts {
    sizes: Vec<usize>,
    with_run: HashMap<String, Vec<usize>>,
}

impl Prompts {
    pub fn add(&mut self, example: &Example) {
        let runs = runs(example);
        let index = self.sizes.len();
        self.sizes.push(runs.len());
        for run in runs {
            let prompts = self.with_run.entry(run).or_default();
            if prompts.len() < COMMON {
                prompts.push(index);
            }
        }
    }

    /// The most similar prompt of those that share a run that is not too common, as its number in the order of adding, and the share of all runs that both have
    /// (Jaccard).
    pub fn nearest(&self, example: &Example) -> Option<(usize, f64)> {
        let runs = runs(example);
        let mut common: HashMap<usize, usize> = HashMap::new();
        for index in runs.iter().filter_map(|run| self.with_run.get(run)).flatten() {
            *common.entry(*index).or_default() += 1;
        }
        let share = |index: usize, common: usize| common as f64 / (runs.len() + self.sizes[index] - common) as f64;
        let shares = common.into_iter().map(|(index, common)| (index, share(index, common)));
        // Of equally similar ones the first, so that a rerun names the same one.
        shares.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
    }
}

/// The words of a prompt, all turns together.
pub(super) fn words(example: &Example) -> Vec<String> {
    let contents = example.messages.iter().map(|message| &message.content).chain(&example.questions);
    let words = contents.flat_map(|content| content.split(|c: char| !c.is_alphanumeric()));
    words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

fn runs(example: &Example) -> HashSet<String> {
    let words = words(example);
    words.windows(RUN.min(words.len().max(1))).map(|run| run.join(" ")).collect()
}
