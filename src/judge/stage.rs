//! Judges a finished run: finds out which verdicts are missing, requests them, and writes the scores into the rows.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Serialize;
use serde_json::json;

use super::cache::{self, Cache};
use super::ledger::Ledger;
use super::{Judge, PROMPT_VERSION, Request, estimate};
use crate::api::price::{Price, Usage};
use crate::data::Instruction;
use crate::exp::{ConditionMean, InstructionRow, PROMPTS, Rows, instructions_of, means};
use crate::{Error, Result, files, score};

pub use super::cache::Spent;

/// The file that says which judge's scores are in the rows.
const RECORD: &str = "judge.json";

/// What to judge, and how much it may cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Also the instructions that only have a rule: their score stays the rule's.
    pub all: bool,
    /// Limit for the cost of this call, in US dollars.
    pub max_cost: Option<f64>,
    /// Only report what would be requested.
    pub dry_run: bool,
}

/// Observes the judging.
pub trait Observer {
    /// Called before the first request.
    fn planned(&mut self, plan: &Plan);
    /// Called when a reply is on disk: `replies` are there, `unjudged` of them without a verdict.
    fn replied(&mut self, replies: usize, unjudged: usize, spent: &Spent);
}

/// The requests that will be made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Who judges.
    pub judge: String,
    /// Verdicts to request; equal responses to equal rubrics are requested once.
    pub pending: usize,
    /// Verdicts already known.
    pub known: usize,
    /// Tokens that the requests will probably use.
    pub usage: Usage,
    /// Their probable cost in US dollars; `None` if no price is known.
    pub cost_usd: Option<f64>,
}

/// The result of a judging.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// Who judged.
    pub judge: String,
    /// Instructions of trials with a verdict.
    pub judged: usize,
    /// Instructions that should have a verdict and have none; their rows say why. If the judge gave no verdict at all,
    /// an earlier judge's scores stay.
    pub unjudged: usize,
    /// Why the first of them has no verdict.
    pub first_failure: Option<String>,
    /// Whether [`Options::max_cost`] ended the judging.
    pub out_of_budget: bool,
    /// Spent in this call.
    pub spent: Spent,
    /// Spent on this judge in this run, including earlier calls.
    pub spent_in_all: Spent,
    /// How often judge and rule agree on the same instructions.
    pub agreement: Option<Agreement>,
    /// The mean scores by condition.
    #[serde(skip)]
    pub means: Vec<ConditionMean>,
}

/// How often the judge (a score of at least 0.5) and the rule (strict) agree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Agreement {
    /// Both say that the instruction was followed.
    pub both: usize,
    /// Both say that it was not followed.
    pub neither: usize,
    /// Only the judge says that it was followed.
    pub judge_only: usize,
    /// Only the rule says that it was followed.
    pub rule_only: usize,
}

impl Agreement {
    /// Number of instructions with both verdicts.
    pub fn total(&self) -> usize {
        self.both + self.neither + self.judge_only + self.rule_only
    }

    /// The share of these on which judge and rule agree.
    pub fn share(&self) -> f64 {
        (self.both + self.neither) as f64 / self.total() as f64
    }
}

