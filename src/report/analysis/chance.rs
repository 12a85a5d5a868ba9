//! Chance: how often each rule is passed by answers to other examples, which never saw the rule.

use std::collections::HashMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde::Serialize;

use crate::data::Instruction;
use crate::report::table::{Column, Trial, mean};
use crate::report::{Table, words};
use crate::score::{Checker, secret};
use crate::stats::{Asked, Shares, Verdicts, shares};

/// Rules on words that the question itself makes likely or unlikely: answers to other questions are not fair donors.
const OF_THE_TOPIC: [&str; 2] = ["keywords:forbidden_words", "kvllama:excludes"];

/// Largest number of checks in a report: they take some seconds. If there would be more, donors are sampled.
const CHECKS: usize = 500_000;
/// Smallest number of donors that every rule keeps.
const LEAST: usize = 4;

/// The basis of the earned scores of a report.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ChanceFacts {
    /// Number of instructions of the examples.
    pub n_instructions: usize,
    /// Number of rules that have a chance: earned scores are computed from these.
    pub n_rules: usize,
    /// Largest number of donors of a rule.
    pub donors: usize,
    /// Whether the donors are a sample.
    pub sampled: bool,
    /// Left out: number of instructions that no rule can check.
    pub rubrics: usize,
    /// Left out: number of rules on words that the question itself makes likely or unlikely.
    pub of_the_topic: usize,
    /// Left out: number of rules on a secret of their own prompt, which no other answer could reveal.
    pub of_secrets: usize,
    /// Left out: number of rules of a type that every prompt asks for.
    pub without_donors: usize,
    /// Left out: number of examples whose rules are not known, because no run holds their prompts.
    pub examples_unknown: usize,
}

impl ChanceFacts {
    /// The basis of earned scores and the instructions left out, as a sentence; `None` without earned scores. `error`
    /// is the largest standard error due to sampled donors.
    pub fn sentence(&self, error: f64) -> Option<String> {
        if self.n_rules == 0 {
            return None;
        }
        let mut text = if self.sampled {
            format!(
                "Chance is how often a rule is passed by the answers, under the same condition, to {} prompts drawn from \
                 those that ask for no rule of its type (standard error from drawing: {})",
                self.donors,
                words::at_most(error)
            )
        } else {
            "Chance is how often a rule is passed by the answers, under the same condition, to the prompts that ask for no \
             rule of its type"
                .to_owned()
        };
        text.push_str(&format!(
            "; earned scores rest on {} of {}",
            words::thousands(self.n_rules),
            words::count(self.n_instructions, "instruction")
        ));
        let left_out = self.left_out();
        if left_out.is_empty() {
            Some(text + ".")
        } else {
            Some(format!("{text}, without {}.", words::list(&left_out)))
        }
    }

    /// The instructions that have no chance, with the reason.
    pub fn left_out(&self) -> Vec<String> {
        let reasons = [
            (self.rubrics, "that no rule can check"),
            (self.of_the_topic, "on words that the question itself may bring up (forbidden words)"),
            (self.of_secrets, "on a secret that answers to other prompts cannot know (leakage)"),
            (self.without_donors, "of a type that every prompt asks for"),
        ];
        let some = reasons.into_iter().filter(|(count, _)| *count > 0);
        some.map(|(count, why)| format!("{} {why}", words::thousands(count))).collect()
    }
}

/// The rules of the examples with their donors, and the verdicts on each condition's answers.
pub(super) struct Chance {
    pub facts: ChanceFacts,
    asked: Vec<Asked>,
    /// By column.
    verdicts: Vec<Verdicts>,
}

impl Chance {
    pub fn of(table: &Table, seed: u64) -> Self {
        let rules = Rules::of(table, seed);
        let verdicts = crate::threads::map(&table.columns, |column| rules.judge(column));
        Chance { facts: rules.facts, asked: rules.asked, verdicts }
    }

    /// The shares of some columns on the examples that all of them answered.
    pub fn shares(&self, columns: &[usize]) -> Option<Vec<Shares>> {
        let verdicts: Vec<&Verdicts> = columns.iter().map(|&column| &self.verdicts[column]).collect();
        shares(&self.asked, &verdicts)
    }
}

