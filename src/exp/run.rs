//! The loop: read, forget, answer, score, write.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::means::Means;
use super::trial::Trial;
use super::{
    ConditionMean, Generation, InstructionRow, Key, Plan, Resumed, Sights, Store, TrialRow, questions, texts_of,
};
use crate::condition::{Condition, KvTypes};
use crate::engine::{Answer, Cut, Forgetting, Job, Lanes, Reader};
use crate::evict::KeepSet;
use crate::llama::{ContextSettings, Model, Prompt};
use crate::{Error, Result};

/// Watches a run.
pub trait Observer {
    /// The run starts, with the number of all trials and of those finished earlier.
    fn started(&mut self, trials: usize, finished: usize);
    /// A trial is on disk. `mean` is the running mean of its condition.
    fn trial(&mut self, row: &TrialRow, mean: Option<f64>);
    /// All trials of an example are on disk, now or earlier. `Break` ends the run here.
    fn settled(&mut self, example: &str) -> ControlFlow<()> {
        let _ = example;
        ControlFlow::Continue(())
    }
    /// Whether [`Observer::settled`] may return `Break`.
    fn may_break(&self) -> bool {
        false
    }
}

/// The result of a run.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Number of finished trials, now or earlier.
    pub finished: usize,
    /// Number of trials that failed now; their rows state the reason.
    pub failed: usize,
    /// The mean scores by condition, in the order of the plan.
    pub means: Vec<ConditionMean>,
    /// The first failure.
    pub first_failure: Option<String>,
    /// Time that llama.cpp spent computing.
    pub computing: Duration,
}

/// Largest number of trials of one example that are in memory at once.
const AT_ONCE: usize = 10_000;

/// Runs the trials of the plan that are not yet in the store.
///
/// # Errors
/// [`Error::Interrupted`] after [`crate::interrupt::request`]; otherwise if the context cannot be made or a row cannot
/// be written. A failed trial does not end the run: its row holds the error.
pub fn run(
    plan: &Plan,
    model: &Arc<Model>,
    context: ContextSettings,
    run_id: &str,
    store: &mut Store,
    resumed: Resumed,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let generation = &plan.settings.generation;
    let means = Means::new(plan, &resumed);
    // If the observer may end the run after an example, the next example must not be half done by then.
    let overlap = plan.overlaps() && !observer.may_break();
    let (outcome, unsettled) = (Outcome::default(), VecDeque::new());
    let (lost, lanes) = (false, plan.lanes());
    let dense = plan.dense_context(&context);
    let mut run =
        Run { model, context, dense, generation, lanes, overlap, means, outcome, lost, unsettled, store, observer };
    run.observer.started(plan.n_trials(), run.means.finished);
    let kv_types = plan.kv_types();
    let mut caches: Vec<Option<Cache>> = kv_types.iter().map(|_| None).collect();
    let mut finished: HashMap<&str, usize> = HashMap::new();
    for (key, _) in plan.of_those(&resumed.done) {
        *finished.entry(&key.example).or_default() += 1;
    }
    for (place, example) in plan.examples.iter().enumerate() {
        let n_pending = plan.n_trials_of(place) - finished.get(example.id.as_str()).unwrap_or(&0);
        run.unsettled.push_back((&example.id, n_pending));
        for (index, &kv_type) in kv_types.iter().enumerate() {
            let of_type = || plan.trials(place).filter(|(condition, _)| condition.kv_type == kv_type);
            // Not collected: there may be billions.
            let pending = || of_type().filter(|(_, key)| !resumed.done.contains_key(key));
            if pending().next().is_none() {
                continue;
            }
            let (before, from) = caches.split_at_mut(index);
            let cache = run.cache(&mut from[0], kv_type)?;
            // Fidelity is measured against the full cache of the first KV cache type.
            let mut full = match before.first_mut().filter(|_| generation.fidelity) {
                Some(first) => Some(&mut run.cache(first, kv_types[0])?.reader),
                None => None,
            };
            let texts = texts_of(model, example)?;
            let prompts: Vec<Arc<Prompt>> = texts.iter().cloned().map(Arc::new).collect();
            let kv_bytes_per_position = cache.reader.context().kv_bytes_per_position();
            let trial = |(condition, key): (_, Key)| Trial {
                plan,
                example,
                prompt: prompts[if example.is_chat() { 0 } else { key.turn as usize }].clone(),
                condition,
                key,
                model,
                run_id,
                kv_bytes_per_position,
                fidelity: None,
            };
            if example.is_chat() {
                let turns: Vec<_> = of_type().map(trial).collect();
                let same = |a: &Trial, b: &Trial| (&a.key.condition, a.key.repeat) == (&b.key.condition, b.key.repeat);
                let chats: Vec<_> = turns.chunk_by(same).collect();
                run.chats(cache, &texts, &chats, |trial| resumed.done.contains_key(&trial.key))?;
                continue;
            }
            // Questions that are answered from the same cut cache go together, the others question by question.
            let once = |condition: &Condition| !generation.fidelity && questions::cuts_once(condition, &prompts[0]);
            for question in std::iter::once(None).chain((0..prompts.len()).map(Some)) {
                let here = |(condition, key): &(&Condition, Key)| match question {
                    None => once(condition),
                    Some(question) => key.turn as usize == question && !once(condition),
                };
                let mut trials = pending().filter(here).map(trial);
                // One pass takes all of them, unless there are very many. A trial whose speed is measured runs alone.
                let at_once = if generation.measure_speed { 1 } else { AT_ONCE };
                loop {
                    let some: Vec<_> = trials.by_ref().take(at_once).collect();
                    if some.is_empty() {
                        break;
                    }
                    run.example(cache, full.as_deref_mut(), some)?;
                }
            }
        }
        if run.settle().is_break() {
            break;
        }
    }
    for cache in caches.iter_mut().flatten() {
        run.drain(cache)?;
    }
    let _ = run.settle();
    let Run { means, mut outcome, .. } = run;
    outcome.finished = means.finished;
    outcome.computing = caches.iter().flatten().map(Cache::time_computing).sum();
    let conditions = plan.settings.conditions.iter();
    outcome.means = conditions.map(|condition| means.condition(&condition.to_string())).collect();
    Ok(outcome)
}

