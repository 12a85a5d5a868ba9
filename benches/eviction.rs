//! What an eviction costs: choosing the keep set, and removing it from the KV cache.
//!
//! `cargo bench` prints microseconds per 1,000 positions, median of 15 runs.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use kvllama::evict::{Budget, DEFAULT_SINKS, KeepSet, Layers, TrialSeed, View, evict, policy};
use kvllama::llama::{Context, ContextSettings, LoadSettings, Model};

fn main() -> kvllama::Result<()> {
    println!("| what | positions | µs per 1,000 positions |\n|---|---|---|");
    for len in [2_048, 32_768, 131_072] {
        for name in ["streaming", "random"] {
            let micros = median(|| {
                black_box(keep_set(name, len));
            });
            row(&format!("choose, {name}@0.5"), len, micros);
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference/model.gguf");
    let model = Model::from_file(&path, &LoadSettings::default(), None)?;
    let len = 2_048;
    let mut context =
        Context::new(&model, ContextSettings { n_ctx: len as u32, n_seq: 2, ..ContextSettings::default() })?;
    let tokens: Vec<_> = (0..len as i32).map(|at| 10 + at % 200).collect();
    context.read(0, &tokens, 0, false)?;
    for name in ["streaming", "random"] {
        let keep = keep_set(name, len);
        let mut runs: Vec<_> = (0..15)
            .map(|_| {
                context.fork(0, 1);
                let start = Instant::now();
                context.evict(1, keep.evicted(), Layers::All).expect("the cache holds these positions");
                start.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        runs.sort_by(f64::total_cmp);
        row(&format!("evict, {name}@0.5 ({} ranges)", keep.evicted().len()), len, runs[runs.len() / 2]);
    }
    Ok(())
}

fn keep_set(name: &str, len: usize) -> KeepSet {
    let budget = Budget::Ratio { ratio: "0.5".parse().expect("a ratio"), sinks: DEFAULT_SINKS };
    let protected = vec![false; len];
    let view = View::new(0..len, &protected, budget, TrialSeed(1));
    evict(policy(name).expect("a policy"), len, &view).expect("a budget that can be met")
}

fn median(mut work: impl FnMut()) -> f64 {
    let mut runs: Vec<_> = (0..15)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}

fn row(what: &str, len: usize, micros: f64) {
    println!("| {what} | {len} | {:.1} |", micros * 1000.0 / len as f64);
}
