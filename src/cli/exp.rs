//! `kvllama exp`: runs the experiment.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::HumanDuration;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::engine::EngineArgs;
use super::judge::{self, JudgeArgs};
use super::judge_view;
use super::means;
use super::progress::Progress;
use super::prompt_view::preamble_view;
use super::{interrupt, print, print_json};
use crate::condition::{AxisArgs, Grid, Positions};
use crate::data::Example;
use crate::engine::{Forgetting, Pace, Reader};
use crate::evict::KeepSet;
use crate::exp::stop::{self, StopRule, Watch};
use crate::exp::{
    self, Build, ConditionMean, DataFacts, Demands, Dense, Generation, Manifest, Opened, Outcome, Parallel, Plan,
    Primary, Room, Settings, Shard,
};
use crate::judge::stage::Judged;
use crate::llama::{ContextSettings, MemoryUse, Model, Sampling, peak_memory};
use crate::own;
use crate::size::Size;
use crate::{Error, Result};

/// Run the experiment: examples x conditions x repeats, one CSV row per trial.
///
/// The model reads the whole prompt of an example. Under each condition (one value of each option
/// under Eviction, such as random at 0.5), entries of its KV cache are then evicted, the model
/// answers, and each instruction of the example is scored. The full cache (`none`) is added as the
/// baseline. A trial is one example under one condition. Rows are appended to trials.csv and
/// instructions.csv in the run directory as trials finish: watch them, stop with Ctrl-C, and rerun
/// the same command with the same --out to continue.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true, after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    axes: AxisArgs,

    /// Also measure how far predictions move from those of the full cache, on the full cache's own answer: KL
    /// divergence, likelihood, top-1 agreement.
    #[arg(long, help_heading = "Generation")]
    fidelity: bool,

    /// Do not add the full cache (policy `none`), with which all conditions are compared.
    #[arg(long, help_heading = "Eviction")]
    no_baseline: bool,

    /// Examples: a bundled set (demo, multi, recall, recall-completion) or a JSONL file [default: demo for the embedded model, else multi].
    #[arg(long, value_name = "NAME|PATH", help_heading = "Examples and trials")]
    data: Option<String>,

    /// Use only the first N examples.
    #[arg(long, value_name = "N", help_heading = "Examples and trials")]
    limit: Option<usize>,

    /// Run only part I of N of the examples, counted from 1, such as 2/4; `auto` reads Slurm's array variables.
    /// Examples are split by a hash of their id.
    #[arg(long, value_name = "I/N|auto", help_heading = "Examples and trials")]
    shard: Option<Shard>,

    /// Number of trials of each (example, condition), each with its own seed.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Examples and trials")]
    repeats: u32,

    /// End the run as soon as confidence sequences allow it: `width<W` when every difference from the full cache is known
    /// to within W, `decided` when the sign of each is, `decided:M` when each is, or is known to be within +-M of 0.
    /// Looking after every example inflates no error; examples are visited in a seeded, shuffled order.
    #[arg(long, value_name = "RULE", help_heading = "Examples and trials")]
    stop_when: Option<StopRule>,

    /// The one comparison that the study is about, named before its first trial: a policy (`random`: how the score falls
    /// with the fraction evicted), a condition (`random@0.5`: its cost), or two of them (`"snapkv vs random"`,
    /// `"snapkv@0.5 vs random@0.5"`). The report tests it alone at 5%; all else is then exploratory. Once trials exist it
    /// cannot be changed.
    #[arg(long, value_name = "COMPARISON", help_heading = "Examples and trials")]
    primary: Option<Primary>,

    /// Seed of the run: with the example and the repeat it determines every draw.
    #[arg(long, value_name = "S", default_value_t = 1, help_heading = "Examples and trials")]
    seed: u64,

    /// Largest number of tokens of an answer [default: 512; 128 if there are chats; 64 where every rule is one of
    /// RULER's, as in the set `recall`].
    #[arg(long, value_name = "N", help_heading = "Generation")]
    n_predict: Option<usize>,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    judge: JudgeArgs,

    /// The run directory [default: a new one under results/].
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    out: Option<PathBuf>,

    /// Continue the run in --out (which also happens without this option), or else the latest run under results/ with
    /// these settings.
    #[arg(long, conflicts_with = "fresh", help_heading = "Run")]
    resume: bool,

    /// Start over: a run that is already in --out is put aside, not deleted.
    #[arg(long, help_heading = "Run")]
    fresh: bool,

    /// Take options from a TOML file whose keys are the long option names; what is typed wins.
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    pub(super) config: Option<PathBuf>,

    /// Number of conditions that answer side by side, sharing one reading of the prompt. `auto` takes as many as fit
    /// into memory and, as measured at the start, make the run faster, up to 64. 1 is the bit-exact reference; with
    /// more, late tokens of a greedy answer may differ, because the last bits of a result depend on what else is in its
    /// batch.
    #[arg(long, value_name = "N|auto", default_value = "auto", help_heading = "Run")]
    parallel: Parallel,

    /// Copy what a condition keeps into adjacent cells of its own, so that its answer costs as much as what was kept;
    /// `auto` does so beside other conditions, on long prompts of which half or less is kept. It may change late tokens
    /// of a greedy answer, like --parallel.
    #[arg(
        long,
        value_name = "on|off|auto",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        help_heading = "Run"
    )]
    dense: Dense,

    /// Measure speed: the conditions answer one at a time, in turn, and each --repeats times, also where every repeat
    /// gives the same answer. The report then compares tokens per second with the full cache.
    #[arg(long, conflicts_with = "parallel", help_heading = "Run")]
    measure_speed: bool,

    /// Largest amount of memory to take, such as 10GiB; --parallel auto then runs as many conditions side by side as
    /// fit.
    #[arg(long, value_name = "SIZE", help_heading = "Run")]
    memory_limit: Option<Size>,

    /// Print the plan (trials, tokens, memory) and stop.
    #[arg(long, help_heading = "Run")]
    dry_run: bool,

    /// With --dry-run, also load the model and measure for a few seconds how long the run will take.
    #[arg(long, requires = "dry_run", help_heading = "Run")]
    measure: bool,

    /// Print the result as JSON.
    #[arg(long, help_heading = "Run")]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  kvllama exp --policy random --ratio 0.5
  kvllama exp --policy streaming,random --ratio 0.1..0.9:0.2 --repeats 3 --out results/curve
  kvllama exp --model gemma-3-12b-it-q4_0 --policy streaming --keep-first 100 --keep-last 100
  kvllama exp --policy snapkv,h2o,random --ratio 0.25,0.5,0.75 --fidelity
  kvllama exp --policy random --ratio 0.5 --memory kv,text     heard and forgotten, against never heard
  kvllama exp --policy random --ratio 0.9 --stop-when decided  no more examples than it takes
  kvllama exp --policy streaming --ratio 0.5,0.9 --measure-speed --repeats 3  what it gains, beside what it loses
  kvllama exp --policy snapkv,random --ratio 0.25,0.5 --primary \"snapkv vs random\"";

