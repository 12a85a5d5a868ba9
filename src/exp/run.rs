//! The loop: read, forget, answer, score, write.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::{Condition, InstructionRow, Key, Plan, Resumed, Sights, Store, TrialRow, forgetting, prompt_of};
use crate::data::{Example, RUBRIC};
use crate::evict::{Budget, Scores, ranges_text};
use crate::llama::{Answer, ContextSettings, Cut, Forgetting, Job, Model, Prompt, Reader, Sampler};
use crate::score;
use crate::span::Label;
use crate::{Error, Result};

/// Watches a run.
pub trait Observer {
    /// The run starts: so many trials in all, so many of them finished earlier.
    fn started(&mut self, trials: usize, finished: usize);
    /// A trial is on the disk. `mean` is the running mean of its condition.
    fn trial(&mut self, row: &TrialRow, mean: Option<f64>);
    /// All trials of an example are on the disk, now or earlier. Breaking ends the run here.
    fn settled(&mut self, example: &str) -> ControlFlow<()> {
        let _ = example;
        ControlFlow::Continue(())
    }
}

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Trials finished, now or earlier.
    pub finished: usize,
    /// Trials that failed now; their rows say why.
    pub failed: usize,
    /// By condition, in the order of the plan: mean score, its trials.
    pub means: Vec<(String, Option<f64>, usize)>,
    /// The first failure.
    pub first_failure: Option<String>,
}

/// Runs what of the plan is not yet in the store.
///
/// # Errors
/// [`Error::Interrupted`] after [`crate::llama::interrupt`]; otherwise if the context cannot be made
/// or a row cannot be written. A failing trial is no error of the run: it gets a row that says so.
pub fn run(
    plan: &Plan,
    model: &Arc<Model>,
    context: ContextSettings,
    run_id: &str,
    store: &mut Store,
    resumed: Resumed,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let mut run = Run { means: Means::new(plan, &resumed), outcome: Outcome::default(), store, observer };
    run.observer.started(plan.n_trials(), run.means.finished);
    let lanes = plan.settings.generation.parallel;
    let mut reader: Option<Reader> = None;
    for example in &plan.examples {
        let pending: Vec<_> = plan.trials(example).filter(|(_, key)| !resumed.done.contains_key(key)).collect();
        if !pending.is_empty() {
            let reader = match &mut reader {
                Some(reader) => reader,
                none => none.insert(Reader::sharing(model, context.clone(), lanes)?),
            };
            let prompt = prompt_of(model, example)?;
            let trials = pending.iter().map(|(condition, key)| Trial {
                plan,
                example,
                prompt: &prompt,
                condition,
                key,
                model,
                run_id,
                kv_bytes_per_position: reader.context().kv_bytes_per_position(),
            });
            run.example(reader, &prompt, trials.collect(), plan.settings.generation.n_predict)?;
        }
        if run.observer.settled(&example.id).is_break() {
            break;
        }
    }
    let Run { means, mut outcome, .. } = run;
    outcome.finished = means.finished;
    outcome.means = plan
        .settings
        .conditions
        .iter()
        .map(|condition| {
            let name = condition.to_string();
            let (mean, trials) = (means.of(&name), means.trials(&name));
            (name, mean, trials)
        })
        .collect();
    Ok(outcome)
}

/// What changes while a run goes on.
struct Run<'a> {
    means: Means,
    outcome: Outcome,
    store: &'a mut Store,
    observer: &'a mut dyn Observer,
}

