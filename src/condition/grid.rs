//! The grid: crosses the values given for each axis into conditions.

use super::{AxisArgs, Condition};
use crate::{Error, Result};

/// The values given for each axis, as on a command line.
///
/// ```
/// use kvllama::condition::Grid;
///
/// let grid = Grid::parse("--policy streaming,random --ratio 0.25,0.5 --positions keep,compact")?;
/// assert_eq!(grid.conditions()?.len(), 1 + 2 * 2 * 2); // and the full cache
/// # Ok::<(), kvllama::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Grid {
    /// The values of each axis.
    pub axes: AxisArgs,
    /// Whether to add the full cache.
    pub baseline: bool,
}

impl Grid {
    /// Reads options of the axes, as on a command line, and adds the full cache.
    ///
    /// # Errors
    /// If an option or a value is unknown.
    pub fn parse(options: &str) -> Result<Self> {
        use clap::{Args as _, FromArgMatches as _};
        let command = AxisArgs::augment_args(clap::Command::new("grid").no_binary_name(true));
        let matches = command.try_get_matches_from(options.split_whitespace());
        let axes = matches.and_then(|matches| AxisArgs::from_arg_matches(&matches));
        let axes = axes.map_err(|error| {
            let text = error.to_string();
            Error::input(text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
        })?;
        Ok(Grid { axes, baseline: true })
    }

    /// All conditions, the baseline first, without duplicates.
    ///
    /// # Errors
    /// If values exclude each other, if an option has no effect, or if no condition remains.
    pub fn conditions(&self) -> Result<Vec<Condition>> {
        let mut crossed = self.axes.cross()?;
        for condition in &mut crossed {
            condition.settle(&self.axes);
            condition.check()?;
        }
        self.axes.check_all(&crossed)?;
        if self.baseline {
            let full: Vec<_> = crossed.iter().map(Condition::baseline).collect();
            crossed.splice(0..0, full);
        }
        let mut distinct: Vec<Condition> = Vec::with_capacity(crossed.len());
        for condition in crossed {
            if !distinct.contains(&condition) {
                distinct.push(condition);
            }
        }
        if distinct.is_empty() {
            return Err(Error::input(
                "there is nothing to run: name at least one --policy and a --ratio, or leave --no-baseline out",
            ));
        }
        Ok(distinct)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evict::Budget;

    fn names(options: &str) -> Vec<String> {
        Grid::parse(options).unwrap().conditions().unwrap().iter().map(ToString::to_string).collect()
    }

    fn refused(options: &str) -> String {
        Grid::parse(options).and_then(|grid| grid.conditions()).expect_err(options).to_string()
    }

    #[test]
    fn a_condition_is_named_by_what_differs_from_the_defaults() {
        assert_eq!(
            names("--policy random,streaming --ratio 0.5,0.50 --block 8"),
            ["none", "random@0.5/block=8", "streaming@0.5"]
        );
        assert_eq!(
            names(
                "--policy streaming,none --keep-first 100 --keep-last 50 --positions keep,compact --memory kv,text \
                 --scope system --protect bos,sink:4"
            ),
            [
                "none",
                "streaming@100+50/scope=system/protect=bos+sink:4",
                "streaming@100+50/text/scope=system/protect=bos+sink:4",
                "streaming@100+50/compact/scope=system/protect=bos+sink:4",
            ]
        );
        assert_eq!(
            names("--policy snapkv:window=16,snapkv:window=64,kernel=7,streaming --keep-first 8 --ratio 0.5"),
            ["none", "snapkv:window=16@0.5", "snapkv:kernel=7@0.5", "streaming:sinks=8@0.5"]
        );
        assert_eq!(
            names("--policy random,forget:instruction,forget:filler --ratio 0.5,0.75 --memory kv,text")[5..],
            ["forget:instruction", "forget:instruction/text", "forget:filler", "forget:filler/text"]
        );
        assert_eq!(names("--policy forget:instruction"), ["none", "forget:instruction"]);
        assert_eq!(names("--ratio 0.5"), ["none", "random@0.5"]);
        assert_eq!(names(""), ["none"]);
        assert_eq!(
            names("--ratio 0.5 --kv-type f16,q8_0/q4_0,q8_0/q8_0"),
            [
                "none",
                "none/kv=q8_0/q4_0",
                "none/kv=q8_0",
                "random@0.5",
                "random@0.5/kv=q8_0/q4_0",
                "random@0.5/kv=q8_0"
            ]
        );
    }

    #[test]
    fn modes_of_policies_with_scores_are_named_and_checked() {
        let heads = "--policy snapkv,sinks+random --ratio 0.5 --granularity token,head --layers global \
                     --aggregate rank-mean --keep-first 2 --fair";
        assert_eq!(
            names(heads)[1..],
            [
                "snapkv@0.5/layers=global/aggregate=rank-mean/fair",
                "snapkv@0.5/head/layers=global/fair",
                "sinks+random:sinks=2@0.5/layers=global/fair",
                "sinks+random:sinks=2@0.5/head/layers=global/fair",
            ]
        );
        assert!(refused(&format!("{heads} --positions compact")).contains("lets layers or heads"));
        assert!(refused("--policy snapkv --ratio 0.5 --layers global --memory text").contains("--layers global"));
    }

    #[test]
    fn the_options_of_a_condition_give_it_again() {
        for grid in [
            "--policy random,streaming --ratio 0.5 --block 8 --positions keep,compact --memory kv,text --protect bos,sink:4",
            "--policy streaming --keep-first 100 --keep-last 50 --scope system",
            "--policy snapkv:window=16,sinks+random --ratio 0.5 --granularity token,head --layers global --fair \
             --aggregate rank-mean",
            "--policy random,streaming,h2o --rolling 64",
            "--ratio 0.5 --kv-type f16,q8_0/q4_0",
            "--policy forget:instruction,forget:filler --memory kv,text",
            "--policy streaming,snapkv:kernel=9,h2o --ratio 0.5 --as-published=no,yes",
            "--policy context-shift:keep=8,discard=16 --ratio 0.5",
            "--policy h2o,random --ratio 0.5 --fair=budget,scores --fair-weight user=3,system=2 --layers all,0-5+9",
        ] {
            for condition in Grid::parse(grid).unwrap().conditions().unwrap() {
                let options = condition.options().join(" ");
                let again = Grid { baseline: false, ..Grid::parse(&options).unwrap() }.conditions();
                assert_eq!(again.unwrap(), [condition], "{options}");
            }
        }
    }

    #[test]
    fn as_published_sets_modes_and_parameters_and_is_never_compared_with_the_defaults() {
        let options = "--policy streaming,snapkv:kernel=9,adakv+snapkv,random --ratio 0.5 --as-published=no,yes";
        assert!(refused(options).contains("--granularity head"), "adakv cannot run with the defaults");
        let options = "--policy streaming,snapkv:kernel=9,h2o,random --ratio 0.5 --as-published=no,yes";
        assert_eq!(
            names(options)[1..],
            [
                "streaming@0.5",
                "streaming@0.5/compact/as-published",
                "snapkv:kernel=9@0.5",
                "snapkv:window=32,kernel=9,maxpool=1@0.5/head/as-published",
                "h2o@0.5",
                "h2o:recent=50,sums=1@0.5/head/as-published",
                "random@0.5"
            ]
        );
        assert_eq!(
            names("--policy pyramidkv+snapkv,sinks+tova --ratio 0.5 --as-published")[1..],
            ["pyramidkv+snapkv:window=8,kernel=7,maxpool=1@0.5/head/as-published", "sinks+tova@0.5/layer/as-published"]
        );
        let conditions = Grid::parse(options).unwrap().conditions().unwrap();
        let only = |a: usize, b: usize| conditions[a].only_difference(&conditions[b]).map(|axis| axis.name);
        assert_eq!((only(2, 4), only(4, 6)), (Some("policy"), Some("policy")));
        assert_eq!((only(1, 2), only(3, 4), only(1, 4), only(2, 7)), (None, None, None, None));
        for (options, part) in [
            ("--policy knorm --ratio 0.5 --as-published", "of knorm ran it is not recorded"),
            ("--policy random --ratio 0.5 --as-published", "changes nothing here"),
            ("--policy snapkv --ratio 0.5 --as-published --memory text", "--memory kv alone"),
        ] {
            assert!(refused(options).contains(part), "{options}: {}", refused(options));
        }
    }

    #[test]
    fn fairness_is_of_budgets_or_of_scores_and_may_be_weighted() {
        assert_eq!(
            names("--policy snapkv,random --ratio 0.5 --fair=no,budget,scores --fair-weight system=2,user=1")[1..],
            [
                "snapkv@0.5",
                "snapkv@0.5/fair:system=2",
                "snapkv@0.5/fair=scores:system=2",
                "random@0.5",
                "random@0.5/fair:system=2"
            ]
        );
        assert_eq!(
            names("--policy tova,streaming --ratio 0.5 --fair --as-published")[1..],
            ["tova@0.5/layer/fair=scores/as-published", "streaming@0.5/fair/compact/as-published"]
        );
        for (options, part) in [
            ("--policy knorm --fair=scores", "it is for snapkv, h2o and tova"),
            ("--policy knorm --fair-weight system=2", "give --fair too"),
            ("--policy knorm --fair --fair-weight system=0", "`system=0` is no weight"),
        ] {
            let said = refused(&format!("{options} --ratio 0.5"));
            assert!(said.contains(part), "{options}: {said}");
        }
        // As earlier versions wrote it.
        let fair: Condition = serde_json::from_str(r#"{"policy":"random","budget":"0.5","fair":true}"#).unwrap();
        assert_eq!(fair.to_string(), "random@0.5/fair");
        let fair =
            &Grid::parse("--policy h2o --ratio 0.5 --fair=scores --fair-weight user=3").unwrap().conditions().unwrap()
                [1];
        let json = serde_json::to_string(fair).unwrap();
        assert_eq!(serde_json::from_str::<Condition>(&json).unwrap(), *fair, "{json}");
    }

    #[test]
    fn layers_are_chosen_by_kind_or_by_number() {
        assert_eq!(
            names("--policy knorm --ratio 0.5 --layers all,global,5+0-3,each")[1..],
            ["knorm@0.5", "knorm@0.5/layers=global", "knorm@0.5/layers=0-3+5", "knorm@0.5/layers=each"]
        );
        assert!(refused("--policy knorm --ratio 0.5 --layers 3-1").contains("numbers below 256"));
        assert!(
            refused("--policy knorm --ratio 0.5 --layers 3 --positions compact").contains("--layers 3 lets layers")
        );
        assert!(refused("--policy random --rolling 64 --layers 3").contains("--layers all"));
    }

    #[test]
    fn a_context_shift_always_moves_survivors() {
        assert_eq!(
            names("--policy context-shift:keep=8,discard=16,context-shift --ratio 0.5 --positions keep,compact")[1..],
            ["context-shift:keep=8,discard=16@0.5/compact", "context-shift@0.5/compact"]
        );
        assert_eq!(
            names("--policy context-shift --keep-first 8 --ratio 0.5")[1..],
            ["context-shift:keep=8@0.5/compact"]
        );
        assert_eq!(names("--policy context-shift --keep-first 8 --keep-last 24")[1..], ["context-shift@8+24/compact"]);
        for (options, part) in [
            ("--rolling 100", "streaming:sinks=4 --rolling 100 --every 48 --positions compact"),
            ("--ratio 0.5 --fair", "leave one of them out"),
            ("--ratio 0.5 --granularity head", "--positions keep"),
        ] {
            let said = refused(&format!("--policy context-shift {options}"));
            assert!(said.contains(part), "{options}: {said}");
        }
    }

    #[test]
    fn a_rolling_budget_is_a_budget() {
        assert_eq!(
            names("--policy random,streaming,h2o --rolling 64")[1..],
            ["random@rolling=64/every=1", "streaming@rolling=64/every=1", "h2o@rolling=64/every=16"]
        );
        for (options, part) in [
            ("--rolling 64 --ratio 0.5", "--rolling is a budget"),
            ("--policy random,streaming --rolling 64 --every 60", "leaves no recent positions"),
            ("--rolling 64 --every 0", "--every is 0"),
            ("--policy streaming --rolling 5", "leaves no recent positions"),
            ("--rolling 64 --fair", "without --fair"),
            ("--ratio 0.5 --every 2", "--every belongs to --rolling"),
        ] {
            assert!(refused(options).contains(part), "{options}: {}", refused(options));
        }
    }

    #[test]
    fn what_excludes_each_other_or_changes_nothing_is_refused() {
        for (options, part) in [
            ("--ratio 0.5 --keep-last 3", "give one of them"),
            ("--policy random", "say how much to evict"),
            ("--policy nope --ratio 0.5", "there is no policy `nope`"),
            ("--policy none --ratio 0.5", "leave the budget out"),
            ("--policy forget:instruction --ratio 0.5", "leave the budget out"),
            ("--policy forget:instruction --protect system", "--protect none"),
            ("--policy sinks+forget:filler", "leaves sinks nothing to choose"),
            ("--policy forget:all", "known are none"),
            ("--policy random --ratio 0.5 --keep-first 8", "no policy here has sinks"),
            ("--policy streaming --ratio 0.5 --block 8", "--block is for --policy random"),
            ("--policy random --ratio 0.5 --block 0", "--block is 0"),
            ("--policy random --ratio 0.5 --aggregate max", "changes nothing here"),
            ("--policy random --keep-last 8 --fair", "does not go with --keep-last"),
            ("--ratio 0.5 --kv-type q5_1", "`q5_1` is not a KV cache type"),
            ("--ratio -0.1", "`-0.1` is not a ratio"),
        ] {
            assert!(refused(options).contains(part), "{options}: {}", refused(options));
        }
    }

    #[test]
    fn conditions_survive_their_json_and_differ_in_what_they_say() {
        let grid =
            Grid::parse("--policy random,snapkv --ratio 0.5 --block 4 --aggregate mean,max --positions keep,compact");
        let conditions = grid.unwrap().conditions().unwrap();
        for condition in &conditions {
            let json = serde_json::to_string(condition).unwrap();
            assert_eq!(serde_json::from_str::<Condition>(&json).unwrap(), *condition, "{json}");
            assert_eq!(condition.cells().len(), Condition::columns().count());
        }
        let named = |name: &str| conditions.iter().find(|condition| condition.to_string() == name).unwrap();
        let only = |a: &str, b: &str| named(a).only_difference(named(b)).map(|axis| axis.name);
        assert_eq!(only("random@0.5/block=4", "random@0.5/block=4/compact"), Some("positions"));
        assert_eq!(only("random@0.5/block=4", "snapkv@0.5/aggregate=max"), Some("policy"));
        assert_eq!(only("snapkv@0.5", "snapkv@0.5/aggregate=max/compact"), None);
        assert_eq!(only("none", "random@0.5/block=4"), None);
        assert_eq!(named("random@0.5/block=4/compact").words(), "Random (blocks of 4, compact) at 0.5");
        assert_eq!(Condition { budget: Budget::All, ..Condition::default() }.words(), "the full cache");
    }

    #[test]
    fn positions_are_traded_for_bits_and_nothing_else() {
        let of = |policy: &str, budget: &str, kv_type: &str| Condition {
            policy: policy.parse().unwrap(),
            budget: if budget.is_empty() { Budget::All } else { budget.parse().unwrap() },
            kv_type: kv_type.parse().unwrap(),
            ..Condition::default()
        };
        let half = of("random", "0.5", "f16");
        assert!(half.trades_bits(&of("random", "0.25", "q8_0")) && of("none", "", "q8_0").trades_bits(&half));
        let others = [of("random", "0.5", "q8_0"), of("random", "0.25", "f16"), of("streaming", "0.25", "q8_0")];
        assert!(others.iter().all(|other| !half.trades_bits(other)));
    }
}
