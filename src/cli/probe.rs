//! `kvllama probe`: shows one prompt under one eviction, for people and for tests.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::engine::EngineArgs;
use super::exp::SamplingArgs;
use super::{interrupt, print, print_json, prompt_view};
use crate::condition::{AxisArgs, Condition, Grid, Positions};
use crate::engine::{Forced, Forgetting, Reader};
use crate::evict::{HeadKeeps, KeepSet, Layers, Scores, TrialSeed, parse_ranges};
use crate::exp::{self, Demands, Sights, forgetting, read_before, replay_cells, roll};
use crate::llama::{ContextSettings, Model, Prompt, Sampler, Token, Turn};
use crate::own;
use crate::span::{Span, labels};
use crate::{Error, Result};

/// Look at one eviction: one prompt, one policy, what survives, and what the model then says.
///
/// Shows the prompt with its evicted tokens struck out, how much of each span survived, and the
/// answers with the full and with the cut cache side by side. --json, --logits and --continue serve
/// scripts and tests.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true, after_help = EXAMPLES)]
pub(super) struct Args {
    /// The prompt, as one user turn.
    #[arg(long, help_heading = "Prompt", value_name = "TEXT", conflicts_with_all = ["prompt_file", "tokens"])]
    prompt: Option<String>,

    /// A file with the prompt.
    #[arg(long, help_heading = "Prompt", value_name = "FILE", conflicts_with = "tokens")]
    prompt_file: Option<PathBuf>,

    /// The prompt as token ids, taken as they are.
    #[arg(long, help_heading = "Prompt", value_name = "2,17,..", value_delimiter = ',', conflicts_with_all = ["system"])]
    tokens: Option<Vec<Token>>,

    /// A system turn before the prompt.
    #[arg(long, help_heading = "Prompt", value_name = "TEXT", conflicts_with_all = ["raw", "example"])]
    system: Option<String>,

    /// The prompt of the example with this id, as `kvllama exp` reads it; with the options of a condition and the `seed` of
    /// a row it repeats that trial. The report's page shows the command.
    #[arg(long, help_heading = "Prompt", value_name = "ID", conflicts_with_all = ["prompt", "prompt_file", "tokens"])]
    example: Option<String>,

    /// The data set of --example: a bundled set or a JSONL file [default: demo for the embedded model, else multi].
    #[arg(long, help_heading = "Prompt", value_name = "NAME|PATH", requires = "example")]
    data: Option<String>,

    /// Take the prompt as it is: the same as --chat-template raw.
    #[arg(long, help_heading = "Prompt", conflicts_with = "chat_template")]
    raw: bool,

    #[command(flatten)]
    axes: AxisArgs,

    /// Seed of the trial: the `seed` column of trials.csv repeats that row's eviction and draws.
    #[arg(long, help_heading = "Eviction", value_name = "S", default_value_t = 1)]
    seed: u64,

    /// Evict exactly these half-open ranges of positions.
    #[arg(long, help_heading = "Eviction", value_name = "3..9,15..16", conflicts_with_all = EXCLUDED_BY_RANGES)]
    evict: Option<String>,

    /// Copy the survivors into adjacent cells before the answer, as `exp --dense on` does.
    #[arg(long, help_heading = "Eviction", conflicts_with = "rolling")]
    dense: bool,

    /// Tokens to feed after the prompt instead of the model's own (teacher forcing).
    #[arg(long = "continue", value_name = "5,6,..", value_delimiter = ',', help_heading = "Output")]
    forced: Option<Vec<String>>,

    /// Write the logits as float32 .npy of shape [1 + forced tokens, vocabulary]: after the last prompt token, after each forced one.
    #[arg(long, value_name = "OUT.npy", help_heading = "Output")]
    logits: Option<PathBuf>,

    /// Write the policy's scores per layer and head, where it has any.
    #[arg(long, value_name = "OUT.json", help_heading = "Output")]
    scores: Option<PathBuf>,

    /// Print everything as JSON.
    #[arg(long, help_heading = "Output")]
    json: bool,

    /// Largest number of tokens to generate [default: 128; 0 with --logits or --continue].
    #[arg(long, value_name = "N", help_heading = "Generation")]
    n_predict: Option<usize>,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    engine: EngineArgs,
}

/// The id of the prompt, for policies that know examples (`scores:FILE.jsonl`).
const EXAMPLE: &str = "probe";

