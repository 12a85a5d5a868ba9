//! Turns a condition and a prompt into an eviction: what the engine does to the KV cache.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::sights::{Sights, subject};
use crate::condition::{Condition, Fair, Memory, Positions, Scope};
use crate::data::Example;
use crate::engine::{Forgetting, Reader, check_compacting, replays};
use crate::evict::{
    self, Budget, Granularity, HeadKeeps, KeepSet, Layers, Part, Protect, Quota, Score, Scores, TrialSeed, View,
};
use crate::llama::{ContextSettings, FlashAttn, KvLayer, Model, Prompt};
use crate::span::Label;
use crate::{Error, Result};

/// Longer than any window of last queries that a policy looks at.
const LONG: usize = 1 << 24;

/// What a set of conditions requires of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demands {
    /// Whether the context needs a tap.
    pub tap: bool,
    /// Flash attention; it is off if attention weights are changed, and by default if the weights of all queries are read.
    pub flash_attn: FlashAttn,
}

impl Demands {
    /// The demands of these conditions. `flash_attn` is the setting of the user.
    ///
    /// # Errors
    /// If a condition hides positions from single layers or heads, and the settings rule that out.
    pub fn of(conditions: &[Condition], flash_attn: FlashAttn) -> Result<Self> {
        let tap = conditions.iter().any(|condition| condition.score().is_some() || !condition.frees());
        let quantized = conditions.iter().any(|condition| condition.kv_type.v.is_quantized());
        let Some(condition) = conditions.iter().find(|condition| !condition.frees()) else {
            // A long prompt, so that its last queries are not all of them.
            let whole = |condition: &Condition| {
                let scored = condition.score().is_some_and(|score| score.needs(LONG).whole_attention());
                scored || condition.fair.scores()
            };
            let off = flash_attn == FlashAttn::Auto && !quantized && conditions.iter().any(whole);
            return Ok(Demands { tap, flash_attn: if off { FlashAttn::Off } else { flash_attn } });
        };
        if flash_attn == FlashAttn::On || quantized {
            let cause = if quantized { "quantized values need it" } else { "--flash-attn is on" };
            return Err(Error::input(format!(
                "`{condition}` hides positions from single layers or heads, which needs flash attention off, and {cause}; \
                 leave --flash-attn at auto with --kv-type f16 or q8_0/f16, or choose --granularity token and --layers all"
            )));
        }
        Ok(Demands { tap, flash_attn: FlashAttn::Off })
    }
}

/// How many positions of the prompt are read before the eviction.
///
/// # Errors
/// If the condition's scope names a span that the prompt lacks.
pub fn read_before(condition: &Condition, prompt: &Prompt) -> Result<usize> {
    Ok(match condition.scope {
        Scope::Prompt => prompt.n_cached(),
        _ => candidates(condition.scope, prompt)?.end,
    })
}

/// The largest number of cached positions of a prompt that a condition keeps, in whatever parts of it; `None` if the
/// prompt lacks the condition's scope.
pub(super) fn kept_at_most(condition: &Condition, prompt: &Prompt) -> Option<usize> {
    let cached = prompt.n_cached();
    let scope = candidates(condition.scope, prompt).ok()?.len();
    // The last position of the scope survives in addition to the budget; counts keep what is protected, too.
    match condition.budget {
        Budget::Window { .. } if !condition.protect.is_none() => Some(cached),
        budget => Some(cached - scope + budget.survivors(scope).saturating_add(1).min(scope)),
    }
}

