//! The rows of `trials.csv` and `instructions.csv`, and the computation of scores from verdicts. The order of the
//! fields is the order of the columns.

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::condition::Condition;
use crate::score::Checked;

/// What identifies a trial within a run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The example's id.
    pub example: String,
    /// The condition's name.
    pub condition: String,
    /// Counted from 0.
    pub repeat: u32,
    /// The turn of a chat, counted from 0; 0 where there is one answer.
    pub turn: u32,
}

impl Key {
    /// The number of the instruction that the trial forgets, under a policy that forgets a single one: the repeats
    /// visit the `n` instructions of the example in turn.
    pub fn instruction(&self, n: usize) -> usize {
        self.repeat as usize % n.max(1)
    }
}

/// Declares the row of a trial: each column once. `..` marks the place of the columns of the axes.
macro_rules! trial_row {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$doc:meta])* pub $field:ident: $type:ty,)+
            ..
            $($(#[$later_doc:meta])* pub $later:ident: $later_type:ty,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name {
            $($(#[$doc])* pub $field: $type,)+
            /// The cells of the condition's axes, in the order of [`Condition::columns`]. They are written but not
            /// read: the name identifies a condition, and the manifest explains the name.
            pub axes: Vec<String>,
            $($(#[$later_doc])* pub $later: $later_type,)+
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut row = serializer.serialize_struct(stringify!($name), 0)?;
                $(row.serialize_field(stringify!($field), &self.$field)?;)+
                for (index, column) in Condition::columns().enumerate() {
                    row.serialize_field(column, self.axes.get(index).map_or("", String::as_str))?;
                }
                $(row.serialize_field(stringify!($later), &self.$later)?;)+
                row.end()
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Row;

                #[derive(Deserialize)]
                #[serde(field_identifier)]
                #[allow(non_camel_case_types)]
                enum Column {
                    $($field,)+
                    $($later,)+
                    #[serde(other)]
                    OfAxis,
                }

                impl<'de> Visitor<'de> for Row {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                        f.write_str("the row of a trial")
                    }

                    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<$name, M::Error> {
                        let mut row = $name::default();
                        while let Some(column) = map.next_key::<Column>()? {
                            match column {
                                $(Column::$field => row.$field = map.next_value()?,)+
                                $(Column::$later => row.$later = map.next_value()?,)+
                                Column::OfAxis => {
                                    map.next_value::<IgnoredAny>()?;
                                }
                            }
                        }
                        Ok(row)
                    }
                }

                deserializer.deserialize_map(Row)
            }
        }
    };
}

trial_row! {
    /// One trial. A cell is empty if it does not apply or was not measured, or if an older version did not write its
    /// column.
    pub struct TrialRow {
        /// Fingerprint of everything that determines the outcome.
        pub run_id: String,
        /// The example's id.
        pub example_id: String,
        /// The condition's name.
        pub condition: String,
        ..
        /// Counted from 0.
        pub repeat: u32,
        /// The turn of a chat, counted from 0; 0 where there is one answer.
        pub turn: u32,
        /// Seed of the trial's eviction and sampler; `probe --seed` takes it.
        pub seed: u64,
        /// Tokens of the prompt; in a chat of all that was said before the answer, earlier answers included.
        pub n_prompt: usize,
        /// Cached positions that survived (in each head, if heads differ); together with `n_evicted` this is `n_prompt
        /// - 1`.
        pub n_kept: usize,
        /// Cached positions that were evicted.
        pub n_evicted: usize,
        /// The evicted positions as half-open ranges: `3..9,15..16`; empty if heads differ.
        pub evicted_ranges: String,
        /// Bytes of keys and values of all cached positions.
        pub kv_bytes_full: u64,
        /// Bytes of keys and values of the surviving positions.
        pub kv_bytes_kept: u64,
        /// Tokens of the answer.
        pub n_generated: usize,
        /// `end_of_turn`, `length`, or `loop`.
        pub stop_reason: String,
        /// Mean over the instructions that have a rule.
        pub rule_score: Option<f64>,
        /// Mean of the judge's scores.
        pub judge_score: Option<f64>,
        /// Mean over the scored instructions: the rule's score if there is a rule, else the judge's.
        pub mean_score: Option<f64>,
        /// Share of the answer's word 4-grams that occur earlier in it; from 0.5 on the answer has broken down.
        pub repetition: Option<f64>,
        /// Bytes of the answer divided by its compressed bytes: prose has 1 to 2.5, a loop 5 and more.
        pub compression: Option<f64>,
        /// Negative log-likelihood of the baseline's answer, per token.
        pub nll: Option<f64>,
        /// Mean KL divergence from the full cache, per token of the baseline's answer.
        pub kl_mean: Option<f64>,
        /// Fraction of the tokens of the baseline's answer at which the most likely next token is that of the full
        /// cache.
        pub top1_agree: Option<f64>,
        /// Milliseconds to read the prompt.
        pub prefill_ms: f64,
        /// Milliseconds to read the prompt once more, if the policy scores it by that (kvzip).
        pub replay_ms: Option<f64>,
        /// Microseconds to evict.
        pub evict_us: f64,
        /// Milliseconds to generate the answer.
        pub decode_ms: f64,
        /// Tokens generated per second.
        pub tokens_per_s: Option<f64>,
        /// The answer.
        pub response: String,
        /// Why the trial failed; such a row has no scores, and the trial is run again at resume.
        pub error: String,
    }
}

impl TrialRow {
    /// What identifies this trial.
    pub fn key(&self) -> Key {
        Key {
            example: self.example_id.clone(),
            condition: self.condition.clone(),
            repeat: self.repeat,
            turn: self.turn,
        }
    }

    /// Computes the means from the trial's instructions.
    pub fn settle<'a>(&mut self, instructions: impl IntoIterator<Item = &'a InstructionRow> + Clone) {
        let mean_of =
            |value: fn(&InstructionRow) -> Option<f64>| mean(instructions.clone().into_iter().filter_map(value));
        self.rule_score = mean_of(InstructionRow::by_rule);
        self.judge_score = mean_of(|row| row.judge_score);
        self.mean_score = mean_of(|row| row.score);
    }
}

