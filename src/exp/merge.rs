//! Merges runs into one: shards of a run, or runs of the same model and data with different conditions.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::store::{INSTRUCTIONS, MANIFEST, TRIALS};
use super::table;
use super::{
    Difference, InstructionRow, Key, Manifest, Mixed, Primary, PromptRow, Rows, Store, TrialRow, read_prompts,
    write_prompts,
};
use crate::condition::Condition;
use crate::{Error, Result};

/// The result of a merge.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Merged {
    /// Number of trials in the merged run.
    pub trials: usize,
    /// Number of failed trials among them; the merged run tries them again.
    pub failed: usize,
    /// Number of trials that are in more than one run; the first run's row counts.
    pub repeated: usize,
    /// Number of those whose answers differ.
    pub conflicting: usize,
    /// Number of trials that were planned and are in no run.
    pub missing: usize,
    /// Those of each condition that misses any.
    pub missing_by_condition: Vec<Missing>,
    /// The facts in which the builds and devices of the runs differ.
    pub mixed: Vec<Mixed>,
}

/// The planned trials of a condition that are in no run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Missing {
    /// The condition's name.
    pub condition: String,
    /// How many.
    pub trials: usize,
}

/// One run to be merged.
struct Part {
    directory: PathBuf,
    manifest: Manifest,
    rows: Rows,
    prompts: Vec<PromptRow>,
}

/// Merges runs into `out`. If `out` already holds a run, this run is the first of them, so that repeating a merge
/// changes nothing. With `force`, runs of different models, data or settings are merged too, under the first run's
/// description.
///
/// # Errors
/// If a directory holds no run, if another process writes to one, or if the runs differ in a field that determines
/// results.
pub fn merge(directories: &[PathBuf], out: &Path, force: bool) -> Result<Merged> {
    let known = Store::exists(out).then(|| out.to_owned());
    if known.is_none() && std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::input(format!(
            "{} is not empty and holds no run; give --out a new directory",
            out.display()
        )));
    }
    let mut parts: Vec<Part> = Vec::new();
    for directory in known.iter().chain(directories) {
        // A run is locked while it is read, so the same directory cannot be opened twice.
        if parts.iter().any(|part| same_place(&part.directory, directory)) {
            continue;
        }
        parts.push(Part {
            directory: directory.clone(),
            manifest: Manifest::read(&directory.join(MANIFEST))?,
            rows: Rows::open(directory)?,
            prompts: read_prompts(directory)?.unwrap_or_default(),
        });
    }
    if !force {
        refuse_different(&parts)?;
    }
    let manifest = manifest_of(&parts);
    let conditions = manifest.conditions();
    let mut merged = Merged { mixed: manifest.mixed(), ..Merged::default() };
    let places = places(&parts, &conditions);
    let (mut trials, mut instructions) = (Vec::new(), Vec::new());
    let mut finished: HashMap<Key, usize> = HashMap::new();
    let mut failed: HashMap<Key, TrialRow> = HashMap::new();
    let mut prompts: Vec<PromptRow> = Vec::new();
    let mut with_prompt: HashSet<String> = HashSet::new();
    for part in parts {
        let names = Names::of(&part.manifest);
        let mut taken: HashSet<Key> = HashSet::new();
        for mut row in part.rows.trials.iter().cloned() {
            names.mend(&mut row.condition)?;
            let key = row.key();
            row.run_id.clone_from(&manifest.run_id);
            row.axes = names.condition(&row.condition).cells();
            if !row.error.is_empty() {
                failed.insert(key, row);
            } else if let Some(&earlier) = finished.get(&key) {
                let earlier: &TrialRow = &trials[earlier];
                merged.repeated += 1;
                merged.conflicting += usize::from(earlier.response != row.response);
            } else {
                finished.insert(key.clone(), trials.len());
                taken.insert(key);
                trials.push(row);
            }
        }
        for mut row in part.rows.instructions.iter().cloned() {
            names.mend(&mut row.condition)?;
            if taken.contains(&row.key()) {
                instructions.push(row);
            }
        }
        prompts.extend(part.prompts.into_iter().filter(|row| with_prompt.insert(row.example_id.clone())));
        // The judge's replies cost money, so all are kept; replies with the same key are equal.
        copy_verdicts(&part.directory, out)?;
    }
    failed.retain(|key, _| !finished.contains_key(key));
    merged.failed = failed.len();
    trials.extend(failed.into_values());
    trials.sort_by_cached_key(|row: &TrialRow| place(&places, &row.key()));
    instructions.sort_by_cached_key(|row: &InstructionRow| (place(&places, &row.key()), row.instruction));
    prompts.sort_by_cached_key(|row| places.examples.get(&row.example_id).copied().unwrap_or(usize::MAX));
    merged.trials = trials.len();
    count_missing(&manifest, &finished, &mut merged);
    std::fs::create_dir_all(out).map_err(Error::io("cannot make", out))?;
    // The manifest is written last: without it the directory is not a run, and an interrupted merge is repeated.
    table::rewrite(&out.join(INSTRUCTIONS), &instructions)?;
    table::rewrite(&out.join(TRIALS), &trials)?;
    write_prompts(out, &prompts)?;
    manifest.write(&out.join(MANIFEST))?;
    Ok(merged)
}

