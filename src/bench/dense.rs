//! A long prompt of which little is kept: the speed of answers in dense lanes, in the shared cache, and after a prompt
//! that is only as long as what is kept.

use super::{Bench, Goal, Row, greedy, keep_set, median, timed};
use crate::Result;
use crate::engine::{Forgetting, Job, Lanes, Reader};
use crate::evict::KeepSet;
use crate::llama::{ContextSettings, Prompt};

const PROMPT: usize = 7_680;
const ANSWER: usize = 256;
const LANES: usize = 8;
const RATIO: &str = "0.9";
const BESIDE_SHARED: Goal = Goal::AtLeast(2.5);
const BESIDE_SHORT: Goal = Goal::AtLeast(0.85);

pub(super) fn measure(bench: &Bench) -> Result<(String, Vec<Row>)> {
    // A model that was trained for less reads less.
    let n_prompt = PROMPT.min(bench.model.n_ctx_train() as usize - ANSWER);
    let prompt = Prompt::from_tokens(&bench.model, bench.text(n_prompt))?;
    let cut = |policy| keep_set(policy, RATIO, prompt.n_cached());
    let n_kept = cut("random")?.n_kept();
    let mut shared = Reader::sharing(&bench.model, bench.context(n_prompt + LANES * ANSWER), LANES as u32)?;
    let settings = ContextSettings { swa_full: false, ..bench.context(n_kept + ANSWER) };
    let mut dense =
        Reader::sharing(&bench.model, bench.context(n_prompt), LANES as u32)?.with_dense(settings, ANSWER)?;
    let short = Prompt::from_tokens(&bench.model, bench.text(n_kept + 1))?;
    let mut brief = Reader::sharing(&bench.model, bench.context(short.tokens.len() + ANSWER), 1)?;
    let whole = || Ok(KeepSet::all(short.n_cached()));

    // Prompts are read before anything is timed.
    decode(&mut shared, &prompt, 1, &cut("random")?, 1)?;
    decode(&mut dense, &prompt, 1, &cut("random")?, 1)?;
    let mut times: [Vec<f64>; 5] = Default::default();
    for _ in 0..bench.runs {
        times[0].push(decode(&mut dense, &prompt, LANES, &cut("random")?, ANSWER)?);
        times[1].push(decode(&mut shared, &prompt, LANES, &cut("random")?, ANSWER)?);
        times[2].push(decode(&mut dense, &prompt, 1, &cut("random")?, ANSWER)?);
        times[3].push(decode(&mut dense, &prompt, 1, &cut("streaming")?, ANSWER)?);
        times[4].push(decode(&mut brief, &short, 1, &whole()?, ANSWER)?);
    }
    let [all, all_shared, random, streaming, alone] = times.map(median);
    let row = |what: String, lanes: usize, ours: f64, (peer, theirs): (&str, f64), goal| {
        let speed = |seconds: f64| (lanes * ANSWER) as f64 / seconds;
        Row::new(what, speed(ours), "tokens/s").beside(peer, speed(theirs), theirs / ours).goal(goal)
    };
    let of_kept = format!("a prompt of {} tokens", short.tokens.len());
    let rows = vec![
        row(format!("{LANES} x random@{RATIO}"), LANES, all, ("shared cells", all_shared), BESIDE_SHARED),
        row(format!("random@{RATIO}"), 1, random, (&of_kept, alone), BESIDE_SHORT),
        row(format!("streaming@{RATIO}"), 1, streaming, (&of_kept, alone), BESIDE_SHORT),
    ];
    let note = format!(
        "Answers of {ANSWER} tokens after a prompt of {n_prompt} of which {n_kept} are kept, in dense lanes. Ratio: ours / theirs."
    );
    Ok((note, rows))
}

/// Seconds for `lanes` answers side by side, from copying the survivors to the last token.
fn decode(reader: &mut Reader, prompt: &Prompt, lanes: usize, keep: &KeepSet, answer: usize) -> Result<f64> {
    let mut at_work = Lanes::new(lanes, answer);
    let (_, seconds) = timed(|| {
        for id in 0..lanes {
            let job = Job { id, forgetting: Forgetting::new(keep.clone()), sampler: greedy() };
            reader.enter(&mut at_work, prompt, job, |_, _, _| Ok(()))?;
        }
        reader.drain(&mut at_work, |_, _, _| Ok(()))
    })?;
    Ok(seconds)
}
