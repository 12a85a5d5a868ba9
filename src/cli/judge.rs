//! `kvllama judge`: a language model scores instructions that no rule can check. `exp` has the same options.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::json;

use super::engine::EngineArgs;
use super::judge_view::{Progress, outcome_text, plan_text};
use super::{interrupt, means, print, print_json};
use crate::api::price::Price;
use crate::api::{Endpoint, Patience, Secret, anthropic};
use crate::judge::stage::{self, Judged, Options};
use crate::judge::{Anthropic, Batch, ClaudeCli, DEFAULT_MODEL, Judge, Local, OpenAi};
use crate::llama::Model;
use crate::{Error, Result};

/// Let a language model score what no rule can check, on a run that is already there.
///
/// Each instruction with a rubric is judged blind: the judge sees the response and the rubric, never the
/// condition. Scores in [0, 1] and reasons land in instructions.csv, means in trials.csv. Every verdict is
/// kept in the run directory: a rerun asks only for what is missing, and nothing is ever asked twice.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvllama judge results/curve --dry-run        what would be asked, and its price: needs no key
  ANTHROPIC_API_KEY=... kvllama judge results/curve --max-cost 2
  kvllama judge results/curve --judge openai --judge-url http://127.0.0.1:8080 --judge-model gemma-3-12b
  kvllama judge results/curve --judge claude-cli --all       also what rules check: do they agree?

Environment: ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL; OPENAI_API_KEY, OPENAI_BASE_URL.")]
pub(super) struct Args {
    /// The run directory.
    #[arg(value_name = "RUN")]
    run: PathBuf,

    #[command(flatten)]
    judge: JudgeArgs,

    /// Print what would be asked and what it would cost, and stop; needs no key.
    #[arg(long)]
    dry_run: bool,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    engine: EngineArgs,
}

/// Who judges, and how.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Judge")]
pub(super) struct JudgeArgs {
    /// Who judges [default: anthropic for `judge`, off for `exp`].
    #[arg(long, value_name = "WHO")]
    judge: Option<Backend>,

    /// The model that judges [default: claude-haiku-4-5-20251001; for `local` that of --model].
    #[arg(long, value_name = "MODEL")]
    judge_model: Option<String>,

    /// Address of the API, instead of the backend's own or the environment's.
    #[arg(long, value_name = "URL")]
    judge_url: Option<String>,

    /// Also judge instructions that have a rule, to see whether the two agree; the score stays the rule's.
    #[arg(long, visible_alias = "all")]
    judge_all: bool,

    /// Number of requests at the same time.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    judge_parallel: u16,

    /// Time limit of one request, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0)]
    judge_timeout: f64,

    /// US dollars per million tokens, input and output, instead of the list price.
    #[arg(long, value_name = "IN,OUT")]
    judge_price: Option<Price>,

    /// Stop before the cost exceeds this many US dollars.
    #[arg(long, value_name = "USD")]
    max_cost: Option<f64>,
}

/// Where verdicts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backend {
    /// Nobody judges.
    Off,
    /// The Messages API, one request a verdict.
    Anthropic,
    /// The Message Batches API: half the price, within a day.
    AnthropicBatch,
    /// The `claude` command: uses a subscription.
    ClaudeCli,
    /// Any OpenAI-compatible endpoint: llama-server, Ollama, vLLM.
    Openai,
    /// A GGUF, through kvllama's own engine.
    Local,
}

pub(super) fn execute(mut args: Args, quiet: bool) -> Result<()> {
    if args.judge.backend(Backend::Anthropic) == Backend::Off {
        return Err(Error::input("--judge off judges nothing; leave it out, or name a backend"));
    }
    interrupt::install()?;
    args.engine.model = args.judge.judge_model.clone().or(args.engine.model);
    let mut judge = args.judge.build(Backend::Anthropic, &args.run, &args.engine, None)?;
    let options = Options { dry_run: args.dry_run, ..args.judge.options()? };
    // The plan is the result of a dry run, which prints it itself.
    let mut progress = Progress::new(quiet || args.dry_run);
    let outcome = stage::run(&args.run, judge.as_mut(), &options, &mut progress);
    progress.finish();
    let outcome = outcome?;
    if args.json {
        let done = (!args.dry_run).then_some(&outcome);
        let conditions = &outcome.means;
        print_json(&json!({"plan": progress.plan, "outcome": done, "conditions": conditions}))?;
    } else if args.dry_run {
        print(&progress.plan.as_ref().map_or_else(String::new, |plan| plan_text(plan) + "\n"))?;
    } else {
        print(&(means::table(&outcome.means) + &outcome_text(&outcome)))?;
    }
    if args.dry_run { Ok(()) } else { complete(&outcome) }
}

