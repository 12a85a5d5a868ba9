//! A grid of conditions on one prompt, compared with as many separate runs; and whether answers side by side are the
//! same as answers one by one.

use super::{Bench, Goal, Row, jobs, median, timed};
use crate::Result;
use crate::engine::{Lanes, Reader};
use crate::llama::{Context, ContextSettings, Prompt, Slot, Token};

const PROMPT: usize = 512;
const ANSWER: usize = 32;
/// Number of conditions, and the required ratio of the separate runs' time to ours.
const GRIDS: [(usize, f64); 2] = [(16, 10.0), (64, 14.0)];
/// Number of separate runs made; for more conditions their time is multiplied.
const SEPARATE: usize = 16;
/// kvpress is measured in the type that suits the machine, and in the type of the published weights.
const DTYPES: [&str; 2] = ["float32", "bfloat16"];
const KVPRESS_GOAL: Goal = Goal::AtLeast(20.0);

pub(super) fn measure(bench: &Bench) -> Result<(String, Vec<Row>)> {
    let prompt = Prompt::from_tokens(&bench.model, bench.text(PROMPT))?;
    let mut ours = GRIDS.map(|_| Vec::new());
    let mut separate = Vec::new();
    let mut kvpress = DTYPES.map(|_| Vec::new());
    for run in 0..bench.runs {
        for ((conditions, _), seconds) in GRIDS.iter().zip(&mut ours) {
            seconds.push(bench.load.as_secs_f64() + grid_seconds(bench, &prompt, *conditions)?);
        }
        if let Some(peers) = &bench.peers {
            // The separate runs are spread over ours.
            let (from, to) = (SEPARATE * run / bench.runs, SEPARATE * (run + 1) / bench.runs);
            for _ in from..to {
                separate.push(peers.completion(&bench.model.text(&prompt.tokens), ANSWER)?);
            }
            for (dtype, seconds) in DTYPES.iter().zip(&mut kvpress) {
                seconds.extend(peers.kvpress(PROMPT, ANSWER, dtype)?);
            }
        }
    }
    let mut rows = Vec::new();
    for ((conditions, goal), seconds) in GRIDS.into_iter().zip(ours) {
        let seconds = median(seconds);
        let row = |what: &str, one: f64, goal| {
            let theirs = one * conditions as f64;
            Row::new(format!("{conditions} conditions"), seconds, "s")
                .beside(format!("{conditions} x {what}"), theirs, theirs / seconds)
                .goal(goal)
        };
        if separate.is_empty() {
            rows.push(Row::new(format!("{conditions} conditions"), seconds, "s"));
            continue;
        }
        let one = separate.iter().sum::<f64>() / separate.len() as f64;
        rows.push(row("llama-completion", one, Goal::AtLeast(goal)));
        for (dtype, seconds) in DTYPES.iter().zip(&kvpress).filter(|(_, seconds)| !seconds.is_empty()) {
            rows.push(row(&format!("kvpress in {dtype}"), median(seconds.clone()), KVPRESS_GOAL));
        }
    }
    rows.extend(equality(bench, &prompt)?);
    let note = format!(
        "Conditions of one prompt of {PROMPT} tokens, {ANSWER} new tokens each, against one llama-completion process a \
         condition. Both sides load the model: ours once, a process each time. {SEPARATE} processes were run; the \
         time of more is theirs multiplied. Where there is kvpress: conditions one after the other in transformers, \
         loading not counted. Ratio: theirs / ours. Below: what answering side by side changes, against --parallel 1."
    );
    Ok((note, rows))
}

/// Seconds to make the context, read the prompt once, and answer under every condition.
fn grid_seconds(bench: &Bench, prompt: &Prompt, conditions: usize) -> Result<f64> {
    let work = || answers(bench, prompt, conditions, conditions);
    Ok(timed(work)?.1)
}

/// The answers of all conditions, `at_once` of them side by side.
fn answers(bench: &Bench, prompt: &Prompt, conditions: usize, at_once: usize) -> Result<Vec<Vec<Token>>> {
    let settings = bench.context(PROMPT + at_once * ANSWER);
    let mut reader = Reader::sharing(&bench.model, settings, at_once as u32)?;
    let mut lanes = Lanes::new(at_once, ANSWER);
    let mut answers = vec![Vec::new(); conditions];
    for job in jobs(conditions, prompt.n_cached())? {
        reader.enter(&mut lanes, prompt, job, |job, _, answer| {
            answers[job.id] = answer.tokens;
            Ok(())
        })?;
    }
    reader.drain(&mut lanes, |job, _, answer| {
        answers[job.id] = answer.tokens;
        Ok(())
    })?;
    Ok(answers)
}

fn equality(bench: &Bench, prompt: &Prompt) -> Result<[Row; 2]> {
    let (conditions, _) = GRIDS[0];
    let together = answers(bench, prompt, conditions, conditions)?;
    let alone = answers(bench, prompt, conditions, 1)?;
    let identical = together.iter().zip(&alone).filter(|(together, alone)| together == alone).count();

    let (together, alone) = (first_logits(bench, prompt, conditions)?, first_logits(bench, prompt, 1)?);
    let differences = together.iter().zip(&alone).map(|(one, other)| (one - other).abs());
    let difference = f64::from(differences.fold(0.0, f32::max));
    let range = alone.iter().copied().fold(f32::MIN, f32::max) - alone.iter().copied().fold(f32::MAX, f32::min);
    Ok([
        Row::new("identical greedy answers", 100.0 * identical as f64 / conditions as f64, "%"),
        Row::new(format!("largest difference of first logits (their range is {range:.1})"), difference, ""),
    ])
}

/// The first logits of every condition of the smallest grid, concatenated, decoded `at_once` side by side.
fn first_logits(bench: &Bench, prompt: &Prompt, at_once: usize) -> Result<Vec<f32>> {
    let settings = ContextSettings { n_seq: 1 + at_once as u32, ..bench.context(PROMPT + at_once) };
    let mut context = Context::new(&bench.model, settings)?;
    let n_cached = prompt.n_cached();
    context.read(0, &prompt.tokens[..n_cached], 0, false)?;
    let mut found = Vec::new();
    for group in jobs(GRIDS[0].0, n_cached)?.chunks(at_once) {
        let mut slots = Vec::new();
        for (seq, job) in (1..).zip(group) {
            context.fork(0, seq)?;
            context.evict(seq, job.forgetting.keep.evicted(), job.forgetting.layers)?;
            slots.push(Slot { token: prompt.tokens[n_cached], pos: n_cached as i32, seq, logits: true });
        }
        context.decode(&slots)?;
        for row in 0..group.len() {
            found.extend_from_slice(context.logits(row)?);
        }
    }
    Ok(found)
}
