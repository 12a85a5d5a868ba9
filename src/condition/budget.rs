//! How many positions survive: by ratio, by counts, or while the model generates.

use super::{Axis, AxisArgs, Condition};
use crate::evict::{Budget, DEFAULT_SINKS, PolicySpec, Ratio, RollingBudget, parse_ratios};
use crate::{Error, Result};

/// Positions evicted at once under a rolling budget if the policy has scores, because ranking costs more than evicting.
const SCORED_EVERY: usize = 16;

/// `--ratio`, `--keep-first`, `--keep-last`, `--rolling` and `--every`.
#[derive(Debug, Clone, clap::Args)]
pub struct BudgetArgs {
    /// Fraction of the prompt's cache entries to evict, such as 0.5; also several, separated by commas, or a range
    /// FROM..TO:STEP that includes both ends.
    #[arg(long, help_heading = "Eviction", value_name = "R,..", value_delimiter = ',', allow_negative_numbers = true)]
    pub ratio: Vec<String>,

    /// Number of first positions to keep: with --keep-last instead of a ratio; with a ratio the sinks of `streaming`
    /// [default: 4].
    #[arg(long, help_heading = "Eviction", value_name = "N")]
    pub keep_first: Option<usize>,

    /// Number of last positions to keep, with --keep-first and instead of a ratio: StreamingLLM's 100 first and 100
    /// last.
    #[arg(long, help_heading = "Eviction", value_name = "M")]
    pub keep_last: Option<usize>,

    /// Limit the cache to B positions also while the model generates, instead of a ratio; answers may then be of any
    /// length.
    #[arg(long, help_heading = "Eviction", value_name = "B")]
    pub rolling: Option<usize>,

    /// Positions that --rolling evicts whenever the cache is full [default: 1; 16 for policies with scores].
    #[arg(long, help_heading = "Eviction", value_name = "N")]
    pub every: Option<usize>,
}

impl BudgetArgs {
    /// Whether any option sets how much is evicted.
    pub fn is_given(&self) -> bool {
        !self.ratio.is_empty() || self.keep_first.is_some() || self.keep_last.is_some() || self.rolling.is_some()
    }

    fn ratios(&self) -> Result<Vec<Ratio>> {
        let ratios: Result<Vec<_>> = self.ratio.iter().map(|item| parse_ratios(item)).collect();
        Ok(ratios?.concat())
    }
}

impl Budget {
    /// The form in reports: `0.5`, `100+100`, `rolling 64 (by 16)`.
    pub fn words(&self) -> String {
        match self {
            Budget::Rolling(RollingBudget { budget, every: 1 }) => format!("rolling {budget}"),
            Budget::Rolling(RollingBudget { budget, every }) => format!("rolling {budget} (by {every})"),
            other => other.to_string(),
        }
    }
}

/// Whether none of these policies takes a budget.
fn takes_none(policies: &[String]) -> Result<bool> {
    let policies = PolicySpec::parse_list(policies)?;
    Ok(policies.iter().all(|policy| policy.policy().keeps_all() || policy.policy().target().is_some()))
}

impl Axis for Budget {
    type Args = BudgetArgs;
    const NAME: &'static str = "budget";
    const QUESTION: &'static str = "budgets";
    const COMPARED: bool = false;

