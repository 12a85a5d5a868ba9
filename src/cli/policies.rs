//! `kvllama policies`: the policies there are.

use serde_json::json;

use super::{print, print_json};
use crate::Result;
use crate::evict::POLICIES;

/// List the eviction policies.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(args: Args) -> Result<()> {
    if args.json {
        let policies: Vec<_> = POLICIES
            .iter()
            .map(|policy| json!({"name": policy.name(), "summary": policy.summary(), "random": policy.is_random()}))
            .collect();
        return print_json(&policies);
    }
    print(&POLICIES.iter().map(|policy| format!("{:<10} {}\n", policy.name(), policy.summary())).collect::<String>())
}