/// How tokens are drawn.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Generation")]
pub(super) struct SamplingArgs {
    /// Temperature; 0 is greedy.
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temp: f32,

    /// Draw from the K most likely tokens; 0 for all.
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: u32,

    /// Draw from the smallest set of tokens of this total probability.
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,

    /// Draw from tokens at least this fraction as likely as the most likely.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f32,

    /// Continue after the model has ended its turn, up to --n-predict tokens.
    #[arg(long)]
    ignore_eos: bool,

    /// End an answer that repeats itself: the same 1 to 32 tokens at least four times, and over at least 48 tokens
    /// (stop_reason `loop`).
    #[arg(long)]
    stop_loops: bool,
}

impl SamplingArgs {
    pub fn sampling(&self) -> Result<Sampling> {
        let sampling = Sampling {
            temperature: self.temp,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            ignore_eos: self.ignore_eos,
            stop_loops: self.stop_loops,
        };
        sampling.check()?;
        Ok(sampling)
    }
}

pub(super) fn execute(args: Args, quiet: bool) -> Result<()> {
    let judging = args.judge.check()?;
    let (examples, data) = args.examples()?;
    let mut settings = args.settings(&examples)?;
    // What is known without the weights is checked first.
    let dry = args.engine.load(true)?;
    dry.template()?;
    settings.conditions = exp::each_layer(settings.conditions, &dry);
    let mut plan = Plan::new(settings, examples, &dry, args.engine.ctx)?;
    if args.stop_when.is_some() {
        stop::compared(&plan)?;
    }
    let demands = Demands::of(&plan.settings.conditions, args.engine.flash_attn)?;
    let context = args.engine.context(&dry, 0);
    let room = Room { dry, demands, context, parallel: args.parallel(), memory_limit: args.memory_limit };
    let memory = room.fit(&mut plan)?;
    if args.dry_run {
        let context = room.context(&plan);
        let n_ctx = context.n_ctx;
        let speed = match args.measure {
            true => Some(Speed::measure(&args.engine.load(false)?, &plan, context)?),
            false => None,
        };
        return dry_run(&args, &plan, &memory, n_ctx, speed);
    }
    let model = args.engine.load(false)?;
    interrupt::install()?;
    let memory = room.measure(&mut plan, &model)?;
    let context = room.context(&plan);
    drop(room);
    let build = Build::this(context.threads);
    let manifest = Manifest::new(args.engine.model_file(&model)?, data, &plan.settings, plan.session(build));
    let directory = args.directory(&manifest)?;
    let Opened { mut store, resumed, prompts } = exp::open(&plan, &model, &context, &manifest, &directory)?;
    let names: Vec<_> = plan.settings.conditions.iter().map(ToString::to_string).collect();
    let mut progress = Progress::new(&directory, &names, quiet, std::io::stderr().is_terminal());
    let on_gpu = Some(memory.device.total()).filter(|&bytes| bytes > 0);
    let on_gpu = on_gpu.map_or_else(String::new, |bytes| format!(", and {} on the GPU", Size(bytes)));
    if let Some(preamble) = model.facts().preamble {
        let added = prompts.iter().filter(|row| preamble.is_in(&row.pieces, &row.spans)).count();
        if added > 0 {
            let of = prompts.len();
            progress.say(&format!("template: {} in {added} of {of} prompts", preamble_view(&preamble)));
        }
    }
    drop(prompts);
    if let Some(once) = run_once(&plan) {
        progress.say(&once);
    }
    let lanes = plan.settings.generation.parallel;
    if args.parallel == Parallel::Auto && lanes > 1 {
        progress.say(&format!(
            "parallel: {lanes} conditions side by side; late greedy tokens may differ from --parallel 1"
        ));
    }
    match plan.dense() {
        Some((cells, conditions)) => tracing::info!(
            "dense lanes of {cells} cells for {conditions} conditions, because they keep little of prompts of up to {} \
             tokens",
            plan.prompt_tokens.iter().max().unwrap_or(&0)
        ),
        None => tracing::info!("no dense lanes (--dense {:?})", args.dense),
    }
    progress.say(&format!("memory: {} predicted{on_gpu}", Size(memory.host.total())));
    let start = Instant::now();
    let (result, stopped) = match args.stop_when {
        None => (exp::run(&plan, &model, context, &manifest.run_id, &mut store, resumed, &mut progress), None),
        Some(rule) => {
            let mut watch = Watch::new(rule, &mut plan, &directory, &resumed, &mut progress)?;
            let result = exp::run(&plan, &model, context, &manifest.run_id, &mut store, resumed, &mut watch);
            let stopped = result.is_ok().then(|| watch.conclude(&directory)).transpose()?;
            (result, stopped)
        }
    };
    progress.finish();
    if let Ok(outcome) = &result {
        let (all, computing) = (start.elapsed().as_secs_f64(), outcome.computing.as_secs_f64());
        progress.say(&format!("time: {all:.1} s, {:.1}% of it in llama.cpp", 100.0 * computing / all.max(computing)));
    }
    if let Some(peak) = peak_memory() {
        progress.say(&format!("memory: {} at its peak, {} predicted", Size(peak), Size(memory.host.total())));
    }
    if let Some(stopped) = stopped {
        progress.say(&stopped);
    }
    if let Err(Error::Interrupted) = result {
        tracing::warn!("stopped; go on with --out {}", directory.display());
    }
    let outcome = result?;
    if !judging {
        return conclude(&args, &directory, &outcome, None);
    }
    drop(store); // the judge takes the lock over
    let judged = args.judge.judge_run(&directory, &args.engine, model, quiet);
    conclude(&args, &directory, &outcome, judged.as_ref().ok())?;
    judge::complete(&judged?)
}

