//! The cost of the tap: how much slower a prompt is read while attention, keys and queries are read from the graph.

use super::{Bench, Goal, Row, median, timed};
use crate::Result;
use crate::engine::Reader;
use crate::evict::{PolicySpec, Score, Subject};
use crate::llama::{Context, ContextSettings, FlashAttn, Token};

const PROMPT: usize = 2048;
const GOAL: Goal = Goal::AtMost(1.35);

/// For each kind of tensor, a policy that needs it, and the tensor's name.
const LOOKS: [(&str, &str); 3] =
    [("knorm", "keys"), ("h2o", "attention"), ("expected-attention", "queries, keys and values")];

pub(super) fn measure(bench: &Bench) -> Result<(String, Vec<Row>)> {
    let tokens = bench.tokens(PROMPT);
    let plain = |flash_attn, tap| {
        let settings = ContextSettings { flash_attn, tap, ..bench.context(PROMPT) };
        let mut context = Context::new(&bench.model, settings)?;
        read(&mut context, &tokens).map(|()| context)
    };
    let mut flash = plain(FlashAttn::On, false)?;
    let mut off = plain(FlashAttn::Off, false)?;
    let mut unused = plain(FlashAttn::Off, true)?;
    let settings = ContextSettings { flash_attn: FlashAttn::Off, tap: true, ..bench.context(PROMPT) };
    let mut reader = Reader::private(&bench.model, settings)?;
    let mut seconds = vec![Vec::new(); 3 + LOOKS.len()];
    for _ in 0..bench.runs {
        for (context, seconds) in [&mut off, &mut flash, &mut unused].into_iter().zip(&mut seconds) {
            seconds.push(timed(|| read(context, &tokens))?.1);
        }
        for ((name, _), seconds) in LOOKS.iter().zip(&mut seconds[3..]) {
            let policy: PolicySpec = name.parse()?;
            seconds.push(timed(|| reader.scores(&tokens, 0, &[(scores(&policy), Subject::default())]))?.1);
        }
    }
    let mut seconds = seconds.into_iter().map(median);
    let base = seconds.next().expect("measured above");
    let labels = ["flash attention on", "flash attention off, tap unused"].map(str::to_owned).into_iter();
    let looks = LOOKS.iter().map(|(name, what)| format!("flash attention off, {what} looked at ({name})"));
    let compared = labels.chain(looks).zip(seconds).enumerate().map(|(index, (what, seconds))| {
        let row =
            Row::new(what, PROMPT as f64 / seconds, "tokens/s").beside("off", PROMPT as f64 / base, seconds / base);
        if index == 0 { row } else { row.goal(GOAL) }
    });
    let note = format!(
        "Reading {PROMPT} tokens while the tap looks, scoring included, beside flash attention off without a tap. \
         Ratio: time / time of that."
    );
    Ok((note, compared.collect()))
}

fn read(context: &mut Context, tokens: &[Token]) -> Result<()> {
    context.clear();
    context.read(0, tokens, 0, false)
}

fn scores(policy: &PolicySpec) -> &dyn Score {
    policy.score().expect("these policies have scores")
}
