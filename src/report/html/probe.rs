//! The `kvllama probe` command that repeats a trial: its words, which the page's script puts together and quotes.

use crate::condition::Condition;
use crate::exp::{Generation, Manifest};
use crate::llama::Sampling;
use crate::models;

/// The options that all trials of a run share.
pub fn of_run(manifest: &Manifest) -> Vec<String> {
    let Manifest { model, data, generation, .. } = manifest;
    let usual = Generation::default();
    let Sampling { temperature, top_k, top_p, min_p, ignore_eos, stop_loops } = generation.sampling;
    let flash_attn = serde_json::to_value(generation.flash_attn).expect("plain data");
    let with =
        |name: &str, differs: bool, value: String| if differs { vec![name.to_owned(), value] } else { Vec::new() };
    let flag = |name: &str, on: bool| if on { vec![name.to_owned()] } else { Vec::new() };
    [
        with("--model", model.name != models::EMBEDDED, model.name.clone()),
        with("--data", true, data.name.clone()),
        with("--n-predict", true, generation.n_predict.to_string()),
        with("--temp", temperature > 0.0, temperature.to_string()),
        with("--top-k", top_k > 0, top_k.to_string()),
        with("--top-p", top_p < 1.0, top_p.to_string()),
        with("--min-p", min_p > 0.0, min_p.to_string()),
        flag("--ignore-eos", ignore_eos),
        flag("--stop-loops", stop_loops),
        with(
            "--chat-template",
            generation.chat_template.is_some(),
            generation.chat_template.clone().unwrap_or_default(),
        ),
        with(
            "--flash-attn",
            generation.flash_attn != usual.flash_attn,
            flash_attn.as_str().unwrap_or("auto").to_owned(),
        ),
        with("--swa-full", generation.swa_full != usual.swa_full, generation.swa_full.to_string()),
        with("--batch", generation.n_batch != usual.n_batch, generation.n_batch.to_string()),
    ]
    .concat()
}

/// The options of a condition; `None` if its trials evict certain parts of the prompt, which only their evicted ranges
/// say.
pub fn of_condition(condition: &Condition) -> Option<Vec<String>> {
    condition.target().is_none().then(|| condition.options())
}
