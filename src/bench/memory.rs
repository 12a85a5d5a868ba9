//! Memory: predicted from the GGUF's metadata, and measured.

use super::{Bench, Row, jobs};
use crate::Result;
use crate::engine::{Lanes, Reader};
use crate::llama::{ContextSettings, MemoryUse, Prompt, peak_memory};

const LANES: usize = 16;
/// Length of the shared prompt. With its own answer, each condition has a context of 2,048 positions.
const PROMPT: usize = 1792;
const ANSWER: usize = 256;
/// Tokens that are really generated: the cache is allocated completely anyway.
const GENERATED: usize = 2;
const GIB: f64 = (1u64 << 30) as f64;

/// Only the first section to run can measure its own peak, because a peak never falls.
pub(super) fn measure(bench: &Bench) -> Result<(String, Vec<Row>)> {
    let settings = bench.context(PROMPT + LANES * ANSWER);
    let sequences = ContextSettings { n_seq: 1 + LANES as u32, ..settings.clone() };
    let predicted = MemoryUse::predict(&bench.dry, [sequences])?.host.total() as f64;
    let mut reader = Reader::sharing(&bench.model, settings, LANES as u32)?;
    let prompt = Prompt::from_tokens(&bench.model, bench.text(PROMPT))?;
    let mut lanes = Lanes::new(LANES, GENERATED);
    for job in jobs(LANES, prompt.n_cached())? {
        reader.enter(&mut lanes, &prompt, job, |_, _, _| Ok(()))?;
    }
    reader.drain(&mut lanes, |_, _, _| Ok(()))?;
    let what = format!("peak, {LANES} conditions of {} positions", PROMPT + ANSWER);
    let row = match peak_memory() {
        Some(peak) => {
            Row::new(what, peak as f64 / GIB, "GiB").beside("predicted", predicted / GIB, peak as f64 / predicted)
        }
        None => Row::new(format!("{what}, predicted"), predicted / GIB, "GiB"),
    };
    let note = format!(
        "{LANES} conditions side by side, a context of {} positions each: {PROMPT} of a shared prompt, {ANSWER} of \
         their own. Ratio: measured / predicted from the GGUF's metadata.",
        PROMPT + ANSWER
    );
    Ok((note, vec![row]))
}