/// The rules that have a chance.
struct Rules {
    facts: ChanceFacts,
    /// By rule.
    asked: Vec<Asked>,
    /// By rule: its index among the instructions of its example, and its checker. Equal rules share one.
    places: Vec<(usize, usize)>,
    /// By rule: the turns, or questions, on whose answers it is checked. Its donors' answers are those of the same turns.
    turns: Vec<Vec<u32>>,
    checkers: Vec<Checker>,
    /// By example: its rules.
    own: Vec<Vec<usize>>,
    /// By example: the rules it donates to, and its place among the donors of each.
    donations: Vec<Vec<(usize, usize)>>,
}

impl Rules {
    fn of(table: &Table, seed: u64) -> Self {
        let n = table.examples.len();
        let known = instructions(table);
        let fair = fair_donors(&known);
        let mut facts = ChanceFacts::default();
        let mut checkers = Vec::new();
        let mut by_rule: HashMap<(&str, String), Option<usize>> = HashMap::new();
        let mut demands: Vec<String> = Vec::new();
        let (mut examples, mut places) = (Vec::new(), Vec::new());
        for (example, instructions) in known.iter().enumerate() {
            let Some(instructions) = instructions else {
                facts.examples_unknown += 1;
                continue;
            };
            facts.n_instructions += instructions.len();
            for (index, instruction) in instructions.iter().enumerate() {
                let kind = instruction.kind.as_str();
                if OF_THE_TOPIC.contains(&kind) {
                    facts.of_the_topic += 1;
                    continue;
                }
                if secret(kind, &instruction.kwargs).is_some() {
                    facts.of_secrets += 1;
                    continue;
                }
                let key = (kind, serde_json::to_string(&instruction.kwargs).unwrap_or_default());
                let checker = *by_rule.entry(key).or_insert_with(|| {
                    checkers.push(Checker::new(kind, &instruction.kwargs).ok()?);
                    Some(checkers.len() - 1)
                });
                match checker {
                    None => facts.rubrics += 1,
                    Some(_) if fair[&demand(instruction)].is_empty() => facts.without_donors += 1,
                    Some(checker) => {
                        demands.push(demand(instruction));
                        examples.push(example);
                        places.push((index, checker));
                    }
                }
            }
        }
        facts.n_rules = places.len();
        let most = most_donors(table, facts.n_rules);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // All conditions have the same donors: exchanging the answers of two conditions leaves the chance unchanged.
        let donors = demands.iter().map(|demand| sampled(&fair[demand], most, &mut rng));
        let asked: Vec<Asked> = examples
            .into_iter()
            .zip(donors)
            .zip(&demands)
            .map(|((example, donors), demand)| Asked { example, donors, n_donors: fair[demand].len() })
            .collect();
        facts.donors = asked.iter().map(|rule| rule.donors.len()).max().unwrap_or(0);
        facts.sampled = asked.iter().any(|rule| rule.donors.len() < rule.n_donors);
        let turns = turns_of(table, &asked, &places);
        let mut own = vec![Vec::new(); n];
        let mut donations = vec![Vec::new(); n];
        for (index, rule) in asked.iter().enumerate() {
            own[rule.example].push(index);
            rule.donors.iter().enumerate().for_each(|(place, &donor)| donations[donor].push((index, place)));
        }
        Rules { facts, asked, places, turns, checkers, own, donations }
    }