/// Options that `--evict` excludes, because its ranges already say what is evicted.
const EXCLUDED_BY_RANGES: [&str; 9] =
    ["policy", "ratio", "keep_first", "keep_last", "rolling", "granularity", "aggregate", "fair", "block"];

const EXAMPLES: &str = "\
Examples:
  kvllama probe --prompt 'Tell me about the owl for my old uncle. No commas are allowed.' --ratio 0.5
  kvllama probe --example demo-001 --policy streaming --ratio 0.5
  kvllama probe --prompt-file p.txt --policy streaming --keep-first 4 --keep-last 60 --positions compact
  kvllama probe --tokens 2,105,2364 --evict 1..2 --continue 9,10 --logits out.npy --json";

pub(super) fn execute(mut args: Args) -> Result<()> {
    if args.raw {
        args.engine.chat_template = Some("raw".to_owned());
    }
    let forced = args.forced_tokens()?;
    let n_predict = args.n_predict.unwrap_or(if args.logits.is_some() || args.forced.is_some() { 0 } else { 128 });
    let sampling = args.sampling.sampling()?;
    let condition = args.condition()?;
    let score = condition.score();
    if args.scores.is_some() && score.is_none() {
        return Err(Error::input(format!(
            "the policy {} has no scores to write; --scores is for policies that rank positions",
            condition.policy
        )));
    }
    let demands = Demands::of(std::slice::from_ref(&condition), args.engine.flash_attn)?;
    let model = args.engine.load(false)?;
    model.check_tokens(&forced)?;
    let prompt = args.prompt(&model)?;
    let seed = TrialSeed(args.seed);
    tracing::info!("{}: {}", model.name(), model.facts().description);

    interrupt::install()?;
    let answered = forced.len() + n_predict;
    let needed = match condition.budget.rolling() {
        Some(rolling) => prompt.tokens.len().max(rolling.budget) + 1,
        None => prompt.tokens.len() + answered.max(replay_cells(&condition, &prompt, &model)?),
    };
    let context = args.engine.context(&model, u32::try_from(needed).unwrap_or(u32::MAX));
    if needed > context.n_ctx as usize {
        return Err(Error::input(format!(
            "prompt and answer need {needed} positions, --ctx gives {}; raise it or lower --n-predict",
            context.n_ctx
        )));
    }
    let context =
        ContextSettings { flash_attn: demands.flash_attn, tap: demands.tap, kv_type: condition.kv_type, ..context };
    tracing::info!("a context of {} positions, {} threads", context.n_ctx, context.threads);
    let mut reader = Reader::private(&model, context.clone())?;
    if args.dense {
        // Only compacting needs what lies outside the window.
        let swa_full = one("positions", &args.axes.positions.positions)? == Positions::Compact;
        reader = reader.with_dense(ContextSettings { swa_full, ..context }, answered)?;
    }
    let mut sampler = Sampler::new(&sampling, seed.sampler());
    let (mut full, mut scores) = (None, None);
    let (forgetting, outcome) = if condition.budget.rolling().is_some() {
        let (forgetting, cut, answer) = roll(&condition, &prompt, seed, &mut reader, sampler, n_predict)?;
        (forgetting, Forced { cut, answer, logits: Vec::new() })
    } else {
        let read = &prompt.tokens[..read_before(&condition, &prompt)?];
        tracing::info!("of {} prompt tokens, {} are read before the eviction", prompt.tokens.len(), read.len());
        if score.is_some() {
            tracing::info!("reading them once to score them by {}", condition.policy);
        }
        let mut sights = Sights::of_example(EXAMPLE);
        sights.need(&condition, &prompt)?;
        sights.look(&mut reader, &prompt)?;
        scores = sights.of(&condition, &prompt)?.cloned();
        let forgetting = match &args.evict {
            None => forgetting(&condition, &prompt, seed, &[], &model, scores.as_ref())?,
            Some(ranges) => {
                let keep = KeepSet::without_ranges(prompt.n_cached(), &parse_ranges(ranges)?)?;
                // Without a policy the condition is the full cache, which has no use for these options.
                let axes = &args.axes;
                let positions = one("positions", &axes.positions.positions)?;
                let memory = one("memory", &axes.memory.memory)?;
                let layers = one("layers", &axes.layers.layers)?;
                Forgetting { positions, memory, layers, ..Forgetting::new(keep) }
            }
        };
        if args.dense && forgetting.n_kept() < prompt.n_cached() && !reader.packs(&forgetting) {
            return Err(Error::input(
                "--dense copies positions that survive in all layers and heads; it goes with --granularity token, \
                 --layers all and --memory kv, and with models whose rotation does not depend on the context",
            ));
        }
        let (kept, cached) = (forgetting.n_kept(), prompt.n_cached());
        tracing::info!("{}: {} of {cached} positions are evicted", args.name(&condition), cached - kept);
        // The full cache comes first: it is what the cut answer is compared with.
        if !args.json && n_predict > 0 && kept < cached {
            tracing::info!("answering with the full cache, for comparison");
            let mut sampler = Sampler::new(&sampling, seed.sampler());
            let all = Forgetting::new(KeepSet::all(prompt.n_cached()));
            full = Some(reader.forced(&prompt, &all, &forced, &mut sampler, n_predict)?.answer);
        }
        tracing::info!("answering with the cut cache");
        let outcome = reader.forced(&prompt, &forgetting, &forced, &mut sampler, n_predict)?;
        let cells = outcome.cut.cells_before.zip(outcome.cut.cells_after);
        if let Some((before, after)) = cells {
            tracing::info!("cells used: {} before the eviction, {} after it", before.used, after.used);
        }
        (forgetting, outcome)
    };

    if let Some(path) = &args.logits {
        write_npy(path, &outcome.logits, model.n_vocab())?;
    }
    if let (Some(path), Some(scores)) = (&args.scores, &scores) {
        let bytes = serde_json::to_vec(&score_file(&condition, scores, &model)).expect("plain data");
        crate::files::write_atomically(path, &bytes)?;
    }
    let keep = &forgetting.keep;
    let preamble = model.facts().preamble.filter(|preamble| preamble.is_in(&prompt.pieces, &prompt.spans));
    if args.json {
        return print_json(&json!({
            "n_prompt": prompt.tokens.len(),
            "tokens": prompt.tokens,
            "kept": pairs(&keep.kept()),
            "evicted": pairs(keep.evicted()),
            "n_kept": forgetting.n_kept(),
            "n_evicted": keep.len() - forgetting.n_kept(),
            "kept_by_head": forgetting.heads.as_ref().map(kept_by_head),
            "spans": prompt.spans,
            "survival": survival(&prompt, &forgetting),
            "replay_ms": (!forgetting.replay.is_zero()).then_some(forgetting.replay.as_secs_f64() * 1e3),
            "next_pos": outcome.cut.next_pos,
            "cells_used_before": outcome.cut.cells_before.map(|cells| cells.used),
            "cells_used_after": outcome.cut.cells_after.map(|cells| cells.used),
            "text": outcome.answer.text,
            "tokens_out": outcome.answer.tokens,
            "stop_reason": outcome.answer.stop.as_str(),
            "condition": args.name(&condition),
            "preamble": preamble,
        }));
    }
    let (name, answer) = (args.name(&condition), &outcome.answer);
    print(&prompt_view::render(&prompt, &forgetting, &name, full.as_ref(), answer, n_predict, preamble.as_ref()))
}

