//! A complete experiment as one call.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{
    Build, DataFacts, Demands, Manifest, ModelFile, Observer, Outcome, Parallel, Plan, PromptRow, Resumed, Room,
    Settings, Store, default_n_predict, each_layer, prompt_of, rehearse, run, write_prompts,
};
use crate::condition::Grid;
use crate::data::{self, Example, bundled};
use crate::llama::{ContextSettings, LoadSettings, Model, default_threads};
use crate::models::{self, ModelSource};
use crate::own;
use crate::size::Size;
use crate::{Error, Result};

/// A model, examples, and the settings of a run. The crate's front page has an example.
pub struct Experiment {
    /// The model without its weights; [`Experiment::run`] loads it.
    pub dry: Arc<Model>,
    /// Where it is loaded from.
    pub source: ModelSource,
    /// The manifest's description of the model file.
    pub model_file: ModelFile,
    /// The examples.
    pub examples: Vec<Example>,
    /// The manifest's description of the examples.
    pub data: DataFacts,
    /// Conditions, repeats, seed, sampling and so on.
    pub settings: Settings,
    /// How llama.cpp computes; the plan sets the number of sequences, and more positions if it needs them.
    pub context: ContextSettings,
    /// How many conditions answer side by side.
    pub parallel: Parallel,
    /// The most memory to take.
    pub memory_limit: Option<Size>,
}

impl Experiment {
    /// An experiment with the defaults of `kvllama exp`. `model` and `data` are names or paths as for `--model` and
    /// `--data`; `conditions` are the options of the axes, such as `--policy random --ratio 0.5`.
    ///
    /// # Errors
    /// If the model or the data cannot be read, or if a condition is invalid.
    pub fn new(model: &str, data: &str, conditions: &str) -> Result<Self> {
        let source = models::resolve(model, &models::directory())?;
        let dry = source.load(&LoadSettings { dry: true, ..LoadSettings::default() }, None)?;
        let (examples, data) = examples_named(data)?;
        let mut settings = Settings::new(Grid::parse(conditions)?.conditions()?);
        own::open(&mut settings.conditions, &source)?;
        settings.conditions = each_layer(settings.conditions, &dry);
        settings.generation.n_predict = default_n_predict(&examples);
        let threads = default_threads(dry.facts().n_params);
        Ok(Experiment {
            model_file: ModelFile::of(&source, model, &dry)?,
            dry,
            source,
            examples,
            data,
            settings,
            context: ContextSettings { threads, n_ctx: 0, ..ContextSettings::default() },
            parallel: Parallel::Auto,
            memory_limit: None,
        })
    }

    /// Runs the experiment in a run directory, or continues the run that is there.
    ///
    /// # Errors
    /// As [`Plan::new`], [`Room::fit`], [`open`] and [`run()`].
    pub fn run(self, directory: &Path, observer: &mut dyn Observer) -> Result<Outcome> {
        let Experiment { dry, source, model_file, examples, data, settings, context, parallel, memory_limit } = self;
        let mut plan = Plan::new(settings, examples, &dry, None)?;
        let demands = Demands::of(&plan.settings.conditions, context.flash_attn)?;
        let room = Room { dry, demands, context, parallel, memory_limit };
        room.fit(&mut plan)?;
        let load = LoadSettings { gpu_layers: plan.settings.generation.gpu_layers, ..LoadSettings::default() };
        let model = source.load(&load, None)?;
        room.measure(&mut plan, &model)?;
        let context = room.context(&plan);
        let manifest = Manifest::new(model_file, data, &plan.settings, plan.session(Build::this(context.threads)));
        let Opened { mut store, resumed, .. } = open(&plan, &model, &context, &manifest, directory)?;
        run(&plan, &model, context, &manifest.run_id, &mut store, resumed, observer)
    }
}

/// An open run directory.
pub struct Opened {
    /// Appends the rows.
    pub store: Store,
    /// The earlier content of the directory.
    pub resumed: Resumed,
    /// The prompts of the plan.
    pub prompts: Vec<PromptRow>,
}

/// Tries the needs of the conditions on a few tokens, opens the run directory, writes the prompts, and logs which
/// trials of an earlier start are run again.
///
/// # Errors
/// If a condition cannot run on this model, or as [`Store::open`].
pub fn open(
    plan: &Plan,
    model: &Arc<Model>,
    context: &ContextSettings,
    manifest: &Manifest,
    directory: &Path,
) -> Result<Opened> {
    rehearse(&plan.settings.conditions, &prompt_of(model, &plan.examples[0])?, model, context)?;
    let instructions = plan.instructions();
    let (store, resumed) = Store::open(directory, manifest, |example, turn| {
        instructions.get(example).and_then(|turns| turns.get(turn as usize)).copied()
    })?;
    let prompts = plan.prompts(model)?;
    write_prompts(directory, &prompts)?;
    for file in &resumed.torn {
        tracing::warn!("{}: the last line was torn and has been dropped", directory.join(file).display());
    }
    if resumed.incomplete > 0 {
        tracing::warn!("instructions.csv lacks rows of {} trials; they are dropped and run again", resumed.incomplete);
    }
    if resumed.failed > 0 {
        tracing::warn!("{} failed trials of an earlier run will be tried again", resumed.failed);
    }
    Ok(Opened { store, resumed, prompts })
}

/// The examples of a bundled set or of a JSONL file, and the manifest's description of them.
///
/// # Errors
/// If there is no set or file of that name, or if a line is not an example.
pub fn examples_named(name: &str) -> Result<(Vec<Example>, DataFacts)> {
    let text = match bundled::find(name) {
        Some(set) => set.jsonl.to_owned(),
        None => std::fs::read_to_string(name).map_err(|error| {
            let known: Vec<_> = bundled::BUNDLED.iter().map(|set| set.name).collect();
            Error::input(format!(
                "cannot read the examples `{name}`: {error}; give a JSONL file or a bundled set ({})",
                known.join(", ")
            ))
        })?,
    };
    let examples = data::parse(&text, name)?;
    let sha256 = crate::hex(&Sha256::digest(&text));
    let facts = DataFacts { name: name.to_owned(), sha256, n_examples: examples.len() };
    Ok((examples, facts))
}

impl ModelSource {
    /// Loads the model. A `template` replaces its own chat template.
    ///
    /// # Errors
    /// As [`Model::from_file`].
    pub fn load(&self, settings: &LoadSettings, template: Option<String>) -> Result<Arc<Model>> {
        match self {
            ModelSource::Embedded => {
                // A prediction is not worth its time for a model of one megabyte.
                let settings = LoadSettings { dry: false, ..settings.clone() };
                Model::from_bytes(models::EMBEDDED, models::EMBEDDED_GGUF, &settings, template)
            }
            ModelSource::File(path) => Model::from_file(path, settings, template),
        }
    }

    /// Size of the model file in bytes.
    ///
    /// # Errors
    /// If the file does not exist.
    pub fn file_size(&self) -> Result<u64> {
        match self {
            ModelSource::Embedded => Ok(models::EMBEDDED_GGUF.len() as u64),
            ModelSource::File(path) => Ok(std::fs::metadata(path).map_err(Error::io("cannot read", path))?.len()),
        }
    }
}
