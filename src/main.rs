//! The `kvllama` command. All logic is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    kvllama::cli::main()
}