    fn columns() -> &'static [&'static str] {
        &["ratio", "keep_first", "keep_last", "rolling", "every"]
    }

    fn values(args: &AxisArgs) -> Result<Vec<Self>> {
        let (args, policies) = (&args.budget, &args.policy.policy);
        let keep_first = args.keep_first.unwrap_or(DEFAULT_SINKS);
        match (args.ratio.is_empty(), args.keep_last, args.rolling) {
            (true, None, Some(budget)) => {
                if args.every == Some(0) {
                    return Err(Error::input("--every is 0; at least one position is evicted at once"));
                }
                Ok(vec![Budget::Rolling(RollingBudget { budget, every: args.every.unwrap_or(0) })])
            }
            (_, _, Some(_)) => Err(Error::input("--rolling is a budget; it goes with neither --ratio nor --keep-last")),
            _ if args.every.is_some() => Err(Error::input("--every belongs to --rolling")),
            (false, Some(_), _) => {
                Err(Error::input("--ratio and --keep-last both say how many positions survive; give one of them"))
            }
            (false, None, _) => Ok(args.ratios()?.into_iter().map(Budget::Ratio).collect()),
            (true, Some(keep_last), _) => Ok(vec![Budget::Window { keep_first, keep_last }]),
            (true, None, _) if args.keep_first.is_none() && takes_none(policies)? => Ok(vec![Budget::All]),
            (true, None, _) => {
                Err(Error::input("say how much to evict: --ratio 0.5, or --keep-first 100 --keep-last 100"))
            }
        }
    }

    fn settle(condition: &mut Condition, args: &AxisArgs) {
        if condition.target().is_some() {
            condition.budget = Budget::All;
        }
        if let (Some(sinks), false) = (args.budget.keep_first, matches!(condition.budget, Budget::Window { .. })) {
            condition.policy = condition.policy.with_sinks(sinks);
        }
        if let Budget::Rolling(RollingBudget { budget, every: 0 }) = condition.budget {
            let every = if condition.score().is_some() { SCORED_EVERY } else { 1 };
            condition.budget = Budget::Rolling(RollingBudget { budget, every });
        }
    }

    fn check(&self, condition: &Condition) -> Result<()> {
        let Some(rolling) = self.rolling() else { return Ok(()) };
        condition.check_cut_again("--rolling", false)?;
        if let (true, Some(keep)) = (condition.policy.policy().moves(), condition.sinks()) {
            let half = rolling.budget.saturating_sub(keep) / 2;
            return Err(Error::input(format!(
                "`{condition}`: with --rolling, context-shift is streaming that evicts half at once; write --policy \
                 streaming:sinks={keep} --rolling {} --every {half} --positions compact",
                rolling.budget
            )));
        }
        if condition.memory != Default::default() {
            return Err(Error::input("--rolling goes with --memory kv alone"));
        }
        rolling.after_eviction(condition.sinks().unwrap_or(0)).map(|_| ())
    }

    fn check_all(conditions: &[Condition], args: &AxisArgs) -> Result<()> {
        let takes_none = |condition: &Condition| condition.budget == Budget::All;
        if args.budget.is_given() && conditions.iter().all(takes_none) {
            return Err(Error::input(
                "a budget says how much to evict, and neither none nor forget takes one; leave the budget out, or name \
                 another policy",
            ));
        }
        let window = args.budget.keep_last.is_some();
        if args.budget.keep_first.is_some() && !window && conditions.iter().all(|condition| condition.sinks().is_none())
        {
            return Err(Error::input(
                "--keep-first says how many sinks streaming and sinks+POLICY keep, and no policy here has sinks; leave it \
                 out, or give --keep-last as well",
            ));
        }
        Ok(())
    }

    fn cells(&self, condition: &Condition) -> Vec<String> {
        let text = |value: Option<usize>| value.map_or_else(String::new, |value| value.to_string());
        let (ratio, keep_first, keep_last) = match *self {
            Budget::All if condition.target().is_some() => (String::new(), None, None),
            Budget::All => ("0".to_owned(), None, None),
            Budget::Ratio(ratio) => (ratio.to_string(), condition.sinks(), None),
            Budget::Window { keep_first, keep_last } => (String::new(), Some(keep_first), Some(keep_last)),
            Budget::Rolling(_) => (String::new(), condition.sinks(), None),
        };
        let rolling = self.rolling();
        vec![
            ratio,
            text(keep_first),
            text(keep_last),
            text(rolling.map(|rolling| rolling.budget)),
            text(rolling.map(|rolling| rolling.every)),
        ]
    }

    fn options(&self, _condition: &Condition) -> Vec<String> {
        let option = |name: &str, value: String| [name.to_owned(), value];
        let number = |name: &str, value: usize| option(name, value.to_string());
        match *self {
            Budget::All => Vec::new(),
            Budget::Ratio(ratio) => option("--ratio", ratio.to_string()).to_vec(),
            Budget::Window { keep_first, keep_last } => {
                [number("--keep-first", keep_first), number("--keep-last", keep_last)].concat()
            }
            Budget::Rolling(RollingBudget { budget, every }) => {
                [number("--rolling", budget), number("--every", every)].concat()
            }
        }
    }

    fn suffix(&self, _condition: &Condition) -> Option<String> {
        (*self != Budget::All).then(|| format!("@{self}"))
    }

    fn words(&self) -> Option<String> {
        None
    }

    fn methods(&self, _condition: &Condition) -> Option<String> {
        match self {
            Budget::All => None,
            Budget::Ratio(_) => Some(
                "\"At r\" evicts the fraction r of the cached positions (floor(L(1 - r)) of L survive), the last of which always \
                 survives."
                    .to_owned(),
            ),
            Budget::Window { .. } => Some("\"At a+b\" keeps the first a and the last b cached positions.".to_owned()),
            Budget::Rolling(_) => Some(
                "\"Rolling b\" limits the cache to b positions from the end of the prompt on; whenever it is full, one position \
                 is evicted, or as many at once as \"by\" says."
                    .to_owned(),
            ),
        }
    }
}