/// The source of an instruction's score.
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
    /// The turn of a chat, counted from 0.
    #[serde(default)]
    pub turn: u32,
    /// Index of the instruction in its example.
    pub instruction: usize,
    /// The rule's name, or `rubric`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Tokens of the instruction's own text in the prompt.
    pub n_tokens: Option<usize>,
    /// Fraction of them that survived.
    pub survival: Option<f64>,
    /// How far the rule was followed, in [0, 1]. Empty in runs of older versions, whose rules gave only 0 and 1.
    pub rule_score: Option<f64>,
    /// 1 if the rule was followed completely, 0 if not.
    pub pass_strict: Option<u8>,
    /// The same under IFEval's lenient reading of the response.
    pub pass_loose: Option<u8>,
    /// The judge's score in [0, 1].
    pub judge_score: Option<f64>,
    /// The judge's reason; `unjudged: ...` if a judge was asked and gave no verdict.
    pub judge_reason: String,
    /// The rule's score if there is a rule, else the judge's; empty if there is neither.
    pub score: Option<f64>,
    /// The source of this score.
    pub scored_by: Option<Scorer>,
}

impl InstructionRow {
    /// The trial this instruction belongs to.
    pub fn key(&self) -> Key {
        Key {
            example: self.example_id.clone(),
            condition: self.condition.clone(),
            repeat: self.repeat,
            turn: self.turn,
        }
    }

    /// Stores a rule's verdict, or `None` if the instruction has no rule.
    pub(super) fn take(&mut self, verdict: Option<Checked>) {
        self.rule_score = verdict.map(|verdict| verdict.score);
        self.pass_strict = verdict.map(|verdict| u8::from(verdict.strict));
        self.pass_loose = verdict.map(|verdict| u8::from(verdict.loose));
    }

    /// The rule's score, if there is a rule.
    pub fn by_rule(&self) -> Option<f64> {
        self.rule_score.or(self.pass_strict.map(f64::from))
    }

    /// Computes the score from the verdicts: the rule's if there is one, else the judge's.
    pub fn settle(&mut self) {
        let rule = self.by_rule().map(|score| (score, Scorer::Rule));
        let judge = self.judge_score.map(|score| (score, Scorer::Judge));
        (self.score, self.scored_by) = rule.or(judge).unzip();
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}
