//! Computes statistics from rows, without side effects; the result is written as `stats.json`.

mod breakdown;
mod chance;
mod compare;
mod conditions;
mod dose;
mod earned;
mod fidelity;
mod forgotten;
mod layers;
mod leakage;
mod primary;
mod speed;
mod stopping;
mod summary;
mod survival;
mod turns;
mod why;

pub use breakdown::Breakdown;
pub use chance::ChanceFacts;
pub use compare::{Changed, Comparison, Question};
pub use conditions::{Condition, Cost};
pub use dose::{AreaDifference, CurveComparison, Dose, Response};
pub use earned::EarnedDifference;
pub use fidelity::Fidelity;
pub use forgotten::{Forgotten, shown};
pub use layers::LayerRow;
pub use leakage::{LEAKED, Leakage, LeakageCurve};
pub use primary::{PrimaryResult, Tested};
pub use speed::Speed;
pub use stopping::EarlyStop;
pub use survival::{Bin, SurvivalCurve};
pub use turns::{FirstBroken, Standing, Turns};
pub use why::{Agreement, NoiseFloor, Place, Row};

use self::chance::Chance;
use serde::Serialize;

use super::words::{count, decimals};
use super::{Run, Table, Warning};
use crate::exp::Mixed;

/// Version of the layout of `stats.json`.
const SCHEMA: u32 = 2;

/// All numbers of a report.
#[derive(Debug, Clone, Serialize)]
pub struct Analysis {
    /// Version of this layout.
    pub schema: u32,
    /// Confidence level of every interval.
    pub level: f64,
    /// Seed of resampling and permutation.
    pub seed: u64,
    /// The primary comparison of each run that named one before its first trial. All other comparisons are then
    /// exploratory.
    pub primaries: Vec<PrimaryResult>,
    /// The result in a few sentences.
    pub summary: Vec<String>,
    /// The warnings, the most serious first.
    pub warnings: Vec<Warning>,
    /// The runs.
    pub runs: Vec<RunFacts>,
    /// Number of examples in the statistics.
    pub n_examples: usize,
    /// Examples left out because not all runs have them.
    pub n_left_out: usize,
    /// The conditions; elsewhere they are named by their index here.
    pub conditions: Vec<Condition>,
    /// The basis of chance and earned scores.
    pub chance: ChanceFacts,
    /// Score against the fraction evicted, policy by policy.
    pub curves: Vec<Curve>,
    /// How the score falls with the fraction evicted, curve by curve: one family for Holm's correction.
    pub doses: Vec<Dose>,
    /// Comparisons of curves that differ in one axis: another family for Holm's correction.
    pub curve_comparisons: Vec<CurveComparison>,
    /// All comparisons: one family for Holm's correction.
    pub comparisons: Vec<Comparison>,
    /// The runs under a stopping rule.
    pub stopping: Vec<EarlyStop>,
    /// How far identical conditions differ, because of the machine or the sampler.
    pub noise_floor: Option<NoiseFloor>,
    /// By type of instruction: the score under each condition.
    pub types: Vec<Row<String>>,
    /// By place in the prompt: the score under each condition. Empty if the run holds no prompts.
    pub places: Vec<Row<Place>>,
    /// Whether an instruction was followed, against how much of it survived.
    pub survival: Vec<SurvivalCurve>,
    /// One instruction forgotten at a time: what `forget:instruction` and `forget:filler` found.
    pub forgotten: Vec<Forgotten>,
    /// Conditions that evict in one layer alone.
    pub layers: Vec<LayerRow>,
    /// The standing rules of chats, turn by turn; `None` without chats.
    pub turns: Option<Turns>,
    /// Whether leakage peaks between the ends of a curve, curve by curve; empty without rules on leakage.
    pub leakage: Vec<LeakageCurve>,
    /// Agreement of rules and judge on instructions that both scored.
    pub agreement: Option<Agreement>,
}

