//! One sequence: the speed of reading a prompt and of generating an answer.

use super::{Bench, Goal, Row, greedy, median, timed};
use crate::Result;
use crate::llama::{Context, Token};

const PROMPT: usize = 512;
const ANSWER: usize = 64;
const GOAL: Goal = Goal::AtLeast(0.97);

pub(super) fn measure(bench: &Bench) -> Result<(String, Vec<Row>)> {
    let mut context = Context::new(&bench.model, bench.context(PROMPT))?;
    let tokens = bench.text(PROMPT);
    read(&mut context, &tokens)?;
    let [mut prefill, mut decode, mut peer_prefill, mut peer_decode] = [(); 4].map(|()| Vec::new());
    for _ in 0..bench.runs {
        prefill.push(PROMPT as f64 / timed(|| read(&mut context, &tokens))?.1);
        decode.push(ANSWER as f64 / timed(|| generate(&mut context, tokens[0]))?.1);
        if let Some(peers) = &bench.peers {
            let (read, generated) = peers.single(PROMPT, ANSWER)?;
            peer_prefill.push(read);
            peer_decode.push(generated);
        }
    }
    let row = |what: String, ours: Vec<f64>, theirs: Vec<f64>| {
        let ours = median(ours);
        let row = Row::new(what, ours, "tokens/s");
        if theirs.is_empty() {
            return row;
        }
        let theirs = median(theirs);
        row.beside("llama-bench", theirs, ours / theirs).goal(GOAL)
    };
    let rows = vec![
        row(format!("prefill, {PROMPT} tokens"), prefill, peer_prefill),
        row(format!("decode, {ANSWER} tokens"), decode, peer_decode),
    ];
    Ok(("One sequence. Ours includes choosing the next token. Ratio: ours / theirs.".to_owned(), rows))
}

fn read(context: &mut Context, tokens: &[Token]) -> Result<()> {
    context.clear();
    context.read(0, tokens, 0, true)
}

/// Generates from an empty cache, as llama-bench does.
fn generate(context: &mut Context, first: Token) -> Result<()> {
    context.clear();
    let (mut sampler, mut token) = (greedy(), first);
    for at in 0..ANSWER {
        context.read(0, &[token], at, true)?;
        token = sampler.next(context.logits(0)?)?;
    }
    Ok(())
}