/// Which conditions are run once although repeats were asked for.
fn run_once(plan: &Plan) -> Option<String> {
    let Settings { repeats, conditions, .. } = &plan.settings;
    let once = conditions.iter().filter(|condition| plan.settings.runs_once(condition));
    let once: Vec<String> = once.map(ToString::to_string).collect();
    (*repeats > 1 && !once.is_empty()).then(|| {
        format!(
            "repeats: {} run{} once, not {repeats} times: nothing is drawn there, and the answers would be the same",
            once.join(", "),
            if once.len() == 1 { "s" } else { "" }
        )
    })
}

fn conclude(args: &Args, directory: &Path, outcome: &Outcome, judged: Option<&Judged>) -> Result<()> {
    let means = outcome.means.iter().map(|generated| {
        let judged = judged.and_then(|judged| judged.means.iter().find(|mean| mean.condition == generated.condition));
        judged.unwrap_or(generated).clone()
    });
    let means: Vec<ConditionMean> = means.collect();
    if args.json {
        print_json(&json!({
            "out": directory, "finished": outcome.finished, "failed": outcome.failed,
            "conditions": means, "judge": judged,
        }))?;
    } else {
        let mut text = means::table(&means);
        text.push_str(&judged.map_or_else(String::new, judge_view::outcome_text));
        text.push_str(&format!("rows: {}\n", directory.display()));
        print(&text)?;
    }
    match &outcome.first_failure {
        Some(failure) => Err(Error::failed(format!(
            "{} trials failed (their rows say why; rerun with --out {} to try them again); the first: {failure}",
            outcome.failed,
            directory.display()
        ))),
        None => Ok(()),
    }
}