/// Requests the verdicts that this judge has not given yet, and writes the scores into the rows of the run.
///
/// Verdicts are on disk before they are counted: if this call is stopped, the next one continues from there.
///
/// # Errors
/// If the directory holds no run, if the judge cannot work at all, or if interrupted; the verdicts given so far are
/// then in the rows.
pub fn run(directory: &Path, judge: &mut dyn Judge, options: &Options, observer: &mut dyn Observer) -> Result<Judged> {
    let price = judge.price();
    if options.max_cost.is_some() && price.is_none() {
        return Err(Error::input(
            "--max-cost needs a price, and this judge has none; give one with --judge-price IN,OUT",
        ));
    }
    if !options.dry_run {
        judge.ready()?;
    }
    let mut rows = Rows::open(directory)?;
    let instructions = instructions_of(directory)?;
    let fingerprint = judge.fingerprint();
    let matters = matters(&rows, &instructions, &fingerprint, options.all)?;
    let mut ledger = Ledger::open(directory, fingerprint, price)?;
    let asked = ask(judge, &rows, &matters, &mut ledger, options, observer);
    let mut outcome = Judged {
        judge: ledger.judge.clone(),
        judged: 0,
        unjudged: 0,
        first_failure: None,
        out_of_budget: matches!(asked, Ok(true)),
        spent: ledger.now,
        spent_in_all: ledger.cache.spent(&ledger.judge),
        agreement: agreement(&rows.instructions),
        means: means(&rows.trials),
    };
    if options.dry_run {
        return asked.map(|_| outcome);
    }
    // If a judge gives no verdict at all (a wrong key, no network), the scores of the previous judge stay.
    let any = matters.iter().flatten().any(|matter| ledger.verdict(&matter.key).is_ok());
    if !any && rows.instructions.iter().any(|row| row.judge_score.is_some()) {
        asked?;
        outcome.unjudged = matters.iter().flatten().filter(|matter| matter.wanted).count();
        outcome.first_failure = ledger.failures.values().next().cloned();
        return Ok(outcome);
    }
    for (row, matter) in rows.instructions.iter_mut().zip(&matters) {
        match matter.as_ref().map(|matter| (matter.wanted, ledger.verdict(&matter.key))) {
            Some((_, Ok(verdict))) => {
                outcome.judged += 1;
                (row.judge_score, row.judge_reason) = (Some(verdict.score), verdict.reason.clone());
            }
            Some((true, Err(reason))) => {
                outcome.unjudged += 1;
                (row.judge_score, row.judge_reason) = (None, format!("unjudged: {reason}"));
                outcome.first_failure.get_or_insert_with(|| reason.to_owned());
            }
            Some((false, Err(_))) | None => (row.judge_score, row.judge_reason) = (None, String::new()),
        }
    }
    rows.settle()?;
    outcome.agreement = agreement(&rows.instructions);
    outcome.means = means(&rows.trials);
    let record = json!({
        "judge": outcome.judge,
        "prompt_version": PROMPT_VERSION,
        "all": options.all,
        "judged": outcome.judged,
        "unjudged": outcome.unjudged,
        "spent": outcome.spent_in_all,
    });
    files::write_atomically(&directory.join(RECORD), format!("{record:#}\n").as_bytes())?;
    asked.map(|_| outcome)
}

/// The fingerprint of the judge whose scores are in the rows of a run; `None` if no judge was asked.
///
/// # Errors
/// If the file that says so cannot be read.
pub fn judge_of(directory: &Path) -> Result<Option<String>> {
    let path = directory.join(RECORD);
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io("cannot read", &path))?;
    let record: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Error::input(format!("{}: {error}", path.display())))?;
    Ok(record["judge"].as_str().map(str::to_owned))
}

/// One instruction of one trial that can be judged.
struct Matter {
    key: String,
    rubric: String,
    /// Row of the trial.
    trial: usize,
    /// Whether to request a verdict, or only to show a known one.
    wanted: bool,
}

/// For each row of instructions, what to judge; `None` if the trial failed.
fn matters(
    rows: &Rows,
    instructions: &HashMap<String, Vec<Instruction>>,
    judge: &str,
    all: bool,
) -> Result<Vec<Option<Matter>>> {
    let finished = rows.trials.iter().enumerate().filter(|(_, row)| row.error.is_empty());
    let finished: HashMap<_, _> = finished.map(|(index, row)| (row.key(), index)).collect();
    let matter = |row: &InstructionRow| {
        let Some(&trial) = finished.get(&row.key()) else { return Ok(None) };
        let of_example = instructions.get(&row.example_id);
        let instruction = of_example.and_then(|of_example| of_example.get(row.instruction)).ok_or_else(|| {
            Error::failed(format!("{PROMPTS} lacks instruction {} of `{}`", row.instruction, row.example_id))
        })?;
        let rubric = criterion(instruction);
        let key = cache::key(judge, &rubric, &rows.trials[trial].response);
        Ok(Some(Matter { key, rubric, trial, wanted: all || instruction.rubric.is_some() }))
    };
    rows.instructions.iter().map(matter).collect()
}

