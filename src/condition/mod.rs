//! Conditions: the columns of the experiment.
//!
//! A [`Condition`] is one way to evict, such as `random@0.5`: one value on each *axis* (policy, budget, positions,
//! ...). An axis is one file here and one line in the list below. The file holds the axis' type with its default, its
//! options on the command line, its cells in `trials.csv`, its part of a condition's name, its words in reports and
//! methods, and the values of other axes that exclude it. Code that crosses, stores, compares or describes conditions
//! uses [`Axis`] and does not know the single axes.
//!
//! ```
//! use kvllama::condition::Condition;
//!
//! let condition = Condition { policy: "snapkv:window=32".parse()?, budget: "0.5".parse()?, ..Condition::default() };
//! assert_eq!(condition.to_string(), "snapkv:window=32@0.5");
//! # Ok::<(), kvllama::Error>(())
//! ```

mod aggregate;
mod as_published;
mod block;
mod budget;
mod fair;
mod granularity;
mod grid;
mod kv_type;
mod layers;
mod legacy;
mod memory;
mod policy;
mod positions;
mod protect;
mod scope;

pub use as_published::{AsPublished, PUBLISHED, Published};
pub use block::Block;
pub use fair::{Fair, FairMode};
pub use grid::Grid;
pub use kv_type::{KvType, KvTypes};
pub use legacy::{upgrade, upgrade_row};
pub use memory::Memory;
pub use positions::Positions;
pub use scope::Scope;

use std::fmt;
use std::hash::Hash;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::evict::{Aggregate, Budget, Granularity, Layers, PolicySpec, Protect, Score, Target};
use crate::{Error, Result};

/// One dimension of a condition.
pub trait Axis:
    Clone + Default + PartialEq + Eq + Hash + fmt::Debug + fmt::Display + Serialize + DeserializeOwned + 'static
{
    /// Its options on the command line.
    type Args: clap::Args + Clone + fmt::Debug;

    /// Its name: the key in a manifest, and the option that sets it.
    const NAME: &'static str;

    /// The heading of comparisons between conditions that differ in this axis alone.
    const QUESTION: &'static str;

    /// Whether conditions that differ in this axis alone are compared.
    const COMPARED: bool = true;

    /// Whether its values belong to the policy. If two policies also differ in such a value, this does not count as a
    /// second difference.
    const OF_POLICY: bool = false;

    /// Whether it describes an eviction. The full cache has the default value of every such axis.
    const OF_EVICTION: bool = true;

    /// Its columns in `trials.csv`.
    fn columns() -> &'static [&'static str] {
        const { &[Self::NAME] }
    }

    /// The values given on the command line.
    fn values(args: &AxisArgs) -> Result<Vec<Self>>;

    /// Gives a value its final form in a condition: a value without effect there becomes the default.
    fn settle(_condition: &mut Condition, _args: &AxisArgs) {}

    /// Refuses the value if another value of the condition excludes it.
    fn check(&self, _condition: &Condition) -> Result<()> {
        Ok(())
    }

    /// Refuses options that no condition of a grid uses.
    fn check_all(_conditions: &[Condition], _args: &AxisArgs) -> Result<()> {
        Ok(())
    }

    /// Its cells in `trials.csv`, one per column.
    fn cells(&self, _condition: &Condition) -> Vec<String> {
        vec![self.to_string()]
    }

    /// The options that give a condition this value; none for the default.
    fn options(&self, _condition: &Condition) -> Vec<String> {
        match *self == Self::default() {
            true => Vec::new(),
            false => vec![format!("--{}={self}", Self::NAME.replace('_', "-"))],
        }
    }

    /// Its part of the condition's name; `None` for the default.
    fn suffix(&self, _condition: &Condition) -> Option<String> {
        (*self != Self::default()).then(|| format!("/{}={self}", Self::NAME))
    }

    /// Its words in a report, in parentheses after the policy; `None` for the default.
    fn words(&self) -> Option<String> {
        (*self != Self::default()).then(|| format!("{} {self}", Self::NAME))
    }

    /// A sentence for the methods paragraph of a run with such a condition.
    fn methods(&self, _condition: &Condition) -> Option<String> {
        None
    }
}

/// The facts of an axis that do not depend on a value.
#[derive(Debug, PartialEq, Eq)]
pub struct AxisFacts {
    /// [`Axis::NAME`].
    pub name: &'static str,
    /// [`Axis::QUESTION`].
    pub question: &'static str,
    compared: bool,
    of_policy: bool,
}