/// The eviction that a condition makes on a prompt. `target` are the positions that a `forget` policy evicts, see
/// [`target`]; other policies ignore them. `scores` are those of its policy, if it has any, over the positions
/// that are [read before](read_before) the eviction.
///
/// # Errors
/// If the condition's scope or target names a span that the prompt lacks, if the model has no such layers, or if the
/// budget cannot be met.
pub fn forgetting(
    condition: &Condition,
    prompt: &Prompt,
    seed: TrialSeed,
    target: &[usize],
    model: &Model,
    scores: Option<&Scores>,
) -> Result<Forgetting> {
    let len = prompt.n_cached();
    let read_before = read_before(condition, prompt)?;
    let layers = forgetful(condition, model)?;
    let all_layers = layers.len() == model.kv_layers().len();
    let is_forgetful = |index| layers.iter().any(|layer| layer.index == index);
    let aggregate = scores.map_or_else(Vec::new, |scores| scores.aggregate(condition.aggregate, is_forgetful));
    let second = scores.map_or_else(Vec::new, |scores| scores.seconds().aggregate(condition.aggregate, is_forgetful));
    let common = |keep| Forgetting {
        keep,
        replay: scores.map_or(Duration::ZERO, |scores| scores.replay),
        heads: None,
        layers: if all_layers || !condition.frees() { Layers::All } else { condition.layers },
        positions: condition.positions,
        memory: condition.memory,
        read_before,
    };
    with_view(condition, prompt, seed, target, |view| {
        let view = View { scores: &aggregate, second: &second, ..view };
        let policy = condition.policy.policy();
        if condition.granularity == Granularity::Token {
            let keep = evict::evict(policy, len, &view)?;
            if condition.frees() {
                return Ok(common(keep));
            }
            let of_layer = |layer: &KvLayer| (layer.index, vec![keep.clone(); layer.heads]);
            let heads = HeadKeeps { layers: layers.iter().map(of_layer).collect() };
            return Ok(Forgetting { heads: Some(heads), ..common(KeepSet::all(len)) });
        }
        let layers: Vec<_> = layers.iter().map(|layer| (layer.index, layer.heads)).collect();
        let heads = HeadKeeps::new(policy, len, &view, condition.granularity, &layers, scores)?;
        Ok(Forgetting { heads: Some(heads), ..common(KeepSet::all(len)) })
    })
}

/// The positions that a `forget` policy evicts for one instruction of an example; `None` if it has none, or if the policy
/// is another.
pub fn target(condition: &Condition, example: &Example, prompt: &Prompt, instruction: usize) -> Option<Vec<usize>> {
    let target = condition.target()?;
    target.positions(&prompt.spans, prompt.n_cached(), instruction, &demanded(example, prompt))
}

/// The tokens of words that a rule demands, such as a password that must be repeated, wherever they are in the prompt.
fn demanded(example: &Example, prompt: &Prompt) -> Vec<Range<usize>> {
    /// A single letter is in many words.
    const SHORTEST: usize = 2;
    fn strings<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::String(text) if text.len() >= SHORTEST => found.push(text),
            Value::Array(values) => values.iter().for_each(|value| strings(value, found)),
            _ => {}
        }
    }
    let mut words = Vec::new();
    let kwargs = example.instructions.iter().flat_map(|instruction| instruction.kwargs.values());
    kwargs.for_each(|value| strings(value, &mut words));
    let text = prompt.pieces.concat();
    let mut ends = Vec::with_capacity(prompt.pieces.len());
    prompt.pieces.iter().fold(0, |start, piece| {
        ends.push(start + piece.len());
        start + piece.len()
    });
    let inside = |at: usize| text.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii());
    let mut ranges = Vec::new();
    for word in words {
        for (start, _) in text.windows(word.len()).enumerate().filter(|(_, window)| *window == word.as_bytes()) {
            let end = start + word.len();
            let cut_before = start > 0 && inside(start - 1) && inside(start);
            let cut_behind = inside(end - 1) && inside(end);
            if !cut_before && !cut_behind {
                let first = ends.partition_point(|&token_end| token_end <= start);
                ranges.push(first..ends.partition_point(|&token_end| token_end < end) + 1);
            }
        }
    }
    ranges
}

/// Checks whether a condition can be met on a prompt, as far as this is known before the prompt is read.
///
/// # Errors
/// As [`forgetting`], or if the policy has no scores of this example.
pub fn check(condition: &Condition, example: &str, prompt: &Prompt, target: &[usize], model: &Model) -> Result<()> {
    let layers = forgetful(condition, model)?;
    if let Some(score) = condition.score() {
        let scored = model.kv_layers().into_iter().filter(|layer| score.scores_layer(layer.index, layer.local));
        let scored: Vec<_> = scored.map(|layer| (layer.index, layer.heads)).collect();
        score.check(&subject(example, prompt, read_before(condition, prompt)?), &scored)?;
    }
    if let Some(rolling) = condition.budget.rolling() {
        check_compacting(rolling.budget, condition.positions, model)?;
    }
    let policy = condition.policy.policy();
    with_view(condition, prompt, TrialSeed(0), target, |view| match condition.budget.rolling() {
        Some(rolling) => {
            let budget = rolling.after_eviction(condition.sinks().unwrap_or(0))?;
            evict::check(policy, prompt.n_cached(), &View { budget, ..view })
        }
        None if condition.granularity == Granularity::Token => evict::check(policy, prompt.n_cached(), &view),
        None => evict::check_layers(policy, prompt.n_cached(), &view, layers.len()),
    })
}

