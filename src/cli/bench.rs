//! `kvllama bench`: measures the tables of performance.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use super::engine::EngineArgs;
use super::print;
use crate::bench::{Bench, Peers, Section, regressions};
use crate::condition::KvTypes;
use crate::exp::Build;
use crate::llama::ContextSettings;
use crate::models::ModelSource;
use crate::{Error, Result, llama};

/// Measure speed and memory, beside llama.cpp's own programs if they are there.
///
/// Prints Markdown: the machine, the command, and a table for each section. `memory`: predicted and measured; `single`:
/// reading and generating; `batch`: 16 sequences on one prompt; `grid`: 16 and 64 conditions beside as many separate
/// runs; `tap`: what looking at attention costs; `eviction`: choosing, removing and copying; `dense`: answers after a long
/// prompt of which little is kept.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The sections: memory, single, batch, grid, tap, eviction, dense [default: all].
    #[arg(value_name = "SECTION")]
    sections: Vec<Section>,

    /// Runs of which the median is taken.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,

    /// Tokens that the section `tap` reads.
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(64..=1 << 20))]
    tokens: u32,

    /// The directory of llama-bench, llama-batched-bench and llama-completion (scripts/peers.sh builds them).
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,

    /// Also write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Compare ratios with those of an earlier --json; exit with 1 if one is worse by more than --tolerance.
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,

    /// How much worse a ratio may be: 0.1 is a tenth.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, requires = "check")]
    tolerance: f64,

    #[command(flatten)]
    engine: EngineArgs,

    /// Element types of the KV cache: f32, f16, q8_0 or q4_0, or one for keys and one for values, such as q8_0/q4_0.
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    kv_type: KvTypes,
}

const EXAMPLES: &str = "\
Examples:
  kvllama bench single batch --model gemma-3-1b-it-q4_0
  kvllama bench tap dense --model MODEL.gguf --check bench.json
  scripts/peers.sh peers && kvllama bench --model MODEL.gguf --peers peers --json bench.json";

pub(super) fn execute(args: Args) -> Result<()> {
    if args.engine.ctx.is_some() {
        return Err(Error::input("each section of the benchmark sizes its own context; leave --ctx out"));
    }
    let dry = args.engine.load(true)?;
    let start = Instant::now();
    let model = args.engine.load(false)?;
    let load = start.elapsed();
    let context = ContextSettings { kv_type: args.kv_type, ..args.engine.context(&model, 0) };
    let peers = args.peers.as_ref().map(|directory| match args.engine.source()? {
        ModelSource::File(file) => Peers::new(directory, &file, &context, args.engine.gpu_layers),
        ModelSource::Embedded => {
            Err(Error::input("the peers cannot read the embedded model; name another with --model"))
        }
    });
    let build = Build::this(context.threads);
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    let facts = model.facts();
    let cpu = llama::system_info();
    print(&format!(
        "Machine: {} ({}), {} threads\nModel: {} ({})\nkvllama {} ({}), llama.cpp {}\nCommand: `{command}`\n",
        build.devices.join(", "),
        build.platform,
        build.threads,
        args.engine.model_file(&model)?.shown(),
        facts.description,
        build.kvllama,
        build.git_commit,
        build.llama_cpp,
    ))?;
    let (runs, tokens) = (args.runs as usize, args.tokens);
    let bench = Bench { model, dry, load, context, runs, tokens, peers: peers.transpose()? };
    let mut tables = Vec::new();
    for section in Section::ALL.into_iter().filter(|it| args.sections.is_empty() || args.sections.contains(it)) {
        let table = bench.section(section)?;
        print(&format!("\n{}", table.markdown()))?;
        tables.push(table);
    }
    if let Some(path) = args.json {
        let all = json!({
            "build": build, "cpu": cpu.trim(), "command": command, "model": facts, "load_s": load.as_secs_f64(),
            "runs": args.runs, "sections": tables,
        });
        let text = format!("{}\n", serde_json::to_string_pretty(&all).expect("plain data"));
        crate::files::write_atomically(&path, text.as_bytes())?;
    }
    let Some(earlier) = args.check else { return Ok(()) };
    let (worse, compared) = regressions(&tables, &earlier, args.tolerance)?;
    if worse.is_empty() {
        return print(&format!("\nNone of {compared} ratios is worse than in {}.\n", earlier.display()));
    }
    Err(Error::failed(worse.join("; ")))
}