impl Args {
    /// `--continue ""` means no forced tokens.
    fn forced_tokens(&self) -> Result<Vec<Token>> {
        let items = self.forced.iter().flatten().map(|item| item.trim()).filter(|item| !item.is_empty());
        items
            .map(|item| item.parse().map_err(|_| Error::input(format!("--continue: `{item}` is not a token id"))))
            .collect()
    }

    fn condition(&self) -> Result<Condition> {
        let mut conditions = Grid { axes: self.axes.clone(), baseline: false }.conditions()?;
        own::open(&mut conditions, &self.engine.source()?)?;
        if conditions.iter().any(|condition| condition.layers == Layers::Each) {
            return Err(Error::input(
                "probe looks at one condition, and --layers each makes one for each layer; name one of them",
            ));
        }
        match <[Condition; 1]>::try_from(conditions) {
            Ok([condition]) => Ok(condition),
            Err(several) => Err(Error::input(format!(
                "probe looks at one condition, and these options make {}; give one value of each",
                several.len()
            ))),
        }
    }

    fn name(&self, condition: &Condition) -> String {
        self.evict.as_ref().map_or_else(|| condition.to_string(), |ranges| format!("evict {ranges}"))
    }

    fn prompt(&self, model: &Model) -> Result<Prompt> {
        if let Some(tokens) = &self.tokens {
            return Prompt::from_tokens(model, tokens.clone());
        }
        if let Some(id) = &self.example {
            return exp::prompt_of(model, &self.engine.example(self.data.as_deref(), id)?);
        }
        let text = match (&self.prompt, &self.prompt_file) {
            (Some(text), _) => text.clone(),
            (None, Some(path)) => std::fs::read_to_string(path)
                .map_err(|error| Error::input(format!("cannot read the prompt {}: {error}", path.display())))?,
            (None, None) => {
                return Err(Error::input(
                    "give a prompt: --prompt TEXT, --prompt-file FILE, --tokens IDS or --example ID",
                ));
            }
        };
        if text.trim().is_empty() {
            return Err(Error::input("the prompt is empty"));
        }
        let turn = |role: &str, content: &str| Turn { role: role.to_owned(), content: content.to_owned() };
        let mut turns: Vec<_> = self.system.iter().map(|text| turn("system", text)).collect();
        turns.push(turn("user", &text));
        Prompt::chat(model, &turns, &[])
    }
}

