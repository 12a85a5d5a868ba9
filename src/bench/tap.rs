//! The cost of the tap: how much slower a prompt is read while attention, keys and queries are read from the graph.

use super::{Bench, Goal, Row, median, timed};
use crate::Result;
use crate::engine::Reader;
use crate::evict::{PolicySpec, Subject};
use crate::llama::{Context, ContextSettings, FlashAttn, Token};

/// Beside flash attention off.
const GOAL: Goal = Goal::AtMost(1.35);
/// Beside flash attention on, where the last queries alone are looked at.
const FLASH_GOAL: Goal = Goal::AtMost(1.1);
/// Prompts longer than this are not read without flash attention, which would take minutes.
const LONG: usize = 4096;

/// For each kind of tensor, a policy that needs it, and the tensor's name.
const LOOKS: [(&str, &str); 3] =
    [("knorm", "keys"), ("h2o", "attention"), ("expected-attention", "queries, keys and values")];
/// The same with flash attention.
const FLASH_LOOKS: [(&str, &str); 2] = [("snapkv", "attention of the last queries"), ("knorm", "keys")];

pub(super) fn measure(bench: &Bench) -> Result<(String, Vec<Row>)> {
    let prompt = bench.tokens as usize;
    let mut rows = Vec::new();
    if prompt <= LONG {
        rows.extend(beside(bench, FlashAttn::Off, &LOOKS, GOAL)?);
    }
    rows.extend(beside(bench, FlashAttn::On, &FLASH_LOOKS, FLASH_GOAL)?);
    let note = format!(
        "Reading {prompt} tokens while the tap looks, scoring included, beside the same flash attention without a tap. \
         Ratio: time / time of that."
    );
    Ok((note, rows))
}

/// Reading without a tap, with a tap that is not used, and with each of `looks`.
fn beside(bench: &Bench, flash_attn: FlashAttn, looks: &[(&str, &str)], goal: Goal) -> Result<Vec<Row>> {
    let prompt = bench.tokens as usize;
    let tokens = bench.text(prompt);
    let settings = |tap| ContextSettings { flash_attn, tap, ..bench.context(prompt) };
    let mut plain = Context::new(&bench.model, settings(false))?;
    let mut unused = Context::new(&bench.model, settings(true))?;
    let mut reader = Reader::private(&bench.model, settings(true))?;
    let mut seconds = vec![Vec::new(); 2 + looks.len()];
    for _ in 0..bench.runs {
        seconds[0].push(timed(|| read(&mut plain, &tokens))?.1);
        seconds[1].push(timed(|| read(&mut unused, &tokens))?.1);
        for ((name, _), seconds) in looks.iter().zip(&mut seconds[2..]) {
            let policy: PolicySpec = name.parse()?;
            let score = policy.score().expect("these policies have scores");
            let subject = Subject { tokens: &tokens, ..Subject::default() };
            seconds.push(timed(|| reader.scores(&tokens, 0, &[(score, subject)]))?.1);
        }
    }
    let mut seconds = seconds.into_iter().map(median);
    let base = seconds.next().expect("measured above");
    let flash = if flash_attn == FlashAttn::On { "flash attention on" } else { "flash attention off" };
    let looked = looks.iter().map(|(name, what)| format!("{flash}, {what} looked at ({name})"));
    let row = |(what, seconds): (String, f64)| {
        let rate = |seconds| prompt as f64 / seconds;
        Row::new(&what, rate(seconds), "tokens/s").beside("no tap", rate(base), seconds / base).goal(goal)
    };
    Ok([format!("{flash}, tap unused")].into_iter().chain(looked).zip(seconds).map(row).collect())
}

fn read(context: &mut Context, tokens: &[Token]) -> Result<()> {
    context.clear();
    context.read(0, tokens, 0, false)
}
