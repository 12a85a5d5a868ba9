//! `kvllama policies`: lists the eviction policies.

use serde_json::json;

use super::{print, print_json};
use crate::Result;
use crate::condition::{PUBLISHED, Published};
use crate::evict::{Family, POLICIES, Parameter, PolicySpec, WRAPPERS, Wrapper, own_policies};

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
        let policies = policies.iter().map(|Listed { name, family, policy }| {
            json!({
                "name": name, "title": family.title, "summary": family.summary, "random": policy.as_ref().is_some_and(random),
                "looks_at": looks_at(policy.as_ref()), "arxiv": family.paper, "parameters": parameters(family.parameters),
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
    for Listed { name, family, policy } in &policies {
        let looks_at = looks_at(policy.as_ref()).join(", ");
        line(name, if looks_at.is_empty() { "-" } else { &looks_at }, family.paper, family.summary);
    }
    for wrapper in &wrappers {
        let looks_at = if wrapper.needs_scores { "POLICY's scores" } else { "as POLICY" };
        line(&wrapped(wrapper), looks_at, wrapper.paper, wrapper.summary);
    }
    let of_wrappers = wrappers.iter().map(|wrapper| (wrapped(wrapper), wrapper.parameters));
    let owners = policies.iter().map(|policy| (policy.name.clone(), policy.family.parameters)).chain(of_wrappers);
    let parameters: Vec<_> = owners.flat_map(|(owner, all)| all.iter().map(move |one| (owner.clone(), one))).collect();
    if !parameters.is_empty() {
        text.push_str("\nparameters, as in snapkv:window=32 or adakv+snapkv:safeguard=10,window=32\n");
    }
    for (owner, Parameter { name, default, range, about }) in parameters {
        let range = format!("{} to {}", range.start(), range.end());
        text.push_str(&format!("{owner:<19} {name:<10} [default: {default}, {range}] {about}\n"));
    }
    let published: Vec<_> = PUBLISHED
        .iter()
        .filter(|published| {
            let named = policies.iter().any(|policy| policy.family.name == published.name);
            named || wrappers.iter().any(|wrapper| wrapper.name == published.name)
        })
        .collect();
    if !published.is_empty() {
        text.push_str("\nwith --as-published\n");
    }
    for Published { name, parameters, granularity, positions, source } in published {
        let parameters: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let modes = format!("--granularity {granularity} --positions {positions}");
        text.push_str(&format!("{name:<19} {:<29} {modes} ({source})\n", parameters.join(",")));
    }
    print(&text)
}

/// A policy in the list.
struct Listed {
    /// `snapkv`, or `exec:PROGRAM`.
    name: String,
    family: &'static Family,
    /// With its default parameters; `None` if a name must follow.
    policy: Option<PolicySpec>,
}

/// The policies and wrappers of these names; all without names.
fn asked(names: &[String]) -> Result<(Vec<Listed>, Vec<&'static Wrapper>)> {
    let plain = POLICIES.iter().map(|family| {
        let policy = family.name.parse().expect("it is in the list");
        Listed { name: family.name.to_owned(), family, policy: Some(policy) }
    });
    let own =
        own_policies().map(|(family, what)| Listed { name: format!("{}:{what}", family.name), family, policy: None });
    let mut policies: Vec<Listed> = plain.chain(own).collect();
    let mut wrappers = WRAPPERS.to_vec();
    if names.is_empty() {
        return Ok((policies, wrappers));
    }
    // `adakv+snapkv:window=8` asks for both of its parts.
    let parts: Vec<&str> = names.iter().flat_map(|name| name.split('+')).filter(|part| *part != "POLICY").collect();
    let named =
        |name: &str, part: &str| part == name || part.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
    for part in &parts {
        let wrapper = WRAPPERS.iter().any(|wrapper| named(wrapper.name, part));
        if !wrapper && !policies.iter().any(|policy| named(policy.family.name, part)) {
            part.parse::<PolicySpec>()?; // says what is known
        }
    }
    policies.retain(|policy| parts.iter().any(|part| named(policy.family.name, part)));
    wrappers.retain(|wrapper| parts.iter().any(|part| named(wrapper.name, part)));
    Ok((policies, wrappers))
}

/// The form in which a wrapper is used: `sinks+POLICY`.
fn wrapped(wrapper: &Wrapper) -> String {
    format!("{}+POLICY", wrapper.name)
}

fn random(policy: &PolicySpec) -> bool {
    policy.policy().is_random()
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

fn looks_at(policy: Option<&PolicySpec>) -> Vec<&'static str> {
    let Some(policy) = policy else { return vec!["what it asks for"] };
    let Some(score) = policy.score() else { return Vec::new() };
    let needs = score.needs(1_000);
    [
        (needs.whole_attention(), "attention"),
        (!needs.attention_from.is_empty() && !needs.whole_attention(), "last attention"),
        (needs.keys, "keys"),
        (needs.values, "values"),
        (needs.raw_keys && !needs.keys, "keys"),
        (needs.queries_from.is_some(), "queries"),
        (needs.projected, "output weights"),
    ]
    .into_iter()
    .filter_map(|(needed, what)| needed.then_some(what))
    .collect()
}