/// The report's description of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunFacts {
    /// The directory's name.
    pub name: String,
    /// Fingerprint of what determines its outcomes.
    pub run_id: String,
    /// When it was started.
    pub started: String,
    /// The model.
    pub model: String,
    /// llama.cpp's description of it: size and quantization.
    pub quantization: String,
    /// SHA-256 of the model file.
    pub model_sha256: String,
    /// The data set.
    pub data: String,
    /// SHA-256 of the data set.
    pub data_sha256: String,
    /// Version of kvllama.
    pub kvllama: String,
    /// Version of llama.cpp.
    pub llama_cpp: String,
    /// The devices that computed.
    pub devices: Vec<String>,
    /// Finished trials in its rows.
    pub finished: usize,
    /// Failed trials in its rows.
    pub failed: usize,
    /// Number of trials that its sessions planned, if known.
    pub planned: Option<usize>,
    /// The facts in which the builds and devices of its sessions differ, by name.
    pub mixed: Vec<Mixed>,
}

/// Conditions that differ only in the fraction evicted, including the full cache.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    /// The policy and the other common parts of its conditions.
    pub name: String,
    /// Index of the run.
    pub run: usize,
    /// Conditions by ascending fraction, the baseline first if there is one.
    pub conditions: Vec<usize>,
}

/// Computes everything but the warnings.
pub(super) fn of(table: &Table, level: f64, seed: u64) -> Analysis {
    let facts: Vec<RunFacts> = table.runs.iter().map(RunFacts::of).collect();
    let resampling = Resampling { level, seed };
    let chance = Chance::of(table, seed);
    let conditions = conditions::conditions(table, &facts, &chance, resampling);
    let curves = curves(table, &conditions);
    let comparisons = compare::comparisons(table, &conditions, &chance, resampling);
    let known = dose::Known {
        table,
        conditions: &conditions,
        curves: &curves,
        comparisons: &comparisons,
        chance: &chance,
        resampling,
    };
    let (doses, curve_comparisons) = (dose::responses(&known), dose::comparisons(&known));
    let primaries = primary::results(&primary::Known {
        table,
        conditions: &conditions,
        curves: &curves,
        doses: &doses,
        curve_comparisons: &curve_comparisons,
        comparisons: &comparisons,
    });
    let mut analysis = Analysis {
        schema: SCHEMA,
        level,
        seed,
        primaries,
        summary: Vec::new(),
        warnings: Vec::new(),
        runs: facts,
        n_examples: table.examples.len(),
        n_left_out: table.left_out,
        doses,
        curve_comparisons,
        comparisons,
        stopping: stopping::stops(table),
        noise_floor: why::noise_floor(table),
        types: why::types(table, resampling),
        places: why::places(table, resampling),
        survival: survival::curves(table, &conditions, level),
        forgotten: forgotten::matrix(table, resampling),
        layers: layers::rows(&conditions),
        turns: Some(turns::turns(table, &conditions, resampling)).filter(|turns| turns.chats > 0),
        agreement: why::agreement(table),
        leakage: leakage::curves(table, &curves, &conditions, resampling),
        curves,
        chance: chance.facts,
        conditions,
    };
    analysis.summary = summary::sentences(&analysis);
    analysis
}

impl Analysis {
    /// The basis of earned scores, as a sentence; `None` without earned scores.
    pub fn chance_sentence(&self) -> Option<String> {
        let errors = self.conditions.iter().filter_map(|condition| Some(condition.earned?.sampling_error));
        self.chance.sentence(errors.fold(0.0, f64::max))
    }

    /// Whether leakage peaks between the ends of a curve, as sentences.
    pub fn leakage_sentences(&self) -> Vec<String> {
        self.leakage.iter().map(|one| one.sentence(&self.curves[one.curve].name)).collect()
    }