/// The only value of an option that accepts a list.
fn one<T: Copy>(option: &str, values: &[T]) -> Result<T> {
    match values {
        [only] => Ok(*only),
        _ => Err(Error::input(format!("probe looks at one eviction; give one value of --{option}"))),
    }
}

fn pairs(ranges: &[std::ops::Range<usize>]) -> Vec<[usize; 2]> {
    ranges.iter().map(|range| [range.start, range.end]).collect()
}

/// By layer and KV head: the kept ranges.
fn kept_by_head(heads: &HeadKeeps) -> Value {
    let layers = heads.layers.iter().map(|(layer, keeps)| {
        let keeps: Vec<_> = keeps.iter().map(|keep| pairs(&keep.kept())).collect();
        (layer.to_string(), json!(keeps))
    });
    Value::Object(layers.collect())
}

/// The content of `--scores`: higher is kept, over the positions that were read before the eviction.
fn score_file(condition: &Condition, scores: &Scores, model: &Model) -> Value {
    let forgetful: Vec<_> =
        model.kv_layers().into_iter().filter(|layer| condition.layers.include(layer.index, layer.local)).collect();
    let aggregate = scores.aggregate(condition.aggregate, |index| forgetful.iter().any(|layer| layer.index == index));
    let per_head = scores.layers.iter().map(|(layer, heads)| (layer.to_string(), json!(heads)));
    let mut file = json!({"policy": condition.policy.to_string(), "aggregate": aggregate, "per_head": per_head.collect::<Map<_, _>>()});
    if !scores.second.is_empty() {
        let second = scores.second.iter().map(|(layer, heads)| (layer.to_string(), json!(heads)));
        file["second"] = second.collect::<Map<_, _>>().into();
    }
    file
}

/// By label: the fraction of its tokens that survived.
fn survival(prompt: &Prompt, forgetting: &Forgetting) -> Value {
    let by_label = labels(&prompt.spans).into_iter().map(|label| {
        let spans: Vec<&Span> = prompt.spans.iter().filter(|span| span.label == label).collect();
        let total: usize = spans.iter().map(|span| span.range().len()).sum();
        let kept: f64 = spans.iter().map(|span| forgetting.kept_within(span.range())).sum();
        (label.to_string(), json!(kept / total as f64))
    });
    Value::Object(by_label.collect::<Map<_, _>>())
}

/// Writes rows of `n_vocab` float32 values as `.npy`.
fn write_npy(path: &Path, values: &[f32], n_vocab: usize) -> Result<()> {
    use npyz::WriterBuilder as _;
    let fail = |error| Error::io("cannot write", path)(error);
    let mut bytes = Vec::with_capacity(values.len() * 4 + 128);
    let shape = [(values.len() / n_vocab) as u64, n_vocab as u64];
    let mut writer =
        npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut bytes).begin_nd().map_err(fail)?;
    writer.extend(values.iter().copied()).map_err(fail)?;
    writer.finish().map_err(fail)?;
    crate::files::write_atomically(path, &bytes)
}
