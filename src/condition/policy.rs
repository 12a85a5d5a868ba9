//! The policy and its parameters.

use super::{Axis, AxisArgs, Condition, Scope};
use crate::evict::PolicySpec;
use crate::{Error, Result};

/// `--policy`.
#[derive(Debug, Clone, clap::Args)]
pub struct PolicyArgs {
    /// Policies, separated by commas: which cache entries are evicted (`kvllama policies` lists them). Parameters
    /// follow a colon (snapkv:window=32,kernel=7); a wrapper stands before a plus (sinks+knorm, adakv+snapkv) [default:
    /// random where a budget is given, else none].
    #[arg(long, help_heading = "Eviction", value_name = "P,..")]
    pub policy: Vec<String>,
}

impl Default for PolicySpec {
    /// The full cache.
    fn default() -> Self {
        "none".parse().expect("it is in the list of policies")
    }
}

impl Axis for PolicySpec {
    type Args = PolicyArgs;
    const NAME: &'static str = "policy";
    const QUESTION: &'static str = "policies at equal budget";

    fn values(args: &AxisArgs) -> Result<Vec<Self>> {
        match (args.policy.policy.as_slice(), args.budget.is_given()) {
            ([], true) => Ok(vec!["random".parse()?]),
            ([], false) => Ok(vec![PolicySpec::default()]),
            (named, _) => PolicySpec::parse_list(named),
        }
    }

    fn check(&self, condition: &Condition) -> Result<()> {
        let plain = condition.scope == Scope::Prompt && condition.protect.is_none() && !condition.fair.is_on();
        if condition.target().is_some() && !(plain && condition.frees()) {
            return Err(Error::input(format!(
                "{self} evicts a certain part of the prompt; it goes with --granularity token, --scope prompt and \
                 --protect none alone, without --fair"
            )));
        }
        Ok(())
    }

    fn options(&self, _condition: &Condition) -> Vec<String> {
        vec!["--policy".to_owned(), self.to_string()]
    }

    /// The name of a condition starts with its policy.
    fn suffix(&self, _condition: &Condition) -> Option<String> {
        Some(self.to_string())
    }

    fn words(&self) -> Option<String> {
        None
    }
}
