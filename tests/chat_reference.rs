//! Chats that a policy with scores cuts again and again, against an independent reference: float64 PyTorch code
//! (`scripts/reference/chats.py`) that ranks what is left in each turn by the papers' definitions, on a tiny Gemma 3.
//! `tests/reference.rs` does the same for cuts that are given.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvllama::condition::{Condition, Positions};
use kvllama::engine::Reader;
use kvllama::evict::{Budget, TrialSeed};
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
        Condition { policy: self.policy.parse().unwrap(), budget: self.budget, positions, ..Condition::default() }
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// What has left the cache after each turn, and the logits in the last one.
fn take(chat: &Chat, model: &Arc<Model>) -> (Vec<Vec<Range<usize>>>, Vec<f32>) {
    let kv_type = "f32".parse().unwrap();
    let settings =
        ContextSettings { n_ctx: 256, kv_type, flash_attn: FlashAttn::Off, tap: true, ..ContextSettings::default() };
    let mut reader = Reader::private(model, settings).unwrap();
    let condition = chat.condition();
    let mut talk = Talk::new(&condition, TrialSeed(1));
    let mut sampler = Sampler::new(&Sampling::default(), 0);
    let mut gone = Vec::new();
    for turn in &chat.turns {
        let text = Prompt::from_tokens(model, turn.tokens.clone()).unwrap();
        let (forgetting, ..) = talk.turn(&text, &mut reader, &mut sampler, 0).unwrap();
        gone.push(forgetting.keep.evicted().to_vec());
    }
    (gone, reader.context().logits(0).unwrap().to_vec())
}

#[test]
fn what_scores_keep_in_later_turns_and_the_logits_then_equal_the_reference() {
    let model = Model::from_file(&fixture("reference/model.gguf"), &LoadSettings::default(), None).unwrap();
    let chats: Vec<Chat> = serde_json::from_slice(&std::fs::read(fixture("chats/chats.json")).unwrap()).unwrap();
    assert_eq!(chats.len(), 24);
    // The error floor of each kind, and its logits with the whole cache: that chat comes first.
    let mut floors: HashMap<&str, (f32, Vec<f32>)> = HashMap::new();
    let mut wrong = Vec::new();
    for chat in &chats {
        let name = format!("{} {}", chat.kind, chat.policy);
        let bytes = std::fs::read(fixture("chats").join(&chat.expected)).unwrap();
        let expected: Vec<f32> = npyz::NpyFile::new(&bytes[..]).unwrap().into_vec().unwrap();
        let (gone, logits) = take(chat, &model);
        let error = difference(&logits, &expected);
        let (floor, whole) = floors.entry(&chat.kind).or_insert_with(|| {
            assert_eq!(chat.policy, "none");
            (error, logits.clone())
        });
        let mut all = vec![false; chat.turns.iter().map(|turn| turn.tokens.len()).sum()];
        for (at, (turn, found)) in chat.turns.iter().zip(&gone).enumerate() {
            turn.evicted.iter().for_each(|&(start, end)| all[start..end].fill(true));
            let mut ours = vec![false; all.len()];
            found.iter().for_each(|range| ours[range.clone()].fill(true));
            if ours != all {
                wrong.push(format!("{name}: other positions are gone after turn {at}"));
                break;
            }
        }
        if chat.policy != "none" {
            let moved = difference(&expected, whole);
            assert!(moved > 1000.0 * *floor, "{name}: the evictions moved the logits by {moved:e} only");
        }
        println!("{name}: {error:e}, {:.1} times the floor", error / *floor);
        if error > 3.0 * *floor {
            wrong.push(format!("{name}: off by {error:e}, {:.1} times the floor", error / *floor));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