    /// The noise floor of scores and of predictions, as sentences, as far as the run measured them.
    pub fn noise_sentence(&self) -> Option<String> {
        let scores = self.noise_floor.map(|floor| {
            let (repeats, examples) = (count(floor.repeats, "repeat"), count(floor.n, "example"));
            let difference = decimals(floor.difference, 3);
            format!("Noise floor of scores: two runs of the full cache differ by up to {difference} ({repeats} of {examples}).")
        });
        let full = self.conditions.iter().filter(|condition| condition.is_baseline());
        let predictions = full.filter_map(|condition| Some((condition.fidelity.kl, condition.fidelity.flips?))).next();
        let predictions = predictions.map(|(kl, flips)| {
            let differs = match kl {
                None => "predicts the same in most examples".to_owned(),
                Some(kl) => format!(
                    "differs from itself by {:.1e} nats per token (KL divergence), and in the most likely token at {}% of \
                     the tokens",
                    kl.point,
                    decimals(100.0 * flips.point, 1)
                ),
            };
            format!("Noise floor of predictions: the full cache, decoded alone and beside other conditions, {differs}.")
        });
        let sentences: Vec<String> = scores.into_iter().chain(predictions).collect();
        (!sentences.is_empty()).then(|| sentences.join(" "))
    }
}

/// The settings of intervals.
#[derive(Debug, Clone, Copy)]
struct Resampling {
    level: f64,
    seed: u64,
}

impl RunFacts {
    fn of(run: &Run) -> Self {
        let manifest = &run.manifest;
        let gguf =
            |field: &str| manifest.model.gguf.get(field).and_then(|value| value.as_str()).unwrap_or("").to_owned();
        let failed = run.trials.iter().filter(|row| !row.error.is_empty()).count();
        RunFacts {
            name: run.name.clone(),
            run_id: manifest.run_id.clone(),
            started: manifest.started().to_owned(),
            model: manifest.model.shown(),
            // llama.cpp knows the sizes of known models only.
            quantization: gguf("description").replace("?B", &parameters(manifest)),
            model_sha256: manifest.model.sha256.clone(),
            data: manifest.data.name.clone(),
            data_sha256: manifest.data.sha256.clone(),
            kvllama: manifest.build().kvllama.clone(),
            llama_cpp: manifest.build().llama_cpp.clone(),
            devices: manifest.build().devices.clone(),
            finished: run.trials.len() - failed,
            failed,
            planned: Some({
                let stopped = run.stopping.as_ref().and_then(|stopping| stopping.order.get(..stopping.stopped_after?));
                let stopped = stopped.map(|visited| manifest.n_planned(|id| visited.iter().any(|one| one == id)));
                // A stopped run that was continued must be finished like any other.
                let stopped = stopped.filter(|&trials| run.trials.len() <= trials);
                stopped.unwrap_or_else(|| manifest.n_planned(|_| true))
            }),
            mixed: manifest.mixed(),
        }
    }
}

/// The size of the model: `4.99M`.
fn parameters(manifest: &crate::exp::Manifest) -> String {
    let n = manifest.model.gguf.get("n_params").and_then(serde_json::Value::as_f64).unwrap_or(0.0);
    match n {
        n if n >= 1e9 => format!("{:.1}B", n / 1e9),
        n => format!("{:.1}M", n / 1e6),
    }
}

/// Conditions with a ratio, grouped by everything else.
fn curves(table: &Table, conditions: &[Condition]) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for (index, condition) in conditions.iter().enumerate() {
        // A layer alone has its place in the map of layers.
        if condition.is_baseline() || condition.ratio.is_none() || condition.condition.one_layer().is_some() {
            continue;
        }
        let name = condition.series.clone();
        match curves.iter_mut().find(|curve| curve.run == condition.run && curve.name == name) {
            Some(curve) => curve.conditions.push(index),
            None => {
                let baseline = table.baseline_of(index);
                curves.push(Curve {
                    name,
                    run: condition.run,
                    conditions: baseline.into_iter().chain([index]).collect(),
                });
            }
        }
    }
    for curve in &mut curves {
        curve.conditions.sort_by(|&a, &b| {
            let ratio = |index: usize| conditions[index].ratio.unwrap_or(0.0);
            ratio(a).total_cmp(&ratio(b)).then_with(|| conditions[b].is_baseline().cmp(&conditions[a].is_baseline()))
        });
    }
    curves
}
