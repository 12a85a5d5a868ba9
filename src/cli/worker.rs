//! `kvllama worker`: serve this machine's memory and processors to a `kvllama` that has too little.

use crate::Result;
use crate::llama;

/// Hold a part of a model for another kvllama, which names this worker with --workers.
///
/// The connection is neither authenticated nor encrypted: a worker listens on 127.0.0.1 alone, and is reached from another
/// machine through a tunnel (ssh -L). It serves one program at a time, until it is ended.
#[derive(Debug, clap::Args)]
#[command(hide = cfg!(not(feature = "rpc")), after_help = "Example:
  kvllama worker --port 50052 &
  ssh -N -L 50053:127.0.0.1:50052 other-machine &
  kvllama exp --workers 127.0.0.1:50052,127.0.0.1:50053 --model big.gguf --policy random --ratio 0.5")]
pub(super) struct Args {
    /// The port on 127.0.0.1.
    #[arg(long, value_name = "N", default_value_t = 50052)]
    port: u16,

    /// CPU threads [default: those that this process may use].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    threads: Option<u32>,
}

pub(super) fn execute(args: Args) -> Result<()> {
    llama::serve(args.port, args.threads.unwrap_or_else(|| llama::default_threads(u64::MAX)))
}