/// The cells that scoring a prompt needs beside the prompt's own: those of a policy's longest replay.
///
/// # Errors
/// If the replay cannot be made.
pub fn replay_cells(condition: &Condition, prompt: &Prompt, model: &Model) -> Result<usize> {
    let Some(chunk) = condition.score().and_then(Score::replay) else { return Ok(0) };
    let read = &prompt.tokens[..read_before(condition, prompt)?];
    Ok(replays(model, read, chunk)?.iter().map(Vec::len).max().unwrap_or(0))
}

/// Tries on a few tokens whether the model provides the tensors that the conditions need, whether single heads can evict,
/// and whether positions can be moved.
///
/// # Errors
/// If a condition cannot run; the message names it.
pub fn rehearse(
    conditions: &[Condition],
    prompt: &Prompt,
    model: &Arc<Model>,
    context: &ContextSettings,
) -> Result<()> {
    /// Few tokens are enough: every tensor of the graph appears with them. The context also holds a replay.
    const TOKENS: usize = 16;
    let taps = |condition: &&Condition| {
        let moves = condition.positions == Positions::Compact && condition.memory == Memory::Kv;
        condition.score().is_some() || !condition.frees() || moves
    };
    let mut tried: Vec<&Condition> = Vec::new();
    for condition in conditions.iter().filter(taps) {
        let same = |other: &&Condition| {
            let parts = |one: &Condition| (one.granularity, one.layers, one.positions, one.kv_type);
            other.policy == condition.policy && parts(other) == parts(condition)
        };
        if !tried.iter().any(same) {
            tried.push(condition);
        }
    }
    if tried.is_empty() {
        return Ok(());
    }
    let tokens = prompt.tokens.iter().copied().take(TOKENS).collect();
    let prompt = Prompt::from_tokens(model, tokens)?;
    let settings = ContextSettings { n_ctx: 16 * TOKENS as u32, streams: false, tap: true, ..context.clone() };
    for condition in tried {
        let shares = condition.policy.policy().coarsest() == Granularity::Head;
        if shares && model.kv_layers().iter().all(|layer| layer.heads == 1) {
            tracing::warn!(
                "`{condition}`: the layers of {} have one KV head each, so there is no budget to share among heads",
                model.name()
            );
        }
        let attempt = || {
            let mut reader =
                Reader::private(model, ContextSettings { kv_type: condition.kv_type, ..settings.clone() })?;
            let mut short = Condition {
                budget: "0.5".parse()?,
                scope: Scope::Prompt,
                protect: Protect::default(),
                ..condition.clone()
            };
            if condition.score().is_some_and(|score| !score.rehearses()) {
                short.policy = "random".parse()?;
            }
            let mut sights = Sights::default();
            sights.need(&short, &prompt)?;
            sights.look(&mut reader, &prompt)?;
            if condition.frees() && condition.positions == Positions::Keep {
                return Ok(());
            }
            let scores = sights.of(&short, &prompt)?;
            let forgetting = forgetting(&short, &prompt, TrialSeed(0), &[0], model, scores)?;
            let mut cut = reader.cut(&prompt, &forgetting)?;
            reader.step(&mut cut, prompt.tokens[prompt.n_cached()]).map(|_| ())
        };
        attempt().map_err(|error: Error| match error {
            Error::Interrupted => Error::Interrupted,
            Error::Program(said) => Error::input(format!("`{condition}`: {said}")),
            error => Error::input(format!("`{condition}` cannot run on this model: {error}")),
        })?;
    }
    Ok(())
}

