//! `kvllama policies`: lists the eviction policies.

use serde_json::json;

use super::{print, print_json};
use crate::Result;
use crate::evict::{Family, POLICIES, Parameter, PolicySpec};

/// List the eviction policies: what they keep, what they look at, the paper.
///
/// Any but `none` and `streaming` can be composed with attention sinks: sinks+POLICY also keeps the first --keep-first
/// positions (4 by default). What a policy looks at has a price: for `attention`, flash attention is off in the whole run;
/// `keys` and `values` of the prompt are held once more, as float32, while it is read; `queries` are held as a mean and a
/// covariance per head. docs/eviction.md has the formulas.
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
            .map(|family| {
                json!({
                    "name": family.name, "summary": family.summary, "random": of(family).policy().is_random(),
                    "looks_at": looks_at(family), "arxiv": family.paper, "parameters": parameters(family),
                })
            })
            .collect();
        return print_json(&policies);
    }
    let mut text = format!("{:<19} {:<21} {:<11} {}\n", "policy", "looks at", "arXiv", "keeps");
    for family in POLICIES {
        let looks_at = Some(looks_at(family).join(", ")).filter(|list| !list.is_empty()).unwrap_or_else(|| "-".into());
        let paper = family.paper.unwrap_or("-");
        text.push_str(&format!("{:<19} {looks_at:<21} {paper:<11} {}\n", family.name, family.summary));
    }
    text.push_str("\nparameters, as in snapkv:window=32\n");
    for family in POLICIES {
        for parameter in family.parameters {
            let Parameter { name, default, range, about } = parameter;
            let range = format!("{} to {}", range.start(), range.end());
            text.push_str(&format!("{:<19} {name:<10} [default: {default}, {range}] {about}\n", family.name));
        }
    }
    print(&text)
}

/// The policy with its default parameters.
fn of(family: &Family) -> PolicySpec {
    family.name.parse().expect("it is in the list")
}

fn parameters(family: &Family) -> Vec<serde_json::Value> {
    let one = |parameter: &Parameter| {
        json!({
            "name": parameter.name, "default": parameter.default, "least": parameter.range.start(),
            "most": parameter.range.end(), "about": parameter.about,
        })
    };
    family.parameters.iter().map(one).collect()
}

fn looks_at(family: &Family) -> Vec<&'static str> {
    let policy = of(family);
    let Some(score) = policy.score() else { return Vec::new() };
    let needs = score.needs(1_000);
    [
        (needs.whole_attention(), "attention"),
        (!needs.attention_from.is_empty() && !needs.whole_attention(), "last attention"),
        (needs.keys, "keys"),
        (needs.values, "values"),
        (needs.queries_from.is_some(), "queries"),
    ]
    .into_iter()
    .filter_map(|(needed, what)| needed.then_some(what))
    .collect()
}