    fn judge(&self, column: &Column) -> Verdicts {
        let n = self.own.len();
        let mut verdicts = Verdicts {
            answered: vec![false; n],
            own: vec![0.0; self.asked.len()],
            donated: self.asked.iter().map(|rule| vec![0.0; rule.donors.len()]).collect(),
        };
        // By checker: its verdict on the answer at hand.
        let mut seen = vec![None; self.checkers.len()];
        for (example, trials) in column.trials.iter().enumerate() {
            // The verdicts on an example's own rules are those of the rows.
            let own = |&rule: &usize| {
                let place = self.places[rule].0;
                let rows =
                    trials.iter().filter_map(|trial| trial.instructions.iter().find(|row| row.instruction == place));
                Some((rule, mean(rows.filter_map(|row| row.by_rule()))?))
            };
            let own: Option<Vec<(usize, f64)>> = self.own[example].iter().map(own).collect();
            let Some(own) = own.filter(|_| !trials.is_empty()) else { continue };
            verdicts.answered[example] = true;
            own.into_iter().for_each(|(rule, passed)| verdicts.own[rule] = passed);
            // An example that has none of these turns donates all of its answers.
            let several = trials.iter().any(|trial| trial.row.turn > 0);
            let counts = |rule: usize, trial: &Trial| {
                if !several {
                    return Some(trials.len());
                }
                let same = |trial: &Trial| self.turns[rule].contains(&trial.row.turn);
                match trials.iter().filter(|trial| same(trial)).count() {
                    0 => Some(trials.len()),
                    some => same(trial).then_some(some),
                }
            };
            for trial in trials {
                seen.fill(None);
                for &(rule, place) in &self.donations[example] {
                    let Some(answers) = counts(rule, trial) else { continue };
                    let share = 1.0 / answers as f64;
                    let checker = self.places[rule].1;
                    let check = || self.checkers[checker].score(&trial.row.response);
                    verdicts.donated[rule][place] += share * *seen[checker].get_or_insert_with(check);
                }
            }
        }
        verdicts
    }
}

/// By rule: the turns on whose answers it is checked, as the rows have them.
fn turns_of(table: &Table, asked: &[Asked], places: &[(usize, usize)]) -> Vec<Vec<u32>> {
    let mut turns: HashMap<(usize, usize), Vec<u32>> = HashMap::new();
    for (example, trials) in table.columns.iter().flat_map(|column| column.trials.iter().enumerate()) {
        for row in trials.iter().flat_map(|trial| &trial.instructions) {
            let turns = turns.entry((example, row.instruction)).or_default();
            if !turns.contains(&row.turn) {
                turns.push(row.turn);
            }
        }
    }
    let of = |(rule, (place, _)): (&Asked, &(usize, usize))| turns.get(&(rule.example, *place)).cloned();
    std::iter::zip(asked, places).map(|one| of(one).unwrap_or_default()).collect()
}

/// The largest number of donors per rule within [`CHECKS`].
fn most_donors(table: &Table, n_rules: usize) -> usize {
    let trials: usize = table.columns.iter().map(|column| column.finished().count()).sum();
    let per_donor = n_rules * trials.div_ceil(table.examples.len().max(1));
    CHECKS.checked_div(per_donor).unwrap_or(0).max(LEAST)
}

fn sampled(donors: &[usize], most: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    if donors.len() <= most {
        return donors.to_vec();
    }
    crate::random::sample(rng, donors.len(), most).into_iter().map(|place| donors[place]).collect()
}

/// The key of an instruction's demand: prompts with the same key ask for the same. It is the type; if the type only
/// says how an answer is compared with a reference, it is that reference.
fn demand(instruction: &Instruction) -> String {
    const OF_REFERENCES: [&str; 2] = ["ruler:", "longbench:"];
    let kind = &instruction.kind;
    if OF_REFERENCES.iter().any(|family| kind.starts_with(family)) {
        return serde_json::to_string(&(kind, &instruction.kwargs)).expect("plain data");
    }
    kind.clone()
}

/// By demand: the examples that do not make it. An example whose prompt is not known is never a donor.
fn fair_donors(known: &[Option<&[Instruction]>]) -> HashMap<String, Vec<usize>> {
    let mut asking: HashMap<String, Vec<bool>> = HashMap::new();
    for (example, instructions) in known.iter().enumerate() {
        for instruction in instructions.iter().copied().flatten() {
            asking.entry(demand(instruction)).or_insert_with(|| vec![false; known.len()])[example] = true;
        }
    }
    let fair = |asking: Vec<bool>| (0..known.len()).filter(|&k| known[k].is_some() && !asking[k]).collect();
    asking.into_iter().map(|(kind, asking)| (kind, fair(asking))).collect()
}

/// By example: its instructions, from the first run that holds its prompt.
fn instructions<'a>(table: &Table<'a>) -> Vec<Option<&'a [Instruction]>> {
    let mut known: HashMap<&str, &[Instruction]> = HashMap::new();
    for prompt in table.runs.iter().flat_map(|run| run.prompts.iter().flatten()) {
        known.entry(&prompt.example_id).or_insert(&prompt.instructions);
    }
    table.examples.iter().map(|id| known.get(id).copied()).collect()
}