fn same_place(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Refuses runs that differ from the first in a field that determines results; the shard may differ here.
fn refuse_different(parts: &[Part]) -> Result<()> {
    let Some((first, others)) = parts.split_first() else {
        return Err(Error::input("name the runs to merge"));
    };
    for other in others {
        let differences = other.manifest.differences(&first.manifest);
        let mut named: Vec<_> = differences
            .into_iter()
            .filter(|different| different.name != "shard")
            .map(|Difference { name, then, now }| format!("{name} is {then} and {now}"))
            .collect();
        let [then, now] = [first, other].map(|part| part.manifest.primary.as_ref());
        if then != now {
            let shown =
                |primary: Option<&Primary>| primary.map_or("none".to_owned(), |primary| format!("\"{primary}\""));
            named.push(format!("the primary comparison is {} and {}", shown(then), shown(now)));
        }
        if !named.is_empty() {
            return Err(Error::input(format!(
                "{} and {} differ: {}; such runs are compared by `kvllama report A B`; --force merges them all the same",
                first.directory.display(),
                other.directory.display(),
                named.join("; ")
            )));
        }
    }
    Ok(())
}

/// The merged description: the first run's fixed part without its shard, and the sessions of all runs.
fn manifest_of(parts: &[Part]) -> Manifest {
    let mut manifest = parts[0].manifest.clone();
    manifest.schema = super::manifest::SCHEMA;
    manifest.shard = None;
    manifest.renamed.clear();
    let sessions = parts.iter().flat_map(|part| {
        part.manifest.sessions.iter().map(|session| {
            let mut session = session.clone();
            if session.examples.is_empty() {
                // Schema 1 did not record the examples; the file of prompts has all planned ones.
                session.examples = part.prompts.iter().map(|row| row.example_id.clone()).collect();
                session.places = (0..session.examples.len()).collect();
            }
            session
        })
    });
    let mut distinct = Vec::new();
    for session in sessions {
        if !distinct.contains(&session) {
            distinct.push(session);
        }
    }
    distinct.sort_by(|a, b| a.started.cmp(&b.started));
    manifest.sessions = distinct;
    manifest.identify();
    manifest
}

/// The conditions of a run, with the names that they have in its files.
struct Names(Vec<(String, Condition)>);

impl Names {
    fn of(manifest: &Manifest) -> Self {
        Names(manifest.conditions())
    }

    /// Replaces a condition's name in an older run by its present name.
    fn mend(&self, name: &mut String) -> Result<()> {
        let Some((_, condition)) = self.0.iter().find(|(known, _)| known == name) else {
            return Err(Error::input(format!(
                "a row names the condition `{name}`, which the manifest of its run lacks; restore the manifest"
            )));
        };
        *name = condition.to_string();
        Ok(())
    }

    fn condition(&self, today: &str) -> &Condition {
        let found = self.0.iter().find(|(_, condition)| condition.to_string() == today);
        found.map(|(_, condition)| condition).expect("mended above")
    }
}

/// The index of each example in the data and of each condition in the manifest: this gives the row order of an
/// unsharded run.
struct Places {
    examples: HashMap<String, usize>,
    conditions: HashMap<String, usize>,
}

fn places(parts: &[Part], conditions: &[(String, Condition)]) -> Places {
    let mut examples = HashMap::new();
    for part in parts {
        for session in &part.manifest.sessions {
            examples.extend(session.examples.iter().cloned().zip(session.places.iter().copied()));
        }
        for (index, row) in part.prompts.iter().enumerate() {
            examples.entry(row.example_id.clone()).or_insert(index);
        }
    }
    let conditions = conditions.iter().enumerate().map(|(index, (name, _))| (name.clone(), index)).collect();
    Places { examples, conditions }
}

fn place(places: &Places, key: &Key) -> (usize, String, usize, u32, u32) {
    let at = |map: &HashMap<String, usize>, name: &str| map.get(name).copied().unwrap_or(usize::MAX);
    let (example, condition) = (at(&places.examples, &key.example), at(&places.conditions, &key.condition));
    (example, key.example.clone(), condition, key.repeat, key.turn)
}

fn count_missing(manifest: &Manifest, finished: &HashMap<Key, usize>, merged: &mut Merged) {
    let mut missing: Vec<Missing> = Vec::new();
    let mut seen: HashSet<Key> = HashSet::new();
    for session in &manifest.sessions {
        for condition in &session.conditions {
            let name = condition.to_string();
            for (index, example) in session.examples.iter().enumerate() {
                let repeats = session.repeats_of(&name, index).into_iter();
                for (repeat, turn) in
                    repeats.flat_map(|repeat| (0..session.turns_of(index)).map(move |turn| (repeat, turn)))
                {
                    let key = Key { example: example.clone(), condition: name.clone(), repeat, turn };
                    if finished.contains_key(&key) || !seen.insert(key) {
                        continue;
                    }
                    match missing.iter_mut().find(|missing| missing.condition == name) {
                        Some(missing) => missing.trials += 1,
                        None => missing.push(Missing { condition: name.clone(), trials: 1 }),
                    }
                }
            }
        }
    }
    merged.missing = missing.iter().map(|missing| missing.trials).sum();
    merged.missing_by_condition = missing;
}

/// Adds the lines of a run's `verdicts.jsonl` that the merged run lacks.
fn copy_verdicts(from: &Path, out: &Path) -> Result<()> {
    const VERDICTS: &str = "verdicts.jsonl";
    let path = from.join(VERDICTS);
    if same_place(from, out) || !path.exists() {
        return Ok(());
    }
    let read = |path: &Path| std::fs::read_to_string(path).map_err(Error::io("cannot read", path));
    let target = out.join(VERDICTS);
    let mut text = if target.exists() { read(&target)? } else { String::new() };
    let known: HashSet<String> = text.lines().map(str::to_owned).collect();
    for line in read(&path)?.lines().filter(|line| !known.contains(*line)) {
        text.push_str(line);
        text.push('\n');
    }
    std::fs::create_dir_all(out).map_err(Error::io("cannot make", out))?;
    crate::files::write_atomically(&target, text.as_bytes())
}
