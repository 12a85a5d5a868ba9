//! The options of every subcommand that loads a model.

use std::sync::Arc;

use clap::Args;

use crate::data::Example;
use crate::exp::{self, ModelFile};
use crate::llama::{ContextSettings, FlashAttn, LoadSettings, Model, Template, default_threads};
use crate::models::{self, ModelSource};
use crate::{Error, Result};

/// Which model, and how it computes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model and engine")]
pub(super) struct EngineArgs {
    /// A GGUF file, a name from `kvllama models`, or OWNER/REPO:FILE already pulled [default: the embedded model].
    #[arg(long, value_name = "NAME|PATH", global = false)]
    pub model: Option<String>,

    /// A chat template to use instead of the model's own: chatml, gemma, llama3; raw for the text as it is, as a base model
    /// wants it; or a Jinja file.
    #[arg(long, value_name = "NAME|FILE")]
    pub chat_template: Option<String>,

    /// Positions of the context [default: as many as prompt and answer need].
    #[arg(long, value_name = "N")]
    pub ctx: Option<u32>,

    /// Flash attention: on, off or auto.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub flash_attn: FlashAttn,

    /// Keep every position in the cache of sliding-window layers, not only their window. `--positions compact` needs it.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub swa_full: bool,

    /// CPU threads [default: physical cores; 1 for models under 100 M parameters].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,

    /// Layers on the GPU [default: all].
    #[arg(long, value_name = "N")]
    pub gpu_layers: Option<u32>,

    /// Workers (see `kvllama worker`) among which the model is divided. Trust them: the connection is not protected.
    #[arg(long, value_name = "HOST:PORT,..", value_delimiter = ',', hide = cfg!(not(feature = "rpc")))]
    pub workers: Vec<String>,

    /// Tokens read at once.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=16384))]
    pub batch: u32,

    /// Map the model file into memory [default: only where a GPU computes; on a CPU it would hold weights twice].
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    pub mmap: Option<bool>,
}

impl EngineArgs {
    pub fn source(&self) -> Result<ModelSource> {
        models::resolve(self.model.as_deref().unwrap_or(models::EMBEDDED), &models::directory())
    }

    /// The data set that was named, or else the one that suits the model.
    pub fn data<'a>(&self, named: Option<&'a str>) -> &'a str {
        let embedded = self.model.as_deref().is_none_or(|name| name == models::EMBEDDED);
        named.unwrap_or(if embedded { "demo" } else { "multi" })
    }

    /// The example of a data set with this id.
    pub fn example(&self, data: Option<&str>, id: &str) -> Result<Example> {
        let data = self.data(data);
        let (examples, _) = exp::examples_named(data)?;
        let nearest = examples.iter().max_by(|a, b| strsim::jaro(&a.id, id).total_cmp(&strsim::jaro(&b.id, id)));
        let nearest = nearest.map_or_else(String::new, |example| format!(", did you mean `{}`?", example.id));
        let found = examples.iter().find(|example| example.id == id).cloned();
        found.ok_or_else(|| Error::input(format!("the data set {data} has no example `{id}`{nearest}")))
    }

    pub fn load(&self, dry: bool) -> Result<Arc<Model>> {
        self.workers.iter().try_for_each(|endpoint| crate::llama::use_worker(endpoint))?;
        let settings = LoadSettings { gpu_layers: self.gpu_layers, mmap: self.mmap, dry };
        let template = self.chat_template()?;
        let model = self.source()?.load(&settings, template)?;
        let mark = self.chat_template.as_ref().filter(|_| !dry).and_then(|name| model.lacks_mark_of(name));
        if let Some(mark) = mark {
            tracing::warn!(
                "the vocabulary of {} has no {mark}: it reads the template's marks as plain text",
                model.name()
            );
        }
        Ok(model)
    }

    /// The source of the template that replaces the model's own.
    pub fn chat_template(&self) -> Result<Option<String>> {
        let Some(name) = &self.chat_template else { return Ok(None) };
        if let Some(named) = Template::named(name) {
            return Ok(Some(named.source().to_owned()));
        }
        std::fs::read_to_string(name).map(Some).map_err(|error| {
            let names: Vec<_> = Template::names().collect();
            Error::input(format!(
                "cannot read the chat template {name}: {error}; give a Jinja file or one of {}",
                names.join(", ")
            ))
        })
    }

    pub fn context(&self, model: &Model, n_ctx: u32) -> ContextSettings {
        ContextSettings {
            n_ctx: self.ctx.unwrap_or(n_ctx),
            n_batch: self.batch,
            n_seq: 1,
            streams: false,
            threads: self.threads.unwrap_or_else(|| default_threads(model.facts().n_params)),
            flash_attn: self.flash_attn,
            swa_full: self.swa_full,
            ..ContextSettings::default()
        }
    }

    /// The manifest's description of the model file.
    pub fn model_file(&self, model: &Model) -> Result<ModelFile> {
        ModelFile::of(&self.source()?, self.model.as_deref().unwrap_or(models::EMBEDDED), model)
    }
}