/// What a policy is asked for that chooses itself; `None` for other policies, or if nothing is evicted.
///
/// # Errors
/// If the budget cannot be met.
pub(super) fn quota_of(condition: &Condition, prompt: &Prompt) -> Result<Option<Quota>> {
    if !condition.score().is_some_and(Score::chooses) {
        return Ok(None);
    }
    let read = read_before(condition, prompt)?;
    let policy = condition.policy.policy();
    with_view(condition, prompt, TrialSeed(0), &[], |view| evict::quota(policy, read, &view))
}

/// The parts of the prompt that have budgets of their own; none without `--fair`.
fn fair_parts(condition: &Condition, candidates: Range<usize>, prompt: &Prompt) -> Vec<Part> {
    let Fair { weights, .. } = &condition.fair;
    if condition.fair.is_on() { evict::parts(candidates, &prompt.spans, weights) } else { Vec::new() }
}

/// The parts of the prompt that are scored each for itself; none without `--fair=scores`.
///
/// # Errors
/// If the prompt lacks the condition's scope.
pub(super) fn scored_parts(condition: &Condition, prompt: &Prompt) -> Result<Vec<Range<usize>>> {
    if !condition.fair.scores() {
        return Ok(Vec::new());
    }
    let parts = fair_parts(condition, candidates(condition.scope, prompt)?, prompt);
    Ok(parts.into_iter().map(|part| part.range).collect())
}

/// Calls `look` with what a policy may see of a prompt, except scores.
fn with_view<T>(
    condition: &Condition,
    prompt: &Prompt,
    seed: TrialSeed,
    target: &[usize],
    look: impl FnOnce(View) -> Result<T>,
) -> Result<T> {
    let candidates = candidates(condition.scope, prompt)?;
    let protected = condition.protect.mask(prompt.n_cached(), &prompt.spans);
    let parts = fair_parts(condition, candidates.clone(), prompt);
    if condition.target().is_some() && target.is_empty() {
        return Err(Error::input(format!(
            "{} forgets the instructions of a data set, and here there are none; use it with `kvllama exp`",
            condition.policy
        )));
    }
    look(View {
        target,
        block: condition.block.0.get(),
        parts: &parts,
        ..View::new(candidates, &protected, condition.budget, seed)
    })
}

/// The conditions with `--layers each` replaced by one for each layer of the model.
pub fn each_layer(conditions: Vec<Condition>, model: &Model) -> Vec<Condition> {
    let layers = model.kv_layers();
    let of_condition = |condition: Condition| match condition.layers {
        Layers::Each => {
            let only = |layer: &KvLayer| Condition { layers: Layers::only(layer.index), ..condition.clone() };
            layers.iter().map(only).collect()
        }
        _ => vec![condition],
    };
    conditions.into_iter().flat_map(of_condition).collect()
}

/// The layers in which a condition evicts.
pub(super) fn forgetful(condition: &Condition, model: &Model) -> Result<Vec<KvLayer>> {
    let included = |layer: &KvLayer| condition.layers.include(layer.index, layer.local);
    let layers: Vec<_> = model.kv_layers().into_iter().filter(included).collect();
    if layers.is_empty() {
        return Err(Error::input(format!(
            "--layers {}: {} has no such layers; leave --layers at all",
            condition.layers,
            model.name()
        )));
    }
    let Some(score) = condition.score() else { return Ok(layers) };
    let unscored: Vec<u32> =
        layers.iter().filter(|layer| !score.scores_layer(layer.index, layer.local)).map(|layer| layer.index).collect();
    if unscored.len() == layers.len() {
        return Err(Error::input(format!(
            "{} scores none of the layers that evict here; leave --layers at all",
            condition.policy
        )));
    }
    if let (Some(first), false) = (unscored.first(), condition.frees()) {
        return Err(Error::input(format!(
            "{} does not score layer {first}, and with --granularity {} each layer ranks by its own scores; name the layers \
             that it scores, such as --layers global",
            condition.policy, condition.granularity
        )));
    }
    Ok(layers)
}

fn candidates(scope: Scope, prompt: &Prompt) -> Result<Range<usize>> {
    let label = match scope {
        Scope::Prompt => return Ok(0..prompt.n_cached()),
        Scope::System => Label::System,
        Scope::Context => Label::Context,
    };
    prompt
        .span(label)
        .map(|span| span.start..span.end.min(prompt.n_cached()))
        .ok_or_else(|| Error::input(format!("--scope {scope}: this prompt has no {label} span to compress")))
}
