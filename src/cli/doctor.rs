//! `kvllama doctor`: the abilities of this build and this machine, and whether a model fits.

use std::fmt::Write as _;

use serde_json::json;

use super::engine::EngineArgs;
use super::prompt_view::preamble_view;
use super::{print, print_json};
use crate::Result;
use crate::condition::KvTypes;
use crate::exp::{Build, megabytes};
use crate::llama::{self, ContextSettings, Memory, MemoryUse, free_memory};
use crate::size::Size;

/// Say what this build and this machine can do, and whether a model fits at a context size.
///
/// Nothing is loaded: weights, KV cache and scratch are predicted from the GGUF's metadata
/// by llama.cpp's own allocator.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kvllama doctor --model gemma-3-12b-it-q4_0 --ctx 2048")]
pub(super) struct Args {
    #[command(flatten)]
    engine: EngineArgs,

    /// Element types of the KV cache: f32, f16, q8_0 or q4_0, or one for keys and one for values, such as q8_0/q4_0.
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    kv_type: KvTypes,

    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(args: Args) -> Result<()> {
    let model = args.engine.load(true)?;
    let context = args.engine.context(&model, model.n_ctx_train().min(2048));
    let context = ContextSettings { kv_type: args.kv_type, ..context };
    let build = Build::this(context.threads);
    let n_ctx = context.n_ctx;
    let memory = MemoryUse::predict(&model, [context])?;
    let facts = model.facts();
    let free = free_memory();
    let fits = memory.fits(free);
    if args.json {
        return print_json(&json!({
            "build": build, "devices": llama::devices(), "cpu": llama::system_info(), "memory_available": free,
            "model": {"name": model.name(), "facts": facts, "has_chat_template": model.template().is_ok()},
            "n_ctx": n_ctx, "predicted": memory, "predicted_total": memory.total(), "fits": fits,
        }));
    }
    let mut out = String::new();
    let features = if build.features.is_empty() { "cpu only".to_owned() } else { build.features.join(", ") };
    let _ = writeln!(out, "kvllama   {} ({}), {features}", build.kvllama, build.git_commit);
    let _ = writeln!(out, "llama.cpp {}", build.llama_cpp);
    let _ = writeln!(out, "kernels   {}", llama::system_info().trim());
    for device in llama::devices() {
        let _ = writeln!(
            out,
            "device    {} {}: {} free of {}",
            device.name,
            device.description,
            Size(device.free),
            Size(device.total)
        );
    }
    let _ = writeln!(out, "threads   {}", build.threads);
    let _ = writeln!(
        out,
        "\nmodel     {} ({}, {})",
        model.name(),
        megabytes(args.engine.source()?.file_size()?),
        facts.description
    );
    let _ = writeln!(
        out,
        "layers    {}, trained for {} positions{}",
        facts.n_layer,
        facts.n_ctx_train,
        if facts.sliding_window > 0 { format!(", sliding window {}", facts.sliding_window) } else { String::new() }
    );
    let template = match (&args.engine.chat_template, model.template()) {
        (Some(given), _) => format!("{given}, in place of the model's own"),
        (None, Ok(_)) => "the model's own".to_owned(),
        (None, Err(_)) => format!("missing: {}", model.template_advice()),
    };
    let _ = writeln!(out, "template  {template}");
    if let Some(preamble) = &facts.preamble {
        let _ = writeln!(out, "          {}", preamble_view(preamble));
    }
    out.push('\n');
    out.push_str(&memory_text(&memory, n_ctx));
    print(&out)
}

/// A prediction of memory, in a few lines.
pub(super) fn memory_text(memory: &MemoryUse, n_ctx: u32) -> String {
    let line = |place: &str, memory: &Memory| {
        format!(
            "{place:9} {} = weights {} + KV cache {} + compute {}\n",
            Size(memory.total()),
            Size(memory.weights),
            Size(memory.kv_cache),
            Size(memory.compute)
        )
    };
    let mut out = format!("at a context of {n_ctx} positions:\n");
    out.push_str(&line("host", &memory.host));
    if memory.device.total() > 0 {
        out.push_str(&line("GPU", &memory.device));
    }
    let free = free_memory();
    let verdict = if memory.fits(free) { "fits" } else { "does NOT fit: a smaller --ctx, model or --kv-type may" };
    let _ = writeln!(out, "available {}: it {verdict}", Size(free));
    out
}