impl Args {
    /// Number of conditions that answer side by side; one where speed is measured.
    fn parallel(&self) -> Parallel {
        if self.measure_speed { Parallel::Lanes(1) } else { self.parallel }
    }

    fn settings(&self, examples: &[Example]) -> Result<Settings> {
        if self.axes.policy.policy.is_empty() && !self.axes.budget.is_given() {
            return Err(Error::input("say how much to evict: --ratio 0.5, or --keep-first 100 --keep-last 100"));
        }
        if self.n_predict == Some(0) {
            return Err(Error::input("--n-predict is 0; an answer needs at least one token"));
        }
        let grid = Grid { axes: self.axes.clone(), baseline: !self.no_baseline };
        let template = self.engine.chat_template()?;
        let mut conditions = grid.conditions()?;
        own::open(&mut conditions, &self.engine.source()?)?;
        let demands = Demands::of(&conditions, self.engine.flash_attn)?;
        if !self.engine.swa_full && conditions.iter().any(|condition| condition.positions == Positions::Compact) {
            return Err(Error::input(
                "--positions compact moves positions in every layer, and --swa-full is off; leave --swa-full on",
            ));
        }
        Ok(Settings {
            conditions,
            repeats: self.repeats,
            limit: self.limit,
            shard: self.shard,
            generation: Generation {
                seed: self.seed,
                n_predict: self.n_predict.unwrap_or_else(|| exp::default_n_predict(examples)),
                sampling: self.sampling.sampling()?,
                flash_attn: demands.flash_attn,
                swa_full: self.engine.swa_full,
                n_batch: self.engine.batch,
                parallel: 1, // until the plan is fitted to the machine
                dense: self.dense,
                fidelity: self.fidelity,
                measure_speed: self.measure_speed,
                gpu_layers: self.engine.gpu_layers,
                chat_template: self.engine.chat_template.clone(),
                chat_template_sha256: template.map(|text| crate::hex(&Sha256::digest(text))),
            },
            primary: self.primary.clone(),
        })
    }

    fn examples(&self) -> Result<(Vec<Example>, DataFacts)> {
        exp::examples_named(self.engine.data(self.data.as_deref()))
    }

