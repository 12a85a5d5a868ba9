//! Many sequences that share one prompt: the speed of generating answers.

use super::{Bench, Goal, Row, jobs, median, timed};
use crate::Result;
use crate::engine::{Lanes, Reader};
use crate::llama::Prompt;

const PROMPT: usize = 512;
const ANSWER: usize = 32;
const LANES: usize = 16;
const GOAL: Goal = Goal::AtLeast(0.95);

pub(super) fn measure(bench: &Bench) -> Result<(String, Vec<Row>)> {
    let prompt = Prompt::from_tokens(&bench.model, bench.text(PROMPT))?;
    let mut reader = Reader::sharing(&bench.model, bench.context(PROMPT + LANES * ANSWER), LANES as u32)?;
    decode_seconds(&mut reader, &prompt)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..bench.runs {
        ours.push((LANES * ANSWER) as f64 / decode_seconds(&mut reader, &prompt)?);
        if let Some(peers) = &bench.peers {
            theirs.push(peers.batched(PROMPT, ANSWER, LANES)?);
        }
    }
    let ours = median(ours);
    let mut row = Row::new(format!("decode, {LANES} x {ANSWER} tokens"), ours, "tokens/s");
    if !theirs.is_empty() {
        let theirs = median(theirs);
        row = row.beside("llama-batched-bench", theirs, ours / theirs).goal(GOAL);
    }
    let note = format!(
        "{LANES} sequences, all reading one prompt of {PROMPT} tokens, each with its own evictions (the peer evicts \
         nothing); all sequences together. Ratio: ours / theirs."
    );
    Ok((note, vec![row]))
}

fn decode_seconds(reader: &mut Reader, prompt: &Prompt) -> Result<f64> {
    let mut lanes = Lanes::new(LANES, ANSWER);
    for job in jobs(LANES, prompt.n_cached())? {
        reader.enter(&mut lanes, prompt, job, |_, _, _| Ok(()))?;
    }
    Ok(timed(|| reader.drain(&mut lanes, |_, _, _| Ok(())))?.1)
}
