//! `kvllama policies`: lists the eviction policies.

use serde_json::json;

use super::{print, print_json};
use crate::Result;
use crate::evict::{Family, POLICIES, Parameter, PolicySpec, WRAPPERS, Wrapper};

/// List the eviction policies and wrappers: what they keep, what they look at, the paper.
///
/// A wrapper changes how another policy's budget or ranking is used: sinks+POLICY keeps the first positions too,
/// adakv+snapkv is Ada-KV on SnapKV's scores; several can be combined (sinks+adakv+snapkv). What a policy looks at has a
/// price: for the attention of all queries (h2o), flash attention is off in the whole run; `keys` and `values` of the
/// prompt are held once more, as float32, while it is read; `queries` are held as a mean and a covariance per head.
/// docs/eviction.md has the formulas.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show only these policies or wrappers, such as `snapkv` or `adakv`; both for adakv+snapkv [default: all].
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(args: Args) -> Result<()> {
    let (policies, wrappers) = asked(&args.names)?;
    if args.json {
        let policies = policies.iter().map(|family| {
            json!({
                "name": family.name, "title": family.title, "summary": family.summary, "random": of(family).policy().is_random(),
                "looks_at": looks_at(family), "arxiv": family.paper, "parameters": parameters(family.parameters),
            })
        });
        let wrappers = wrappers.iter().map(|wrapper| {
            json!({
                "name": wrapped(wrapper), "title": wrapper.title, "summary": wrapper.summary, "needs_scores": wrapper.needs_scores,
                "arxiv": wrapper.paper, "parameters": parameters(wrapper.parameters),
            })
        });
        return print_json(&policies.chain(wrappers).collect::<Vec<_>>());
    }
    let mut text = format!("{:<19} {:<21} {:<11} {}\n", "policy", "looks at", "arXiv", "keeps");
    let mut line = |name: &str, looks_at: &str, paper: Option<&str>, summary| {
        text.push_str(&format!("{name:<19} {looks_at:<21} {:<11} {summary}\n", paper.unwrap_or("-")));
    };
    for family in &policies {
        let looks_at = Some(looks_at(family).join(", ")).filter(|list| !list.is_empty()).unwrap_or_else(|| "-".into());
        line(family.name, &looks_at, family.paper, family.summary);
    }
    for wrapper in &wrappers {
        let looks_at = if wrapper.needs_scores { "POLICY's scores" } else { "as POLICY" };
        line(&wrapped(wrapper), looks_at, wrapper.paper, wrapper.summary);
    }
    let of_wrappers = wrappers.iter().map(|wrapper| (wrapped(wrapper), wrapper.parameters));
    let owners = policies.iter().map(|family| (family.name.to_owned(), family.parameters)).chain(of_wrappers);
    let parameters: Vec<_> = owners.flat_map(|(owner, all)| all.iter().map(move |one| (owner.clone(), one))).collect();
    if !parameters.is_empty() {
        text.push_str("\nparameters, as in snapkv:window=32 or adakv+snapkv:safeguard=10,window=32\n");
    }
    for (owner, Parameter { name, default, range, about }) in parameters {
        let range = format!("{} to {}", range.start(), range.end());
        text.push_str(&format!("{owner:<19} {name:<10} [default: {default}, {range}] {about}\n"));
    }
    print(&text)
}

/// The policies and wrappers of these names; all without names.
#[allow(clippy::type_complexity, reason = "used once")]
fn asked(names: &[String]) -> Result<(Vec<&'static Family>, Vec<&'static Wrapper>)> {
    if names.is_empty() {
        return Ok((POLICIES.to_vec(), WRAPPERS.to_vec()));
    }
    let (mut policies, mut wrappers) = (Vec::new(), Vec::new());
    for part in names.iter().flat_map(|name| name.split('+')).filter(|part| *part != "POLICY") {
        let name = part.split_once(':').map_or(part, |(name, _)| name);
        match WRAPPERS.iter().find(|wrapper| wrapper.name == name) {
            Some(wrapper) => wrappers.push(*wrapper),
            None => policies.push(part.parse::<PolicySpec>()?.family()),
        }
    }
    Ok((policies, wrappers))
}

/// The form in which a wrapper is used: `sinks+POLICY`.
fn wrapped(wrapper: &Wrapper) -> String {
    format!("{}+POLICY", wrapper.name)
}

/// The policy with its default parameters.
fn of(family: &Family) -> PolicySpec {
    family.name.parse().expect("it is in the list")
}

fn parameters(all: &[Parameter]) -> Vec<serde_json::Value> {
    let one = |parameter: &Parameter| {
        json!({
            "name": parameter.name, "default": parameter.default, "least": parameter.range.start(),
            "most": parameter.range.end(), "about": parameter.about,
        })
    };
    all.iter().map(one).collect()
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