/// The criterion for an instruction: its rubric, else its own text, else what its rule checks.
fn criterion(instruction: &Instruction) -> String {
    if let Some(rubric) = &instruction.rubric {
        return rubric.clone();
    }
    if let Some(text) = &instruction.text {
        return format!("The response follows this instruction of its prompt: {text}");
    }
    let rule = score::rules().iter().find(|rule| rule.name == instruction.kind);
    let about = rule.map_or(instruction.kind.as_str(), |rule| rule.about);
    if instruction.kwargs.is_empty() {
        return format!("The response follows this rule: {about}");
    }
    format!("The response follows this rule: {about} ({})", json!(instruction.kwargs))
}

/// Requests the wanted and unknown verdicts; returns whether the budget ended it.
fn ask(
    judge: &mut dyn Judge,
    rows: &Rows,
    matters: &[Option<Matter>],
    ledger: &mut Ledger,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<bool> {
    if !options.dry_run {
        judge.resume(&mut |reply| ledger.take(reply))?;
    }
    let (pending, known) = pending(rows, matters, &ledger.cache);
    let mut usage = Usage::default();
    pending.iter().for_each(|request| usage += estimate::likely(request));
    let cost_usd = ledger.price.map(|price| price.cost(&usage));
    observer.planned(&Plan { judge: ledger.judge.clone(), pending: pending.len(), known, usage, cost_usd });
    let mut rest = if options.dry_run { &[][..] } else { &pending[..] };
    while !rest.is_empty() {
        let left = options.max_cost.map(|max_cost| max_cost - ledger.now.cost_usd);
        let count = affordable(rest, judge.max_tokens(), ledger.price.zip(left));
        if count == 0 {
            let reason = "--max-cost is reached";
            ledger.failures.extend(rest.iter().map(|request| (request.key.clone(), reason.to_owned())));
            return Ok(true);
        }
        let (now, later) = rest.split_at(count);
        judge.judge(now, &mut |reply| {
            let taken = ledger.take(reply);
            observer.replied(ledger.now.requests, ledger.failures.len(), &ledger.now);
            taken
        })?;
        rest = later;
    }
    Ok(false)
}

/// The requests for wanted and unknown verdicts, with those for one response together, and the number of known
/// verdicts.
fn pending(rows: &Rows, matters: &[Option<Matter>], cache: &Cache) -> (Vec<Request>, usize) {
    let mut seen = HashSet::new();
    let wanted = matters.iter().flatten().filter(|matter| matter.wanted && seen.insert(matter.key.as_str()));
    let (known, unknown): (Vec<_>, Vec<_>) = wanted.partition(|matter| cache.get(&matter.key).is_some());
    let mut requests: Vec<_> = unknown
        .into_iter()
        .map(|matter| Request {
            key: matter.key.clone(),
            rubric: matter.rubric.clone(),
            response: rows.trials[matter.trial].response.clone(),
            shared: false,
        })
        .collect();
    requests.sort_by(|a, b| a.response.cmp(&b.response));
    for group in requests.chunk_by_mut(|a, b| a.response == b.response) {
        let shared = group.len() > 1;
        group.iter_mut().for_each(|request| request.shared = shared);
    }
    (requests, known.len())
}

/// How many of the next requests certainly fit into the rest of the budget.
fn affordable(requests: &[Request], max_tokens: u32, budget: Option<(Price, f64)>) -> usize {
    let Some((price, mut left)) = budget else { return requests.len() };
    let fit = requests.iter().take_while(|request| {
        left -= price.cost(&estimate::at_most(request, max_tokens));
        left >= 0.0
    });
    fit.count()
}

fn agreement(rows: &[InstructionRow]) -> Option<Agreement> {
    let mut agreement = Agreement::default();
    for (rule, judge) in rows.iter().filter_map(|row| row.by_rule().zip(row.judge_score)) {
        let count = match (rule >= 0.5, judge >= 0.5) {
            (true, true) => &mut agreement.both,
            (false, false) => &mut agreement.neither,
            (false, true) => &mut agreement.judge_only,
            (true, false) => &mut agreement.rule_only,
        };
        *count += 1;
    }
    (agreement.total() > 0).then_some(agreement)
}
