//! Chats that a policy with scores cuts again and again, against an independent reference: float64 PyTorch code
//! (`scripts/reference/chats.py`) that ranks what is left in each turn by the papers' definitions, on a tiny Gemma 3.
//! `tests/reference.rs` does the same for cuts that are given.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvllama::condition::{Condition, Positions};
use kvllama::engine::Reader;
use kvllama::evict::{Budget, Granularity, Layers, TrialSeed};
use kvllama::exp::Talk;
use kvllama::llama::{ContextSettings, FlashAttn, LoadSettings, Model, Prompt, Sampler, Sampling};
use serde::Deserialize;

/// One line of `chats.json`. No answer is generated: what a turn reads begins with the last answer.
#[derive(Deserialize)]
struct Chat {
    kind: String,
    policy: String,
    budget: Budget,
    positions: String,
    #[serde(default)]
    granularity: Option<String>,
    #[serde(default)]
    layers: Option<String>,
    turns: Vec<Turn>,
    expected: String,
}

#[derive(Deserialize)]
struct Turn {
    tokens: Vec<i32>,
    /// What leaves the cache in this turn, of all tokens that were read so far.
    evicted: Vec<(usize, usize)>,
}

impl Chat {
    fn condition(&self) -> Condition {
        if self.policy == "none" {
            return Condition::default();
        }
        let positions = if self.positions == "keep" { Positions::Keep } else { Positions::Compact };
        let granularity = match self.granularity.as_deref() {
            Some("head") => Granularity::Head,
            Some("layer") => Granularity::Layer,
            _ => Granularity::Token,
        };
        let layers = self.layers.as_deref().map_or(Layers::All, |layers| layers.parse().unwrap());
        let policy = self.policy.parse().unwrap();
        Condition { policy, budget: self.budget, positions, granularity, layers, ..Condition::default() }
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// What has left the cache of a chat after each turn, and the logits in the last one.
struct Taken {
    gone: Vec<Vec<Range<usize>>>,
    logits: Vec<f32>,
}

/// Takes the turns of chats of one kind, side by side.
fn take(chats: &[&Chat], model: &Arc<Model>) -> Vec<Taken> {
    let (n_ctx, kv_type) = (256 * chats.len() as u32, "f32".parse().unwrap());
    let settings =
        ContextSettings { n_ctx, kv_type, flash_attn: FlashAttn::Off, tap: true, ..ContextSettings::default() };
    let mut reader = Reader::sharing(model, settings, chats.len() as u32).unwrap();
    let conditions: Vec<_> = chats.iter().map(|chat| chat.condition()).collect();
    let sampler = || Sampler::new(&Sampling::default(), 0);
    let talk = |(seq, condition)| Talk::new(condition, TrialSeed(1), sampler(), seq);
    let mut talks: Vec<_> = (0..).zip(&conditions).map(talk).collect();
    let mut gone = vec![Vec::new(); chats.len()];
    for turn in &chats[0].turns {
        let text = Prompt::from_tokens(model, turn.tokens.clone()).unwrap();
        let speakers: Result<Vec<_>, _> = talks.iter_mut().map(|talk| talk.speaker(&text, None, model)).collect();
        let turns = reader.turns(&mut speakers.unwrap(), 0).unwrap();
        for ((talk, gone), turn) in talks.iter_mut().zip(&mut gone).zip(turns) {
            gone.push(talk.spoke(turn).0.keep.evicted().to_vec());
        }
    }
    let taken = |(row, gone)| Taken { gone, logits: reader.context().logits(row).unwrap().to_vec() };
    gone.into_iter().enumerate().map(taken).collect()
}

#[test]
fn what_scores_keep_in_later_turns_and_the_logits_then_equal_the_reference() {
    let model = Model::from_file(&fixture("reference/model.gguf"), &LoadSettings::default(), None).unwrap();
    let chats: Vec<Chat> = serde_json::from_slice(&std::fs::read(fixture("chats/chats.json")).unwrap()).unwrap();
    assert_eq!(chats.len(), 29);
    let mut wrong = Vec::new();
    // The chats of a kind say the same words; the first one keeps everything.
    for kind in chats.chunk_by(|a, b| a.kind == b.kind) {
        let kind: Vec<_> = kind.iter().collect();
        let alone = kind.iter().flat_map(|chat| take(&[chat], &model));
        for (how, taken) in [("alone", alone.collect()), ("side by side", take(&kind, &model))] {
            compare(&kind, &taken, how, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Compares chats of a kind, of which the first one keeps everything, with what the reference says.
fn compare(chats: &[&Chat], taken: &[Taken], how: &str, wrong: &mut Vec<String>) {
    let mut floor = 0.0;
    for (chat, Taken { gone, logits }) in chats.iter().zip(taken) {
        let name = format!("{} {} {how}", chat.kind, chat.policy);
        let bytes = std::fs::read(fixture("chats").join(&chat.expected)).unwrap();
        let expected: Vec<f32> = npyz::NpyFile::new(&bytes[..]).unwrap().into_vec().unwrap();
        let error = difference(logits, &expected);
        if chat.policy == "none" {
            floor = error;
        } else {
            let moved = difference(&expected, &taken[0].logits);
            assert!(moved > 1000.0 * floor, "{name}: the evictions moved the logits by {moved:e} only");
        }
        let mut all = vec![false; chat.turns.iter().map(|turn| turn.tokens.len()).sum()];
        for (at, (turn, found)) in chat.turns.iter().zip(gone).enumerate() {
            turn.evicted.iter().for_each(|&(start, end)| all[start..end].fill(true));
            let mut ours = vec![false; all.len()];
            found.iter().for_each(|range| ours[range.clone()].fill(true));
            if ours != all {
                wrong.push(format!("{name}: other positions are gone after turn {at}"));
                break;
            }
        }
        println!("{name}: {error:e}, {:.1} times the floor", error / floor);
        if error > 3.0 * floor {
            wrong.push(format!("{name}: off by {error:e}, {:.1} times the floor", error / floor));
        }
    }
}
