//! Whether a policy runs as its paper ran it, or in the form that frees memory in llama.cpp.
//!
//! Papers let each KV head keep positions of its own (which frees nothing in llama.cpp), or move survivors together, and
//! they have other windows than kvpress, whose defaults are ours. The two are different claims: the condition's name says
//! which was run, and they are never compared with each other.

use super::{Axis, AxisArgs, Condition, FairMode, Positions};
use crate::evict::{Aggregate, Granularity, PolicySpec, words};
use crate::{Error, Result};

words! {
    /// Whether a policy runs as its paper ran it.
    AsPublished ("choice between as published and not") {
        /// With the defaults of kvllama.
        #[default]
        No = "no",
        /// As its paper ran it.
        Yes = "yes",
    }
}

/// How a paper ran a policy.
pub struct Published {
    /// The policy or wrapper.
    pub name: &'static str,
    /// Parameters, those of the policy inside a wrapper included. A value that the user gives comes first.
    pub parameters: &'static [(&'static str, usize)],
    /// What keeps positions of its own.
    pub granularity: Granularity,
    /// What became of the survivors' positions.
    pub positions: Positions,
    /// Where this is written.
    pub source: &'static str,
}

/// The policies whose published form is known. A wrapper comes before the policy inside.
pub static PUBLISHED: &[Published] = &[
    Published {
        name: "pyramidkv",
        parameters: &[("window", 8), ("kernel", 7), ("maxpool", 1)],
        granularity: Granularity::Head,
        positions: Positions::Keep,
        source: "run_longbench.py of github.com/Zefan-Cai/PyramidKV",
    },
    Published {
        name: "adakv",
        parameters: &[("window", 32), ("kernel", 7), ("maxpool", 1)],
        granularity: Granularity::Head,
        positions: Positions::Keep,
        source: "the LongBench runs of github.com/FFY0/AdaKV",
    },
    Published {
        name: "streaming",
        parameters: &[],
        granularity: Granularity::Token,
        positions: Positions::Compact,
        source: "arXiv 2309.17453, section 3.2",
    },
    Published {
        name: "snapkv",
        parameters: &[("window", 32), ("kernel", 7), ("maxpool", 1)],
        granularity: Granularity::Head,
        positions: Positions::Keep,
        source: "the LongBench settings of github.com/FasterDecoding/SnapKV",
    },
    Published {
        name: "h2o",
        parameters: &[("recent", 50), ("sums", 1)],
        granularity: Granularity::Head,
        positions: Positions::Keep,
        source: "arXiv 2306.14048, and github.com/FMInference/H2O",
    },
    Published {
        name: "tova",
        parameters: &[],
        granularity: Granularity::Layer,
        positions: Positions::Keep,
        source: "arXiv 2401.06104, section 3.2",
    },
];

impl Published {
    /// The published form of a policy: of its outermost wrapper that has one, or its own.
    pub fn of(policy: &PolicySpec) -> Option<&'static Published> {
        let names = policy.wrappers().map(|wrapper| wrapper.name).chain([policy.name()]);
        names.into_iter().find_map(|name| PUBLISHED.iter().find(|published| published.name == name))
    }
}

/// `--as-published`.
#[derive(Debug, Clone, clap::Args)]
pub struct AsPublishedArgs {
    /// Run each policy as its paper did: own granularity, positions, window and kernel; `no,yes` runs both forms.
    /// `kvllama policies NAME` shows them. Policies without a paper (random) stay as they are.
    #[arg(
        long,
        help_heading = "Eviction",
        value_name = "no,yes",
        value_delimiter = ',',
        default_value = "no",
        default_missing_value = "yes",
        num_args = 0..=1,
        require_equals = true
    )]
    pub as_published: Vec<AsPublished>,
}

impl Axis for AsPublished {
    type Args = AsPublishedArgs;
    const NAME: &'static str = "as_published";
    const QUESTION: &'static str = "policies as published and not";
    const COMPARED: bool = false;

    fn values(args: &AxisArgs) -> Result<Vec<Self>> {
        Ok(args.as_published.as_published.clone())
    }

    fn settle(condition: &mut Condition, _args: &AxisArgs) {
        let family = condition.policy.family();
        let has_paper = family.paper.is_some() || condition.policy.wrappers().any(|wrapper| wrapper.paper.is_some());
        if !has_paper {
            condition.as_published = AsPublished::No;
        }
        let Some(published) = Published::of(&condition.policy).filter(|_| condition.as_published == AsPublished::Yes)
        else {
            return;
        };
        condition.policy = condition.policy.with_defaults(published.parameters);
        if condition.fair.is_on() && condition.score().is_some_and(|score| score.needs_in_parts(&[]).is_some()) {
            condition.fair.mode = FairMode::Scores; // as in the Pitfalls paper
        }
        condition.granularity = published.granularity;
        condition.positions = published.positions;
        if published.granularity != Granularity::Token {
            condition.aggregate = Aggregate::default();
        }
    }

    fn check(&self, condition: &Condition) -> Result<()> {
        if *self == AsPublished::No || Published::of(&condition.policy).is_some() {
            return Ok(());
        }
        let known: Vec<_> = PUBLISHED.iter().map(|published| published.name).collect();
        Err(Error::input(format!(
            "--as-published: how the paper of {} ran it is not recorded here; it is of {}",
            condition.policy,
            known.join(", ")
        )))
    }

    fn check_all(conditions: &[Condition], args: &AxisArgs) -> Result<()> {
        let asked = args.as_published.as_published.contains(&AsPublished::Yes);
        if asked && conditions.iter().all(|condition| condition.as_published == AsPublished::No) {
            return Err(Error::input(
                "--as-published changes nothing here, because no policy has a paper; leave it out",
            ));
        }
        Ok(())
    }

    fn suffix(&self, _condition: &Condition) -> Option<String> {
        (*self == AsPublished::Yes).then(|| "/as-published".to_owned())
    }

    fn words(&self) -> Option<String> {
        (*self == AsPublished::Yes).then(|| "as published".to_owned())
    }

    fn methods(&self, condition: &Condition) -> Option<String> {
        match self {
            AsPublished::No if Published::of(&condition.policy).is_some() => Some(
                "Conditions that are not called \"as published\" ran a policy with kvllama's defaults instead of its paper's."
                    .to_owned(),
            ),
            AsPublished::No => None,
            AsPublished::Yes => {
                let published = Published::of(&condition.policy)?;
                let unit = match published.granularity {
                    Granularity::Token => "all layers and heads kept the same positions",
                    Granularity::Layer => "each layer kept positions of its own",
                    Granularity::Head => "each KV head kept positions of its own",
                };
                let moved = match published.positions {
                    Positions::Keep => "",
                    Positions::Compact => ", which were moved together",
                };
                Some(format!("As published, under {} {unit}{moved} ({}).", condition.policy.resolved(), published.source))
            }
        }
    }
}