    /// The run directory: the one given, the latest run that matches, or a new one.
    fn directory(&self, manifest: &Manifest) -> Result<PathBuf> {
        let results = Path::new("results");
        if let Some(directory) = &self.out {
            if self.fresh
                && let Some(aside) = exp::put_aside(directory, manifest)?
            {
                tracing::warn!("the earlier run is now in {}", aside.display());
            }
            return Ok(directory.clone());
        }
        if self.resume {
            return exp::latest_match(results, manifest)?.ok_or_else(|| {
                Error::input("no run under results/ has these settings; leave --resume out to start one")
            });
        }
        Ok(exp::new_directory(results, manifest))
    }
}

/// Measured speed in tokens per second.
struct Speed {
    reading: f64,
    generating: f64,
}

impl Speed {
    /// Reads the first prompt, and decodes a few batches as wide as the plan's lanes.
    fn measure(model: &Arc<Model>, plan: &Plan, context: ContextSettings) -> Result<Self> {
        let lanes = plan.settings.generation.parallel;
        let generating = Pace::new(model, context.clone(), lanes)?.tokens_per_second(lanes)?;
        let prompt = exp::prompt_of(model, &plan.examples[0])?;
        let mut reader = Reader::private(model, context)?;
        let start = Instant::now();
        reader.cut(&prompt, &Forgetting::new(KeepSet::all(prompt.n_cached())))?;
        Ok(Speed { reading: prompt.n_cached() as f64 / start.elapsed().as_secs_f64(), generating })
    }

    /// Seconds for a plan in which all answers have full length: reading each prompt once, and generating.
    fn seconds(&self, plan: &Plan) -> f64 {
        let prompts: usize = plan.prompt_tokens.iter().sum();
        let answers = plan.n_trials() as f64 * plan.settings.generation.n_predict as f64;
        prompts as f64 / self.reading + answers / self.generating
    }
}

fn dry_run(args: &Args, plan: &Plan, memory: &MemoryUse, n_ctx: u32, speed: Option<Speed>) -> Result<()> {
    let prompt_tokens: usize = plan.prompt_tokens.iter().sum();
    let conditions: Vec<_> = plan.settings.conditions.iter().map(ToString::to_string).collect();
    let most_generated = plan.n_trials().saturating_mul(plan.settings.generation.n_predict);
    if args.json {
        return print_json(&json!({
            "examples": plan.examples.len(), "conditions": conditions, "repeats": plan.settings.repeats,
            "primary": plan.settings.primary, "trials": plan.n_trials(), "prompt_tokens": prompt_tokens,
            "longest_prompt": plan.prompt_tokens.iter().max(), "max_generated_tokens": most_generated,
            "parallel": plan.settings.generation.parallel, "n_ctx": n_ctx, "memory": memory,
            "max_seconds": speed.map(|speed| speed.seconds(plan)),
        }));
    }
    let mut text = format!(
        "{} examples x {} conditions x {} repeats{}: {} trials\n",
        plan.examples.len(),
        conditions.len(),
        plan.settings.repeats,
        if plan.session(Build::this(1)).once.is_empty() { "" } else { " (once where nothing is drawn)" },
        plan.n_trials()
    );
    text.push_str(&format!("conditions: {}\n", conditions.join(", ")));
    if let Some(primary) = &plan.settings.primary {
        text.push_str(&format!("primary comparison: {primary}\n"));
    }
    text.push_str(&format!(
        "tokens: {prompt_tokens} of prompts (longest {}), each read for {} trials; at most {most_generated} generated\n",
        plan.prompt_tokens.iter().max().unwrap_or(&0),
        plan.n_trials().div_ceil(plan.examples.len())
    ));
    let chats = plan.examples.iter().filter(|example| example.is_chat()).count();
    if chats > 0 {
        text.push_str(&format!("chats: {chats}, each read anew under every condition; every turn is a trial\n"));
    }
    text.push_str(&match speed {
        Some(speed) => format!(
            "time: at most about {}, if every answer has --n-predict tokens (reading {:.0} tokens/s, generating {:.0}); \
             policies with scores read each prompt once more\n",
            HumanDuration(Duration::from_secs_f64(speed.seconds(plan).min(1e9))),
            speed.reading,
            speed.generating
        ),
        None => "time: --measure says how long it will take, after a few seconds of trying\n".to_owned(),
    });
    text.push_str(&super::doctor::memory_text(memory, n_ctx));
    print(&text)
}