/// Generates everything that would otherwise repeat the list of axes.
macro_rules! axes {
    ($($(#[$doc:meta])* $field:ident: $axis:ty,)+) => {
        /// One value on every axis: everything that identifies a column of the experiment except the example and the
        /// repeat.
        ///
        /// Its [`Display`](fmt::Display) form is its name in files and reports: the policy, the budget, and everything
        /// that differs from the defaults, such as `random@0.5/block=8/compact`.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Condition { $($(#[$doc])* pub $field: $axis,)+ }

        /// The options of all axes.
        #[derive(Debug, Clone, clap::Args)]
        pub struct AxisArgs { $($(#[$doc])* #[command(flatten)] pub $field: <$axis as Axis>::Args,)+ }

        /// Every axis, in the order of names and columns.
        pub static AXES: &[AxisFacts] = &[$(AxisFacts {
            name: <$axis>::NAME,
            question: <$axis>::QUESTION,
            compared: <$axis>::COMPARED,
            of_policy: <$axis>::OF_POLICY,
        },)+];

        impl Condition {
            /// The columns of all axes in `trials.csv`.
            pub fn columns() -> impl Iterator<Item = &'static str> {
                [$(<$axis>::columns(),)+].into_iter().flatten().copied()
            }

            /// The condition's cells, in the order of [`Condition::columns`].
            pub fn cells(&self) -> Vec<String> {
                let mut cells = Vec::new();
                $(cells.extend(self.$field.cells(self));)+
                cells
            }

            /// The options of `kvllama probe` and `kvllama exp` that give this condition.
            ///
            /// ```
            /// use kvllama::condition::Condition;
            ///
            /// let condition = Condition { policy: "snapkv".parse()?, budget: "0.5".parse()?, ..Condition::default() };
            /// assert_eq!(condition.options(), ["--policy", "snapkv", "--ratio", "0.5"]);
            /// # Ok::<(), kvllama::Error>(())
            /// ```
            pub fn options(&self) -> Vec<String> {
                let mut options = Vec::new();
                $(options.extend(self.$field.options(self));)+
                options
            }

            /// The part of the name that comes from each axis.
            fn suffixes(&self) -> Vec<String> {
                [$(self.$field.suffix(self),)+].into_iter().flatten().collect()
            }

            /// The condition's name without its budget: `random/compact` for `random@0.5/compact`; `None` if the budget
            /// is no ratio.
            pub fn curve(&self) -> Option<String> {
                self.budget.ratio()?;
                let of_axis = [$((<$axis>::NAME, self.$field.suffix(self)),)+].into_iter();
                let others = of_axis.filter(|(name, _)| *name != <Budget as Axis>::NAME);
                Some(others.filter_map(|(_, suffix)| suffix).collect())
            }

            /// The words of a report for everything that differs from the defaults.
            pub fn details(&self) -> Vec<String> {
                [$(<$axis as Axis>::words(&self.$field),)+].into_iter().flatten().collect()
            }

            /// Sentences for the methods paragraph, at most one per axis.
            pub fn methods(&self) -> Vec<String> {
                [$(self.$field.methods(self),)+].into_iter().flatten().collect()
            }

            /// The axes on which two conditions differ.
            fn differences(&self, other: &Self) -> Vec<&'static AxisFacts> {
                let differ = [$(self.$field != other.$field,)+];
                AXES.iter().zip(differ).filter_map(|(axis, differs)| differs.then_some(axis)).collect()
            }

            /// Brings the values into their final form.
            fn settle(&mut self, args: &AxisArgs) {
                if self.is_full() {
                    $(if <$axis>::OF_EVICTION {
                        self.$field = Default::default();
                    })+
                }
                $(<$axis>::settle(self, args);)+
            }

            /// The condition it is compared with: nothing is evicted, everything else is the same.
            pub fn baseline(&self) -> Self {
                let mut full = Condition::default();
                $(if !<$axis>::OF_EVICTION {
                    full.$field = self.$field.clone();
                })+
                full
            }

            fn check(&self) -> Result<()> {
                $(self.$field.check(self)?;)+
                Ok(())
            }
        }

        impl AxisArgs {
            /// Every combination of the given values; the last axis varies fastest.
            fn cross(&self) -> Result<Vec<Condition>> {
                let mut conditions = vec![Condition::default()];
                $(
                    let values = <$axis>::values(self)?;
                    conditions = conditions
                        .iter()
                        .flat_map(|condition| {
                            values.iter().map(|value| Condition { $field: value.clone(), ..condition.clone() })
                        })
                        .collect();
                )+
                Ok(conditions)
            }

            fn check_all(&self, conditions: &[Condition]) -> Result<()> {
                $(<$axis>::check_all(conditions, self)?;)+
                Ok(())
            }
        }
    };
}

axes! {
    /// The policy that chooses the survivors.
    policy: PolicySpec,
    /// How many positions survive.
    budget: Budget,
    /// Length of the blocks that `random` evicts.
    block: Block,
    /// Whether all layers and heads keep the same positions, or each its own.
    granularity: Granularity,
    /// The layers in which positions are evicted.
    layers: Layers,
    /// How the scores of layers and heads are combined into one.
    aggregate: Aggregate,
    /// Whether each part of the prompt survives in proportion to its length.
    fair: Fair,
    /// Whether survivors keep their positions or are moved together.
    positions: Positions,
    /// Whether the model reads the evicted tokens first, or never.
    memory: Memory,
    /// Which part of the prompt is compressed.
    scope: Scope,
    /// The spans that always survive.
    protect: Protect,
    /// Element types of keys and values.
    kv_type: KvTypes,
    /// Whether the policy runs as its paper ran it.
    as_published: AsPublished,
}

impl Condition {
    /// Whether nothing is evicted.
    pub fn is_full(&self) -> bool {
        self.policy.policy().keeps_all()
    }

    /// The scores by which its policy ranks positions; `None` for a policy without scores.
    pub fn score(&self) -> Option<&dyn Score> {
        self.policy.score()
    }

    /// The part of the prompt that its policy evicts, if it evicts a certain part: then there is a trial for each
    /// instruction.
    pub fn target(&self) -> Option<Target> {
        self.policy.policy().target()
    }

    /// Number of first positions that always survive: the sinks of `streaming` and of `sinks+POLICY`.
    pub fn sinks(&self) -> Option<usize> {
        let sinks = self.policy.sinks()?;
        Some(match self.budget {
            Budget::Window { keep_first, .. } => keep_first,
            _ => sinks,
        })
    }

    /// Whether the eviction frees cells of the KV cache.
    pub fn frees(&self) -> bool {
        self.granularity == Granularity::Token && self.layers.has_cache()
    }

    /// Whether all layers and heads keep the same positions.
    pub fn everywhere(&self) -> bool {
        self.frees() && self.layers == Layers::All
    }

    /// Refuses what cannot be done to one cache again and again, as `what` does it. With `hides`, layers and heads may
    /// differ.
    pub fn check_cut_again(&self, what: &str, hides: bool) -> Result<()> {
        let refused = if self.scope != Scope::Prompt || self.fair.is_on() {
            "goes with --scope prompt alone, without --fair"
        } else if !hides && !self.everywhere() {
            "goes with --granularity token and --layers all alone"
        } else if self.score().is_some_and(|score| score.replay().is_some()) {
            "cannot make the model read everything a second time, as this policy does to score it"
        } else if self.score().is_some_and(|score| !score.rolls()) {
            "needs scores of the cache again and again, and this policy scores a prompt once"
        } else if self.target().is_some() {
            "has no single prompt of which one instruction could be forgotten"
        } else if self.ranks_by_keys() && self.positions == Positions::Compact && self.memory == Memory::Kv {
            "goes with --positions keep under a policy that ranks by keys, because moving positions rotates the keys"
        } else {
            return Ok(());
        };
        Err(Error::input(format!("`{self}`: {what} {refused}")))
    }

    fn ranks_by_keys(&self) -> bool {
        self.score().is_some_and(|score| score.needs(1).keys)
    }

    /// The layer that forgets, if it is a single one.
    pub fn one_layer(&self) -> Option<usize> {
        // A single layer is named by its number.
        self.layers.to_string().parse().ok()
    }

    /// The policy as its paper writes it and, in parentheses, everything that differs from the defaults: the name of a
    /// curve in reports.
    pub fn series(&self) -> String {
        if !self.is_full() {
            return self.policy.title_with(self.details());
        }
        let details = self.details();
        let name = "the full cache".to_owned();
        if details.is_empty() { name } else { format!("{name} ({})", details.join(", ")) }
    }

    /// The name in sentences: `SnapKV (window 16) at 0.5`, `StreamingLLM (compact) at 100+100`.
    pub fn words(&self) -> String {
        if self.budget == Budget::All { self.series() } else { format!("{} at {}", self.series(), self.budget.words()) }
    }

    /// Whether two conditions save memory by other means and are alike in everything else: other element types of the KV
    /// cache, and another budget (or, for one of them, none).
    pub fn trades_bits(&self, other: &Self) -> bool {
        let differences = self.differences(other);
        let differ_in = |name| differences.iter().any(|axis| axis.name == name);
        let alike = differences.len() == 2 || self.is_full() != other.is_full();
        self.frees() && other.frees() && differ_in(KvTypes::NAME) && differ_in(<Budget as Axis>::NAME) && alike
    }

    /// The only axis on which two conditions of the same budget differ; `None` if there is no such axis or it is not
    /// compared.
    pub fn only_difference(&self, other: &Self) -> Option<&'static AxisFacts> {
        let mut found = self.differences(other);
        if found.first().is_some_and(|first| first.name == PolicySpec::NAME) {
            found.retain(|axis| !axis.of_policy);
            if self.as_published == AsPublished::Yes && other.as_published == AsPublished::Yes {
                // Each paper has its own; they belong to the policy.
                found.retain(|axis| ![Granularity::NAME, Positions::NAME].contains(&axis.name));
            }
        }
        match found.as_slice() {
            [only] if only.compared => Some(only),
            _ => None,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixes().concat())
    }
}

/// If layers or heads keep different positions, survivors cannot be moved, and the model must read the whole prompt.
fn needs_plain_modes(option: &str, value: &dyn fmt::Display, condition: &Condition) -> Result<()> {
    let Condition { positions, memory, .. } = condition;
    if (*positions, *memory) == Default::default() {
        return Ok(());
    }
    Err(Error::input(format!(
        "--{option} {value} lets layers or heads keep different positions; that goes with --positions keep and --memory kv \
         alone, not with {positions} and {memory}"
    )))
}