impl Run<'_> {
    /// Runs the pending trials of one example: side by side those that share the reading of the
    /// prompt, if there are lanes for it, then the others one by one.
    fn example(&mut self, reader: &mut Reader, prompt: &Prompt, trials: Vec<Trial>, n_predict: usize) -> Result<()> {
        let mut sights = Sights::default();
        for trial in &trials {
            // A scope that the prompt lacks is the trial's own failure, below.
            let _ = sights.need(trial.condition, prompt);
        }
        if let Err(error) = sights.look(reader, prompt) {
            if matches!(error, Error::Interrupted) {
                return Err(error);
            }
            return trials.iter().try_for_each(|trial| self.commit(&trial.failed(&error), &[]));
        }
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        for trial in trials {
            match sights.of(trial.condition, prompt).and_then(|scores| trial.forgetting(scores)) {
                Err(error) => self.commit(&trial.failed(&error), &[])?,
                Ok(forgetting) => {
                    let job = Job { sampler: trial.sampler(), id: trial, forgetting };
                    let side_by_side = reader.lanes() > 1 && job.forgetting.can_share();
                    if side_by_side { &mut together } else { &mut alone }.push(job);
                }
            }
        }
        reader.answer_all(prompt, together, n_predict, |job, cut, answer| self.finish(&job, &cut, answer))?;
        for mut job in alone {
            let answered = reader.cut(prompt, &job.forgetting).and_then(|mut cut| {
                let answer = reader.answer(prompt, &mut cut, &mut job.sampler, n_predict)?;
                Ok((cut, answer))
            });
            match answered {
                Ok((cut, answer)) => self.finish(&job, &cut, answer)?,
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => self.commit(&job.id.failed(&error), &[])?,
            }
        }
        Ok(())
    }

    fn finish(&mut self, job: &Job<Trial>, cut: &Cut, answer: Answer) -> Result<()> {
        match job.id.rows(&job.forgetting, cut, answer) {
            Ok((row, instructions)) => self.commit(&row, &instructions),
            Err(error) => self.commit(&job.id.failed(&error), &[]),
        }
    }

    fn commit(&mut self, row: &TrialRow, instructions: &[InstructionRow]) -> Result<()> {
        self.store.append(row, instructions)?;
        if row.error.is_empty() {
            self.means.add(&row.condition, &row.example_id, row.mean_score);
        } else {
            self.outcome.failed += 1;
            self.outcome
                .first_failure
                .get_or_insert_with(|| format!("{} {}: {}", row.example_id, row.condition, row.error));
        }
        self.observer.trial(row, self.means.of(&row.condition));
        Ok(())
    }
}

/// By condition, in the order of the rows: mean score, finished trials.
pub fn means(trials: &[TrialRow]) -> Vec<(String, Option<f64>, usize)> {
    let mut means = Means { by_condition: BTreeMap::new(), finished: 0 };
    let mut order: Vec<&str> = Vec::new();
    for row in trials.iter().filter(|row| row.error.is_empty()) {
        means.add(&row.condition, &row.example_id, row.mean_score);
        if !order.contains(&row.condition.as_str()) {
            order.push(&row.condition);
        }
    }
    order.into_iter().map(|name| (name.to_owned(), means.of(name), means.trials(name))).collect()
}

/// Running means by condition: the mean over examples of the mean over repeats, so that repeats
/// never count as independent examples.
struct Means {
    by_condition: BTreeMap<String, Mean>,
    finished: usize,
}

#[derive(Default)]
struct Mean {
    trials: usize,
    /// By example: sum and number of scores.
    examples: BTreeMap<String, (f64, usize)>,
    /// Sum over examples of their means.
    sum: f64,
}

impl Means {
    fn new(plan: &Plan, resumed: &Resumed) -> Self {
        let mut means = Means { by_condition: BTreeMap::new(), finished: 0 };
        for example in &plan.examples {
            for (_, key) in plan.trials(example) {
                if let Some(score) = resumed.done.get(&key) {
                    means.add(&key.condition, &key.example, *score);
                }
            }
        }
        means
    }

    fn add(&mut self, condition: &str, example: &str, score: Option<f64>) {
        self.finished += 1;
        let mean = self.by_condition.entry(condition.to_owned()).or_default();
        mean.trials += 1;
        let Some(score) = score else { return };
        let (sum, count) = mean.examples.entry(example.to_owned()).or_default();
        if *count > 0 {
            mean.sum -= *sum / *count as f64;
        }
        *sum += score;
        *count += 1;
        mean.sum += *sum / *count as f64;
    }

    fn of(&self, condition: &str) -> Option<f64> {
        let mean = self.by_condition.get(condition)?;
        (!mean.examples.is_empty()).then(|| mean.sum / mean.examples.len() as f64)
    }

    fn trials(&self, condition: &str) -> usize {
        self.by_condition.get(condition).map_or(0, |mean| mean.trials)
    }
}

/// One (example, condition, repeat).
struct Trial<'a> {
    plan: &'a Plan,
    example: &'a Example,
    prompt: &'a Prompt,
    condition: &'a Condition,
    key: &'a Key,
    model: &'a Model,
    run_id: &'a str,
    kv_bytes_per_position: u64,
}

