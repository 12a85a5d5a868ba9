//! The primary comparison of each run: tested alone, outside the families of the exploratory ones.

use serde::Serialize;

use super::dose::{self, Dose};
use super::{Comparison, Condition, Curve, CurveComparison, compare};
use crate::exp::Primary;
use crate::report::words;
use crate::report::{Run, Table};
use crate::stats::{self, Estimate};

const ALPHA: f64 = 0.05;

/// The primary comparison of a run and its result.
#[derive(Debug, Clone, Serialize)]
pub struct PrimaryResult {
    /// Index of the run.
    pub run: usize,
    /// The comparison as it was named before the first trial.
    pub named: Primary,
    /// Whether it is about whole curves, not single conditions.
    pub of_curves: bool,
    /// The curve, if it is about the response of one.
    #[serde(skip)]
    pub(super) curve: Option<usize>,
    /// When the run was started.
    pub started: String,
    /// The result in words.
    pub sentence: String,
    /// The result; `None` if the rows do not allow it yet.
    pub result: Option<Tested>,
}

/// The result of a primary comparison.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Tested {
    /// Number of examples.
    pub n: usize,
    /// The change of the score: from a fraction of 0 to 1 for one curve, else the paired difference.
    pub difference: Estimate,
    /// Whether it is of the earned score.
    pub earned: bool,
    /// Two-sided p. With several runs, Holm's correction over their primary comparisons; otherwise uncorrected.
    pub p: f64,
}

impl PrimaryResult {
    /// The question in words.
    pub fn asked(&self) -> String {
        let Primary { of, against } = &self.named;
        match (against, self.of_curves) {
            (None, false) => format!("{of} with the full cache"),
            (None, true) => format!("how the score responds to the fraction that {of} evicts"),
            (Some(against), false) => format!("{of} with {against}"),
            (Some(against), true) => format!("{of} with {against}, by the area between their curves"),
        }
    }
}

impl Tested {
    /// Whether the test rejects "no difference" at 0.05.
    pub fn is_significant(&self) -> bool {
        self.p < ALPHA
    }
}

/// The parts of the analysis that hold the exploratory results.
pub(super) struct Known<'a> {
    pub table: &'a Table<'a>,
    pub conditions: &'a [Condition],
    pub curves: &'a [Curve],
    pub doses: &'a [Dose],
    pub curve_comparisons: &'a [CurveComparison],
    pub comparisons: &'a [Comparison],
}

/// The part of the analysis that answers a primary comparison.
enum Found<'a> {
    Dose(&'a Dose),
    Curves(&'a CurveComparison),
    Conditions(&'a Comparison),
}

pub(super) fn results(known: &Known) -> Vec<PrimaryResult> {
    let named = |(run, of): (usize, &Run)| Some((run, of.manifest.primary.clone()?, of.manifest.started().to_owned()));
    let named: Vec<_> = known.table.runs.iter().enumerate().filter_map(named).collect();
    let found: Vec<Option<Found>> = named.iter().map(|(run, primary, _)| known.find(*run, primary)).collect();
    let mut tested: Vec<Option<Tested>> = found.iter().map(|found| found.as_ref().map(Found::tested)).collect();
    let p: Vec<f64> = tested.iter().flatten().map(|tested| tested.p).collect();
    tested.iter_mut().flatten().zip(stats::holm(&p)).for_each(|(tested, p)| tested.p = p);
    std::iter::zip(named, std::iter::zip(found, tested))
        .map(|((run, primary, started), (found, result))| {
            let text = match (&found, &result) {
                (Some(found), Some(tested)) => known.sentence(found, tested, p.len()),
                _ => format!("{primary} cannot be told from these trials yet"),
            };
            let sentence = format!("Primary comparison, named before the first trial: {text}.");
            let of_curves = known.condition(run, &primary.of).is_none();
            let curve = match found {
                Some(Found::Dose(dose)) => Some(dose.curve),
                _ => None,
            };
            PrimaryResult { run, named: primary, of_curves, curve, started, sentence, result }
        })
        .collect()
}

impl Known<'_> {
    fn condition(&self, run: usize, name: &str) -> Option<usize> {
        let mut all = self.conditions.iter();
        all.position(|one| one.run == run && one.condition.to_string() == name)
    }

    fn find(&self, run: usize, primary: &Primary) -> Option<Found<'_>> {
        let condition = |name: &str| self.condition(run, name);
        let curve = |name: &str| {
            let first = |curve: &Curve| curve.conditions.last().map(|&at| &self.conditions[at].condition);
            let named = |curve: &Curve| first(curve).and_then(|condition| condition.curve()).as_deref() == Some(name);
            self.curves.iter().position(|curve| curve.run == run && named(curve))
        };
        let same = |a: usize, b: usize, pair: (usize, usize)| (a, b) == pair || (b, a) == pair;
        let Some(against) = &primary.against else {
            if let Some(index) = condition(&primary.of) {
                let pair = (self.table.baseline_of(index)?, index);
                return self.comparisons.iter().find(|one| (one.a, one.b) == pair).map(Found::Conditions);
            }
            let curve = curve(&primary.of)?;
            return self.doses.iter().find(|dose| dose.curve == curve).map(Found::Dose);
        };
        if let (Some(a), Some(b)) = (condition(&primary.of), condition(against)) {
            return self.comparisons.iter().find(|one| same(one.a, one.b, (a, b))).map(Found::Conditions);
        }
        let (a, b) = (curve(&primary.of)?, curve(against)?);
        self.curve_comparisons.iter().find(|one| same(one.a, one.b, (a, b))).map(Found::Curves)
    }

    fn sentence(&self, found: &Found, tested: &Tested, n_primaries: usize) -> String {
        let p = words::p_value(if n_primaries > 1 { "p(Holm)" } else { "p" }, tested.p);
        match found {
            Found::Dose(dose) => dose::alone(dose, &self.curves[dose.curve].name, &p, tested.is_significant()),
            Found::Curves(one) => dose::claim(one, self.curves, &p),
            Found::Conditions(one) => {
                let claim = compare::claim(one, self.conditions, one.earned.is_some());
                format!("{claim} ({p}, n = {})", tested.n)
            }
        }
    }
}

impl Found<'_> {
    /// The deciding test of the exploratory part, without its correction.
    fn tested(&self) -> Tested {
        match self {
            Found::Dose(dose) => {
                let response = dose.decides();
                let (n, difference, p) = (response.n, response.slope, response.p_permutation);
                Tested { n, difference, earned: dose.earned.is_some(), p }
            }
            Found::Curves(one) => {
                let area = one.decides();
                let (n, difference, p) = (area.n, area.difference, area.p_permutation);
                Tested { n, difference, earned: one.earned.is_some(), p }
            }
            Found::Conditions(one) => match &one.earned {
                Some(earned) => {
                    let (n, difference, p) = (earned.n, earned.difference, earned.p_permutation);
                    Tested { n, difference, earned: true, p }
                }
                None => Tested { n: one.n, difference: one.difference, earned: false, p: one.p_permutation },
            },
        }
    }
}

/// The sentence that tells the primary comparisons from everything else; `None` without primary comparisons.
pub(super) fn others(primaries: &[PrimaryResult]) -> Option<String> {
    (!primaries.is_empty()).then(|| "Everything else in this report is exploratory.".to_owned())
}