impl JudgeArgs {
    fn backend(&self, default: Backend) -> Backend {
        self.judge.unwrap_or(default)
    }

    /// Whether `exp` is to judge. Errors that can be found without a model are found here, before hours of work.
    pub fn check(&self) -> Result<bool> {
        self.options()?;
        match self.backend(Backend::Off) {
            Backend::Off => Ok(false),
            Backend::Local => Ok(true),
            backend => self.remote(backend, Path::new(""))?.ready().map(|()| true),
        }
    }

    /// Judges, within `exp`, a run that `model` has just generated.
    pub fn judge_run(&self, directory: &Path, engine: &EngineArgs, model: Arc<Model>, quiet: bool) -> Result<Judged> {
        let mut judge = self.build(Backend::Off, directory, engine, Some(model))?;
        let mut progress = Progress::new(quiet);
        let outcome = stage::run(directory, judge.as_mut(), &self.options()?, &mut progress);
        progress.finish();
        outcome
    }

    fn options(&self) -> Result<Options> {
        if !(self.judge_timeout.is_finite() && self.judge_timeout > 0.0) {
            return Err(Error::input(format!("--judge-timeout is {}; it must be positive", self.judge_timeout)));
        }
        if self.max_cost.is_some_and(|max_cost| !max_cost.is_finite() || max_cost < 0.0) {
            return Err(Error::input("--max-cost must be an amount of US dollars"));
        }
        Ok(Options { all: self.judge_all, max_cost: self.max_cost, dry_run: false })
    }

    /// `loaded` is the model that `local` uses unless another one is named.
    fn build(
        &self,
        default: Backend,
        directory: &Path,
        engine: &EngineArgs,
        loaded: Option<Arc<Model>>,
    ) -> Result<Box<dyn Judge>> {
        let backend = self.backend(default);
        if backend != Backend::Local {
            return self.remote(backend, directory);
        }
        let engine = EngineArgs { model: self.judge_model.clone().or(engine.model.clone()), ..engine.clone() };
        let model = match loaded.filter(|_| self.judge_model.is_none()) {
            Some(model) => model,
            None => engine.load(false)?,
        };
        let settings = engine.context(&model, 2048.min(model.n_ctx_train()));
        Ok(Box::new(Local::new(&model, settings, engine.model_file(&model)?.sha256)?))
    }

    fn remote(&self, backend: Backend, directory: &Path) -> Result<Box<dyn Judge>> {
        let model = self.judge_model.as_deref().unwrap_or(DEFAULT_MODEL);
        let patience =
            Patience { timeout: Duration::from_secs_f64(self.judge_timeout.min(86_400.0)), ..Patience::default() };
        let parallel = usize::from(self.judge_parallel);
        let endpoint = |key: &str, url: &str, default: &str| -> Result<Endpoint> {
            let url = match &self.judge_url {
                Some(url) => url.clone(),
                None => variable(url)?.unwrap_or_else(|| default.to_owned()),
            };
            Ok(Endpoint { url, key: variable(key)?.as_deref().and_then(Secret::new), patience, parallel })
        };
        let claude = || endpoint("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", anthropic::URL);
        Ok(match backend {
            Backend::Anthropic => Box::new(Anthropic::new(&claude()?, model, self.judge_price)?),
            Backend::AnthropicBatch => {
                Box::new(Batch::new(&claude()?, model, self.judge_price, directory, Batch::POLL)?)
            }
            Backend::ClaudeCli => Box::new(ClaudeCli::new("claude".into(), model, patience, parallel)),
            Backend::Openai => {
                let endpoint = endpoint("OPENAI_API_KEY", "OPENAI_BASE_URL", OpenAi::URL)?;
                let model = self.judge_model.as_deref().unwrap_or("default");
                Box::new(OpenAi::new(&endpoint, model, self.judge_price)?)
            }
            Backend::Off | Backend::Local => unreachable!("dealt with by the callers"),
        })
    }
}

/// An environment variable; `None` if it is empty or not set.
pub(super) fn variable(name: &str) -> Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value.trim().to_owned()).filter(|value| !value.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Error::input(format!("{name} is not UTF-8"))),
    }
}

/// Returns an error if instructions stayed unjudged, unless the user's cost limit stopped the judging.
pub(super) fn complete(outcome: &Judged) -> Result<()> {
    match &outcome.first_failure {
        Some(reason) if !outcome.out_of_budget => Err(Error::failed(format!(
            "{} instructions are unjudged (their rows say why; `kvllama judge` tries them again); the first: {reason}",
            outcome.unjudged
        ))),
        _ => Ok(()),
    }
}