impl Trial<'_> {
    fn forgetting(&self, scores: Option<&Scores>) -> Result<Forgetting> {
        forgetting(self.condition, self.prompt, self.plan.seed(self.key), self.model, scores)
    }

    fn sampler(&self) -> Sampler {
        Sampler::new(&self.plan.settings.generation.sampling, self.plan.seed(self.key).sampler())
    }

    fn rows(&self, forgetting: &Forgetting, cut: &Cut, answer: Answer) -> Result<(TrialRow, Vec<InstructionRow>)> {
        let instructions = self.score(forgetting, &answer.text)?;
        Ok((self.row(forgetting, cut, answer, &instructions), instructions))
    }

    fn row(&self, forgetting: &Forgetting, cut: &Cut, answer: Answer, instructions: &[InstructionRow]) -> TrialRow {
        let decode_s = answer.decode.as_secs_f64();
        let (len, n_kept) = (forgetting.keep.len(), forgetting.n_kept());
        let mut row = TrialRow {
            n_kept,
            n_evicted: len - n_kept,
            evicted_ranges: ranges_text(forgetting.keep.evicted()),
            kv_bytes_full: self.kv_bytes_per_position * len as u64,
            kv_bytes_kept: self.kv_bytes_kept(forgetting),
            n_generated: answer.tokens.len(),
            stop_reason: answer.stop.as_str().to_owned(),
            prefill_ms: thousandths(cut.prefill, 1e3),
            evict_us: thousandths(cut.evict, 1e6),
            decode_ms: thousandths(answer.decode, 1e3),
            tokens_per_s: (decode_s > 0.0).then(|| (answer.tokens.len() as f64 / decode_s * 100.0).round() / 100.0),
            response: answer.text,
            ..self.identity()
        };
        row.settle(instructions);
        row
    }

    /// What cells are not freed is held still; layers that do not forget hold everything.
    fn kv_bytes_kept(&self, forgetting: &Forgetting) -> u64 {
        let layers = self.model.kv_layers();
        let forgetful = layers.iter().filter(|layer| forgetting.layers.include(layer.local)).count() as u64;
        let keep = &forgetting.keep;
        let freed = self.kv_bytes_per_position * keep.n_evicted() as u64 * forgetful / layers.len().max(1) as u64;
        self.kv_bytes_per_position * keep.len() as u64 - freed
    }

    fn failed(&self, error: &Error) -> TrialRow {
        TrialRow { error: error.to_string(), ..self.identity() }
    }

    /// The cells that say which trial this is.
    fn identity(&self) -> TrialRow {
        let condition = self.condition;
        let (ratio, keep_first, keep_last) = match condition.budget {
            Budget::Ratio { ratio, .. } => (ratio.to_string(), condition.sinks(), None),
            Budget::Window { keep_first, keep_last } => (String::new(), Some(keep_first), Some(keep_last)),
        };
        TrialRow {
            run_id: self.run_id.to_owned(),
            example_id: self.key.example.clone(),
            condition: self.key.condition.clone(),
            policy: condition.policy.clone(),
            ratio,
            keep_first,
            keep_last,
            positions: condition.positions.to_string(),
            scope: condition.scope.to_string(),
            protect: condition.protect.to_string(),
            memory: condition.memory.to_string(),
            block: condition.block,
            granularity: condition.granularity,
            layers: condition.layers,
            aggregate: condition.aggregate,
            fair: condition.fair,
            freed: condition.frees(),
            repeat: self.key.repeat,
            seed: self.plan.seed(self.key).0,
            n_prompt: self.prompt.tokens.len(),
            ..TrialRow::default()
        }
    }

    fn score(&self, forgetting: &Forgetting, response: &str) -> Result<Vec<InstructionRow>> {
        let rows = self.example.instructions.iter().enumerate().map(|(index, instruction)| {
            let verdict = match instruction.kind.as_str() {
                RUBRIC => None,
                kind => Some(score::check(kind, &instruction.kwargs, response)?),
            };
            let span = self.prompt.span(Label::Instruction(index));
            let mut row = InstructionRow {
                example_id: self.key.example.clone(),
                condition: self.key.condition.clone(),
                repeat: self.key.repeat,
                instruction: index,
                kind: instruction.kind.clone(),
                n_tokens: span.map(|span| span.range().len()),
                survival: span.map(|span| forgetting.survival(span.range())),
                pass_strict: verdict.as_ref().map(|verdict| u8::from(verdict.strict)),
                pass_loose: verdict.as_ref().map(|verdict| u8::from(verdict.loose)),
                ..InstructionRow::default()
            };
            row.settle();
            Ok(row)
        });
        rows.collect()
    }
}

fn thousandths(duration: Duration, per_second: f64) -> f64 {
    (duration.as_secs_f64() * per_second * 1e3).round() / 1e3
}
