//! The `kvllama` command. All logic is in the library.

use std::process::ExitCode;

/// Chat templates are rendered within a limit of memory.
#[global_allocator]
static ALLOCATOR: kvllama::alloc::Limited = kvllama::alloc::Limited;

fn main() -> ExitCode {
    kvllama::cli::main()
}
