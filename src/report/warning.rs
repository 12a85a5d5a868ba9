//! A warning for the reader of a report, and its remedy.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use super::words::{count, list, number, percent, short_list, thousands};
use crate::stats::ENOUGH;

/// Number of examples below which intervals are wide and resampling is rough.
pub(super) const FEW: usize = 20;
/// Largest number of names in one warning.
const NAMES: usize = 4;

/// A limit on what the numbers mean. Its [`Display`](fmt::Display) form says what to do.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are the numbers and names of the sentence")]
pub enum Warning {
    /// Trials failed and are in no mean.
    Failed { failed: usize, first: String, as_zero: Option<(String, f64, f64)> },
    /// A stopping rule ended the run.
    Stopped { run: String, rule: String, after: usize, of: usize },
    /// Planned trials are missing.
    Unfinished { run: String, finished: usize, planned: usize },
    /// A last line was incomplete.
    Torn { run: String, files: Vec<&'static str> },
    /// The run has no full cache to compare with.
    NoBaseline { run: String },
    /// The runs were computed by different models.
    MixedModels { models: Vec<String> },
    /// The runs used different data sets.
    MixedData { data: Vec<String> },
    /// The runs were made with different settings: the name of each with its values.
    MixedSettings { settings: Vec<String> },
    /// The runs were computed on different machines or versions.
    MixedHardware { machines: Vec<String> },
    /// The sessions of one run were computed by different builds or devices.
    MixedSessions { run: String, facts: Vec<String> },
    /// Rows of one run have different fingerprints.
    MixedRows { run: String, fingerprints: usize },
    /// Examples that not all runs have.
    LeftOut { examples: usize },
    /// Answers are not scored yet.
    Unscored { trials: usize },
    /// Some instructions of scored trials have no score.
    Unjudged { instructions: usize, of: usize },
    /// The rules of some examples are not known, so that these have no chance level.
    NoRules { examples: usize, of: usize },
    /// No rule has a chance that can be measured.
    NoChance { left_out: Vec<String> },
    /// Few examples: only large differences can be found.
    FewExamples { n: usize, detectable: Option<f64>, needed: Option<usize>, hopeless: Option<usize> },
    /// The model fails most instructions with its whole cache.
    BaselineFails { score: f64 },
    /// Nearly every example scores 1 under these conditions.
    Ceiling { conditions: Vec<String> },
    /// Nearly every example scores 0 under these conditions.
    Floor { conditions: Vec<String> },
    /// The token limit cut off answers.
    Truncated { share: f64, worst: String, limit: usize },
    /// Conditions that draw nothing: asked for several times, run once.
    RunOnce { repeats: u32, conditions: Vec<String> },
    /// Conditions that draw nothing, and were run several times all the same.
    SameRepeats { conditions: Vec<String> },
    /// In some trials nothing was evicted; each condition with the number of such trials.
    Untouched { conditions: Vec<String> },
    /// Two policies kept the same positions; each pair with the share of such trials.
    EqualKeepSets { pairs: Vec<String> },
    /// Only the last positions survived; each condition with the share of such trials.
    Recency { conditions: Vec<String> },
    /// The first position was evicted; each condition with the share of such trials.
    SinkEvicted { conditions: Vec<String> },
    /// The policy's window takes more than half of the budget; each condition with the share of such trials.
    WindowFillsBudget { conditions: Vec<String> },
    /// Certain results that rest on few and skewed differences.
    Skewed { conditions: Vec<String> },
    /// Rules and judge disagree.
    JudgeDisagrees { kappa: f64, n: usize },
    /// Effects that are no larger than those of repetition alone.
    NoiseFloor { floor: f64, conditions: Vec<String> },
}

impl Warning {
    /// A short name of the warning for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Warning::Failed { .. } => "failed",
            Warning::Stopped { .. } => "stopped",
            Warning::Unfinished { .. } => "unfinished",
            Warning::Torn { .. } => "torn",
            Warning::NoBaseline { .. } => "no_baseline",
            Warning::MixedModels { .. } => "mixed_models",
            Warning::MixedData { .. } => "mixed_data",
            Warning::MixedSettings { .. } => "mixed_settings",
            Warning::MixedHardware { .. } => "mixed_hardware",
            Warning::MixedSessions { .. } => "mixed_sessions",
            Warning::MixedRows { .. } => "mixed_rows",
            Warning::LeftOut { .. } => "left_out",
            Warning::Unscored { .. } => "unscored",
            Warning::Unjudged { .. } => "unjudged",
            Warning::NoRules { .. } => "no_rules",
            Warning::NoChance { .. } => "no_chance",
            Warning::FewExamples { .. } => "few_examples",
            Warning::BaselineFails { .. } => "baseline_fails",
            Warning::Ceiling { .. } => "ceiling",
            Warning::Floor { .. } => "floor",
            Warning::Truncated { .. } => "truncated",
            Warning::RunOnce { .. } => "run_once",
            Warning::SameRepeats { .. } => "same_repeats",
            Warning::Untouched { .. } => "untouched",
            Warning::EqualKeepSets { .. } => "equal_keep_sets",
            Warning::Recency { .. } => "recency",
            Warning::SinkEvicted { .. } => "sink_evicted",
            Warning::WindowFillsBudget { .. } => "window_fills_budget",
            Warning::Skewed { .. } => "skewed",
            Warning::JudgeDisagrees { .. } => "judge_disagrees",
            Warning::NoiseFloor { .. } => "noise_floor",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Failed { failed, first, as_zero } => {
                let are = if *failed == 1 { "is" } else { "are" };
                write!(f, "{} failed and {are} in no mean (the first: {first}).", count(*failed, "trial"))?;
                if let Some((condition, without, with)) = as_zero {
                    let (without, with) = (number(*without), number(*with));
                    write!(f, " Counted as 0, {condition} would score {with} instead of {without}.")?;
                }
                write!(f, " Rerun the experiment's command to try again.")
            }
            Warning::Stopped { run, rule, after, of } => write!(
                f,
                "{run} stopped after {after} of {of} examples, when its rule ({rule}) held. p-values and other \
                 intervals take the number of examples as fixed in advance and do not account for that: cite the \
                 anytime intervals.",
            ),
            Warning::Unfinished { run, finished, planned } => write!(
                f,
                "{run} is unfinished: {} of {} trials. Rerun its command to go on; until then the conditions may rest \
                 on different examples.",
                thousands(*finished),
                thousands(*planned)
            ),
            Warning::Torn { run, files } => write!(
                f,
                "The last line of {} in {run} is not whole and was left out. If nothing writes there now, rerun the \
                 experiment's command to repair it.",
                list(files)
            ),
            Warning::NoBaseline { run } => write!(
                f,
                "{run} has no trials with the full cache, so that what eviction costs cannot be told. Run it again \
                 without --no-baseline.",
            ),
            Warning::MixedModels { models } => write!(
                f,
                "The runs use different models ({}). Differences between runs are differences between models.",
                short_list(models, NAMES)
            ),
            Warning::MixedData { data } => write!(
                f,
                "The runs use different data sets ({}). Compare them only if examples of the same id are the same.",
                short_list(data, NAMES)
            ),
            Warning::MixedSettings { settings } => {
                write!(f, "The runs differ in {}. Differences between runs may come from that.", list(settings))
            }
            Warning::MixedHardware { machines } => write!(
                f,
                "The runs were computed differently ({}). Do not compare their times; scores may differ in late tokens.",
                short_list(machines, NAMES)
            ),
            Warning::MixedSessions { run, facts } => write!(
                f,
                "{run} is mixed: its sessions differ in {}. Do not compare times across them; scores may differ in late \
                 tokens.",
                list(facts)
            ),
            Warning::MixedRows { run, fingerprints } => write!(
                f,
                "{run} holds rows of {fingerprints} different fingerprints: they were not made under the same settings. \
                 Report the runs they came from instead.",
            ),
            Warning::LeftOut { examples } => write!(
                f,
                "{} left out because not all runs have them. Run all with the same --data and --limit to use them.",
                count(*examples, "example") + if *examples == 1 { " is" } else { " are" }
            ),
            Warning::Unscored { trials } => write!(
                f,
                "{} not scored yet and in no mean. Score them with `kvllama judge DIR --judge BACKEND` (`kvllama judge --help` \
                 lists what judges).",
                count(*trials, "trial") + if *trials == 1 { " is" } else { " are" }
            ),
            Warning::Unjudged { instructions, of } => write!(
                f,
                "{} of {} in the answers were scored by no one and are in no mean, because no rule can check them. Score \
                 them with `kvllama judge DIR --judge BACKEND`.",
                thousands(*instructions),
                count(*of, "instruction")
            ),
            Warning::NoRules { examples, of } => write!(
                f,
                "The rules of {} of {} are not known, because their run holds no prompts.jsonl: they are in no earned \
                 score. Rerun the experiment's command with its --out, and the file is written; runs of kvllama 0.1.0 \
                 are to be made anew.",
                thousands(*examples),
                count(*of, "example")
            ),
            Warning::NoChance { left_out } => write!(
                f,
                "There is no earned score: of the instructions, {} cannot be told from luck. Costs are of the raw score, in \
                 which luck hides what was lost.",
                list(left_out)
            ),
            Warning::FewExamples { n, detectable, needed, hopeless } => {
                write!(f, "Only {}: intervals are rough", count(*n, "example"))?;
                if let Some(comparisons) = hopeless {
                    let over = count(*comparisons, "comparison");
                    write!(f, ", no difference of any size can reach p < 0.05 after correction over {over}")?;
                }
                match detectable {
                    // Scores are between 0 and 1.
                    Some(detectable) if *detectable >= 1.0 => write!(f, ", and no difference will usually be seen")?,
                    Some(detectable) => {
                        write!(f, ", and a difference under {} will usually go unseen", number(*detectable))?;
                    }
                    None => {}
                }
                match needed {
                    Some(needed) => write!(f, ". To find a difference of 0.10, run about {needed}."),
                    None => write!(f, ". Run at least {FEW}."),
                }
            }
            Warning::BaselineFails { score } => write!(
                f,
                "With its whole cache the model scores only {}: what it never could do cannot be forgotten, and costs are \
                 understated. Take a stronger model or easier instructions.",
                number(*score)
            ),
            Warning::Ceiling { conditions } => write!(
                f,
                "Nearly every example scores 1 under {}: too easy to show a loss. Evict more, or use harder examples.",
                short_list(conditions, NAMES)
            ),
            Warning::Floor { conditions } => write!(
                f,
                "Nearly every example scores 0 under {}: there nothing is left to lose, and conditions cannot be told \
                 apart. Evict less.",
                short_list(conditions, NAMES)
            ),
            Warning::Truncated { share, worst, limit } => write!(
                f,
                "{} of the answers under {worst} were cut off at {limit} tokens, and may fail for that alone. How \
                 long answers are is itself a result of eviction: a cost may be one of length. Raise --n-predict.",
                percent(*share)
            ),
            Warning::RunOnce { repeats, conditions } => write!(
                f,
                "Under {} nothing is drawn, neither positions nor tokens: every answer was computed once, not {repeats} times. \
                 Sample (--temp) to see how answers vary.",
                short_list(conditions, NAMES)
            ),
            Warning::SameRepeats { conditions } => write!(
                f,
                "Under {} nothing is drawn, neither positions nor tokens: its repeats differ at most in rounding, and add \
                 nothing. Sample (--temp) to see how answers vary.",
                short_list(conditions, NAMES)
            ),
            Warning::Untouched { conditions } => write!(
                f,
                "Nothing was evicted in {}, because the prompts were too short: their scores are the full cache's. Lower \
                 the budget, or use longer prompts.",
                short_list(conditions, NAMES)
            ),
            Warning::EqualKeepSets { pairs } => write!(
                f,
                "Two policies kept exactly the same positions in most of their paired trials: {}. Comparing them says \
                 nothing about the policies there. Change a parameter, or use longer prompts.",
                short_list(pairs, NAMES)
            ),
            Warning::Recency { conditions } => write!(
                f,
                "Only the last positions survived, and nothing else, in this share of the trials: {}. That is plain \
                 recency, whatever the policy's scores. Set a smaller window (`snapkv:window=N`), or use longer prompts.",
                short_list(conditions, NAMES)
            ),
            Warning::SinkEvicted { conditions } => write!(
                f,
                "The first position (the attention sink) was evicted in this share of the trials: {}. Many models break \
                 down for that alone. sinks+POLICY or --protect sink:4 keeps it.",
                short_list(conditions, NAMES)
            ),
            Warning::WindowFillsBudget { conditions } => write!(
                f,
                "The policy's window takes more than half of the budget in this share of the trials: {}. Little is left for \
                 its scores to choose. Set a smaller window (`snapkv:window=N`), or use longer prompts.",
                short_list(conditions, NAMES)
            ),
            Warning::Skewed { conditions } => write!(
                f,
                "What is called certain of {} rests on few examples whose differences are lopsided: a few large ones on one \
                 side. The test asks whether they are symmetric about 0, which is more than whether their mean is 0. Run \
                 {ENOUGH} examples or more.",
                short_list(conditions, NAMES)
            ),
            Warning::JudgeDisagrees { kappa, n } => write!(
                f,
                "Rules and judge disagree (Cohen's kappa {} over {}). Read some of their reasons in the example browser \
                 before trusting rubric scores.",
                number(*kappa),
                count(*n, "instruction")
            ),
            Warning::NoiseFloor { floor, conditions } => write!(
                f,
                "Repeating the full cache alone moves the mean by up to {}; {} {} no further from it, so that a cost of that \
                 size cannot be seen here. Use greedy sampling, more repeats, or more examples.",
                number(*floor),
                short_list(conditions, NAMES),
                if conditions.len() == 1 { "is" } else { "are" }
            ),
        }
    }
}

impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut warning = serializer.serialize_struct("Warning", 2)?;
        warning.serialize_field("kind", self.kind())?;
        warning.serialize_field("text", &self.to_string())?;
        warning.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_difference_above_1_is_called_detectable() {
        let few =
            |detectable| Warning::FewExamples { n: 5, detectable: Some(detectable), needed: None, hopeless: None };
        assert!(few(0.4).to_string().contains("a difference under 0.40 will usually go unseen"));
        assert!(few(2.35).to_string().contains("no difference will usually be seen"));
        assert!(!few(2.35).to_string().contains("2.35"));
    }
}
