//! The rows of `trials.csv` and `instructions.csv`, and how scores are drawn from verdicts. The order
//! of the fields is the order of the columns.

use serde::{Deserialize, Serialize};

use crate::evict::{Aggregate, Granularity, Layers};

/// What identifies a trial within a run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The example's id.
    pub example: String,
    /// The condition's name.
    pub condition: String,
    /// Counted from 0.
    pub repeat: u32,
}

/// One trial. Empty cells are what does not apply or was not measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrialRow {
    /// Fingerprint of everything that determines the outcome.
    pub run_id: String,
    /// The example's id.
    pub example_id: String,
    /// The condition's name.
    pub condition: String,
    /// Name of the policy.
    pub policy: String,
    /// Fraction evicted, as written; empty for a budget of counts.
    pub ratio: String,
    /// First positions kept: `streaming`'s sinks, or the first number of a window.
    pub keep_first: Option<usize>,
    /// Last positions kept, of a window.
    pub keep_last: Option<usize>,
    /// `keep` or `compact`.
    pub positions: String,
    /// `prompt`, `system` or `context`.
    pub scope: String,
    /// What was protected, `none` or a list joined by `+`.
    pub protect: String,
    /// `kv` or `text`.
    pub memory: String,
    /// Length of the blocks that `random` evicts.
    pub block: usize,
    /// `token`, `layer` or `head`: what kept a set of positions of its own.
    #[serde(default)]
    pub granularity: Granularity,
    /// `all`, `global` or `local`: the layers that forgot.
    #[serde(default)]
    pub layers: Layers,
    /// `mean`, `max` or `rank-mean`: how scores of layers and heads became one.
    #[serde(default)]
    pub aggregate: Aggregate,
    /// Whether each part of the prompt survived in proportion to its length.
    #[serde(default)]
    pub fair: bool,
    /// Most positions in the cache while the model generated; empty without a rolling budget.
    #[serde(default)]
    pub rolling: Option<usize>,
    /// How many were evicted whenever it was full.
    #[serde(default)]
    pub every: Option<usize>,
    /// Whether evicted cells were given back.
    #[serde(default = "yes")]
    pub freed: bool,
    /// Counted from 0.
    pub repeat: u32,
    /// Seed of the trial's eviction and sampler; `probe --seed` takes it.
    pub seed: u64,
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Cached positions that survived (in each head, where heads differ); with `n_evicted` this makes `n_prompt - 1`.
    pub n_kept: usize,
    /// Cached positions that were evicted.
    pub n_evicted: usize,
    /// Which, as half-open ranges: `3..9,15..16`; empty where heads differ.
    pub evicted_ranges: String,
    /// Bytes of keys and values of all cached positions.
    pub kv_bytes_full: u64,
    /// Bytes of keys and values of the surviving ones.
    pub kv_bytes_kept: u64,
    /// Tokens of the answer.
    pub n_generated: usize,
    /// `end_of_turn` or `length`.
    pub stop_reason: String,
    /// Mean of `pass_strict` over the instructions that have a rule.
    pub rule_score: Option<f64>,
    /// Mean of the judge's scores.
    pub judge_score: Option<f64>,
    /// Mean over the instructions that were scored, by rule where there is one.
    pub mean_score: Option<f64>,
    /// Negative log-likelihood of the baseline's answer, per token.
    pub nll: Option<f64>,
    /// Mean KL divergence from the full cache, per token of the baseline's answer.
    pub kl_mean: Option<f64>,
    /// Fraction of its tokens at which the most likely next token is that of the full cache.
    #[serde(default)]
    pub top1_agree: Option<f64>,
    /// Milliseconds to read the prompt.
    pub prefill_ms: f64,
    /// Microseconds to evict.
    pub evict_us: f64,
    /// Milliseconds to generate the answer.
    pub decode_ms: f64,
    /// Tokens generated per second.
    pub tokens_per_s: Option<f64>,
    /// The answer.
    pub response: String,
    /// Why the trial failed; such a row has no scores and is tried again at resume.
    pub error: String,
}

/// Runs of earlier versions freed all they evicted.
fn yes() -> bool {
    true
}

impl TrialRow {
    /// What identifies this trial.
    pub fn key(&self) -> Key {
        Key { example: self.example_id.clone(), condition: self.condition.clone(), repeat: self.repeat }
    }

    /// Draws the means from the trial's instructions.
    pub fn settle<'a>(&mut self, instructions: impl IntoIterator<Item = &'a InstructionRow> + Clone) {
        let mean_of =
            |value: fn(&InstructionRow) -> Option<f64>| mean(instructions.clone().into_iter().filter_map(value));
        self.rule_score = mean_of(|row| row.pass_strict.map(f64::from));
        self.judge_score = mean_of(|row| row.judge_score);
        self.mean_score = mean_of(|row| row.score);
    }
}

/// Who gave an instruction its score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scorer {
    /// A rule.
    Rule,
    /// A judge.
    Judge,
}

/// One instruction of one trial.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InstructionRow {
    /// The example's id.
    pub example_id: String,
    /// The condition's name.
    pub condition: String,
    /// Counted from 0.
    pub repeat: u32,
    /// Index of the instruction in its example.
    pub instruction: usize,
    /// The rule's name, or `rubric`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Tokens of the instruction's own text in the prompt.
    pub n_tokens: Option<usize>,
    /// Fraction of them that survived.
    pub survival: Option<f64>,
    /// 1 if the rule was followed, 0 if not.
    pub pass_strict: Option<u8>,
    /// As `pass_strict`, under IFEval's lenient reading of the response.
    pub pass_loose: Option<u8>,
    /// The judge's score in [0, 1].
    pub judge_score: Option<f64>,
    /// The judge's reason; `unjudged: ...` where a judge was asked for and gave no verdict.
    pub judge_reason: String,
    /// The rule's verdict where there is one, else the judge's; empty if neither spoke.
    pub score: Option<f64>,
    /// Which of the two spoke.
    pub scored_by: Option<Scorer>,
}

impl InstructionRow {
    /// The trial this instruction belongs to.
    pub fn key(&self) -> Key {
        Key { example: self.example_id.clone(), condition: self.condition.clone(), repeat: self.repeat }
    }
    /// Draws the score from the verdicts: the rule's where there is one, else the judge's.
    pub fn settle(&mut self) {
        let rule = self.pass_strict.map(|pass| (f64::from(pass), Scorer::Rule));
        let judge = self.judge_score.map(|score| (score, Scorer::Judge));
        (self.score, self.scored_by) = rule.or(judge).unzip();
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}