/// The reader and the lanes of one KV cache type.
pub(super) struct Cache<'a> {
    pub reader: Reader,
    lanes: Lanes<Trial<'a>>,
    context: ContextSettings,
    /// A second reader, for the fidelity of conditions that cannot share cells with the full cache.
    aside: Option<Reader>,
}

impl Cache<'_> {
    fn time_computing(&self) -> Duration {
        let readers = std::iter::once(&self.reader).chain(&self.aside);
        readers.map(Reader::time_computing).sum()
    }
}

/// The state of a run.
pub(super) struct Run<'a> {
    pub model: &'a Arc<Model>,
    context: ContextSettings,
    /// The context of the dense lanes, if there are any.
    dense: Option<ContextSettings>,
    pub generation: &'a Generation,
    /// The sequences that a cache needs.
    lanes: u32,
    /// Whether the next prompt may be read while lanes of the previous one still answer.
    overlap: bool,
    means: Means,
    outcome: Outcome,
    /// Whether a row could not be written; the run then ends.
    lost: bool,
    /// The examples that were begun, each with the number of its trials that are not on disk yet.
    unsettled: VecDeque<(&'a str, usize)>,
    pub store: &'a mut Store,
    observer: &'a mut dyn Observer,
}

impl<'a> Run<'a> {
    /// The cache at `place`, made at its first use.
    fn cache<'c>(&self, place: &'c mut Option<Cache<'a>>, kv_type: KvTypes) -> Result<&'c mut Cache<'a>> {
        if let Some(cache) = place {
            return Ok(cache);
        }
        let Generation { parallel, n_predict, .. } = *self.generation;
        let context = ContextSettings { kv_type, ..self.context.clone() };
        let mut reader = Reader::sharing(self.model, context.clone(), self.lanes)?;
        if let Some(dense) = &self.dense {
            reader = reader.with_dense(ContextSettings { kv_type, ..dense.clone() }, n_predict)?;
        }
        let lanes = Lanes::new(parallel as usize, n_predict);
        Ok(place.insert(Cache { reader, lanes, context, aside: None }))
    }

    /// Runs pending trials of one example that read the same text before their eviction: side by side if there are lanes
    /// and the reader can take them, the others one by one.
    fn example(&mut self, cache: &mut Cache<'a>, full: Option<&mut Reader>, trials: Vec<Trial<'a>>) -> Result<()> {
        let Some(first) = trials.first() else { return Ok(()) };
        let (settings, prompt) = (self.generation, Arc::clone(&first.prompt));
        let reader = &mut cache.reader;
        let mut sights = Sights::of_example(&first.example.id);
        for trial in &trials {
            // If the prompt lacks the scope, the trial itself fails, below.
            let _ = sights.need(trial.condition, &trial.prompt);
        }
        if let Err(error) = sights.look(reader, &prompt) {
            return self.fail_all(&trials, error);
        }
        let (mut rolling, mut together, mut alone) = (Vec::new(), Vec::new(), Vec::new());
        for trial in trials {
            if trial.condition.budget.rolling().is_some() {
                rolling.push(trial);
                continue;
            }
            match sights.of(trial.condition, &trial.prompt).and_then(|scores| trial.forgetting(scores)) {
                Err(error) => self.commit(&trial.failed(&error), &[])?,
                Ok(forgetting) => {
                    let job = Job { sampler: trial.sampler(), id: trial, forgetting };
                    let beside = job.forgetting.can_share() || (settings.parallel > 1 && reader.takes(&job.forgetting));
                    if beside { &mut together } else { &mut alone }.push(job);
                }
            }
        }
        if settings.fidelity
            && let Err(error) = self.fidelity(cache, full, &prompt, &mut together, &mut alone)
        {
            let trials: Vec<_> = together.into_iter().chain(alone).map(|job| job.id).collect();
            return self.fail_all(&trials, error);
        }
        if settings.parallel > 1 {
            for job in together {
                let prompt = Arc::clone(&job.id.prompt);
                let done = |job: Job<Trial>, cut: Cut, answer| self.finish(&job.id, &job.forgetting, &cut, answer);
                if let Err(error) = cache.reader.enter(&mut cache.lanes, &prompt, job, done) {
                    self.rescue(cache, error)?;
                }
            }
            if !self.overlap {
                self.drain(cache)?;
            }
        } else {
            together.append(&mut alone);
            alone = together;
        }
        for job in alone {
            self.alone(&mut cache.reader, job)?;
        }
        for trial in rolling {
            match trial.roll(&mut cache.reader, settings.n_predict) {
                Ok((forgetting, cut, answer)) => self.finish(&trial, &forgetting, &cut, answer)?,
                Err(error) => self.fail_all(&[trial], error)?,
            }
        }
        Ok(())
    }

    /// Answers one trial alone.
    fn alone(&mut self, reader: &mut Reader, mut job: Job<Trial>) -> Result<()> {
        let prompt = Arc::clone(&job.id.prompt);
        let answered = reader.cut(&prompt, &job.forgetting).and_then(|mut cut| {
            let answer = reader.answer(&prompt, &mut cut, &mut job.sampler, self.generation.n_predict)?;
            Ok((cut, answer))
        });
        match answered {
            Ok((cut, answer)) => self.finish(&job.id, &job.forgetting, &cut, answer),
            Err(error) => self.fail_all(&[job.id], error),
        }
    }

    /// Continues until all lanes are empty.
    pub(super) fn drain(&mut self, cache: &mut Cache<'a>) -> Result<()> {
        match cache
            .reader
            .drain(&mut cache.lanes, |job, cut, answer| self.finish(&job.id, &job.forgetting, &cut, answer))
        {
            Ok(()) => Ok(()),
            Err(error) => self.rescue(cache, error),
        }
    }

    /// After a failed decode of several trials: answers them one by one to find the one that fails.
    fn rescue(&mut self, cache: &mut Cache<'a>, error: Error) -> Result<()> {
        if self.lost || matches!(error, Error::Interrupted) {
            return Err(error);
        }
        tracing::info!("a batch failed ({error}); its trials are answered one by one");
        cache.reader.forget_reading();
        cache.lanes.take_all().into_iter().try_for_each(|job| self.alone(&mut cache.reader, job))
    }

    /// Reports to the observer the examples whose trials are all on disk, in the order of the plan.
    fn settle(&mut self) -> ControlFlow<()> {
        while let Some(&(example, 0)) = self.unsettled.front() {
            // Removed first, so that an observer that breaks here is not called again for this example.
            self.unsettled.pop_front();
            self.means.settle(example);
            self.observer.settled(example)?;
        }
        ControlFlow::Continue(())
    }

    /// Compares the predictions of each condition with those of the full cache, on the full cache's own answer. `full`
    /// holds the full cache if it has another KV cache type.
    fn fidelity<'t>(
        &mut self,
        cache: &mut Cache,
        mut full: Option<&mut Reader>,
        prompt: &Prompt,
        together: &mut [Job<Trial<'t>>],
        alone: &mut [Job<Trial<'t>>],
    ) -> Result<()> {
        let at_once = cache.reader.lanes() - 1;
        let repeats: BTreeSet<u32> = together.iter().chain(alone.iter()).map(|job| job.id.key.repeat).collect();
        let mut answer = None;
        for repeat in repeats {
            let mut of_repeat: Vec<_> = together.iter_mut().filter(|job| job.id.key.repeat == repeat).collect();
            let mut aside: Vec<_> = alone.iter_mut().filter(|job| job.id.key.repeat == repeat).collect();
            let first = of_repeat.first().or(aside.first()).expect("the repeat is of one of them");
            if answer.is_none() || !self.generation.sampling.is_greedy() {
                let whole = Forgetting::new(KeepSet::all(prompt.n_cached()));
                let reader = full.as_deref_mut().unwrap_or(&mut cache.reader);
                let mut cut = reader.cut(prompt, &whole)?;
                let mut sampler = first.id.sampler();
                answer = Some(reader.answer(prompt, &mut cut, &mut sampler, self.generation.n_predict)?.tokens);
            }
            let Some(answer) = answer.as_deref().filter(|answer| !answer.is_empty()) else { continue };
            if full.is_some() {
                aside.append(&mut of_repeat);
            }
            for group in of_repeat.chunks_mut(at_once) {
                let cuts: Vec<_> = group.iter().map(|job| &job.forgetting).collect();
                let found = cache.reader.fidelity(prompt, answer, &cuts)?;
                group.iter_mut().zip(found).for_each(|(job, fidelity)| job.id.fidelity = Some(fidelity));
            }
            for job in &mut aside {
                let other = match &mut cache.aside {
                    Some(other) => other,
                    none => none.insert(Reader::private(self.model, cache.context.clone())?),
                };
                let mut cut = other.cut(prompt, &job.forgetting)?;
                let reader = full.as_deref_mut().unwrap_or(&mut cache.reader);
                job.id.fidelity = Some(reader.fidelity_aside(prompt, answer, other, &mut cut)?);
            }
        }
        Ok(())
    }

    /// Writes the rows of failed trials, unless the run ends here.
    pub(super) fn fail_all<'t>(&mut self, trials: impl IntoIterator<Item = &'t Trial<'t>>, error: Error) -> Result<()> {
        if matches!(error, Error::Interrupted | Error::Program(_)) {
            return Err(error);
        }
        trials.into_iter().try_for_each(|trial| self.commit(&trial.failed(&error), &[]))
    }

    pub(super) fn finish(&mut self, trial: &Trial, forgetting: &Forgetting, cut: &Cut, answer: Answer) -> Result<()> {
        match trial.rows(forgetting, cut, answer) {
            Ok((row, instructions)) => self.commit(&row, &instructions),
            Err(error) => self.commit(&trial.failed(&error), &[]),
        }
    }

    fn commit(&mut self, row: &TrialRow, instructions: &[InstructionRow]) -> Result<()> {
        self.store.append(row, instructions).inspect_err(|_| self.lost = true)?;
        if let Some((_, left)) = self.unsettled.iter_mut().find(|(example, _)| *example == row.example_id) {
            *left -= 1;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::Grid;
    use crate::exp::Settings;
    use crate::exp::manifest::tests::manifest;
    use crate::llama::{LoadSettings, Sampling};
    use crate::{data, models};

    #[derive(Default)]
    struct Seen(Vec<(String, String)>);

    impl Observer for Seen {
        fn started(&mut self, _: usize, _: usize) {}
        fn trial(&mut self, row: &TrialRow, _: Option<f64>) {
            self.0.push((row.example_id.clone(), row.error.clone()));
        }
    }

    #[test]
    fn a_batch_that_fails_costs_only_the_trials_at_fault() {
        let model = Model::from_bytes("default", models::EMBEDDED_GGUF, &LoadSettings::default(), None).unwrap();
        let example = |id: &str, words: usize| {
            let text = "word ".repeat(words);
            format!(
                "{{\"id\":\"{id}\",\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}],\"instructions\":[{{\"type\":\"punctuation:no_comma\"}}]}}\n"
            )
        };
        let examples = data::parse(&(example("long", 400) + &example("short", 20)), "test").unwrap();
        let conditions = Grid::parse("--policy random --ratio 0.1..0.8:0.1").unwrap().conditions().unwrap();
        let n_conditions = conditions.len();
        let sampling = Sampling { ignore_eos: true, ..Sampling::default() };
        let generation = Generation { n_predict: 64, parallel: 8, sampling, ..manifest().generation };
        let settings = Settings { conditions, repeats: 1, limit: None, shard: None, generation, primary: None };
        let plan = Plan::new(settings, examples, &model, None).unwrap();
        // The context has room for one answer of the short prompt, not for eight, and is too small for the long prompt.
        let context = ContextSettings { n_ctx: 256, n_batch: 512, ..ContextSettings::default() };
        let directory = tempfile::tempdir().unwrap();
        let (mut store, resumed) = Store::open(directory.path(), &manifest(), |_, _| None).unwrap();
        let mut seen = Seen::default();
        let outcome = run(&plan, &model, context, "r", &mut store, resumed, &mut seen).unwrap();
        assert_eq!((outcome.finished, outcome.failed), (n_conditions, n_conditions));
        assert_eq!(seen.0.len(), 2 * n_conditions, "a row each");
        for (example, error) in &seen.0 {
            assert_eq!(error.contains("do not fit"), example == "long", "{example}: {error}");
        }
    }
}
