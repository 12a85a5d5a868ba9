//! The primary comparison of a study, named before the first trial.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::{Error, Result};

/// Separates the two sides of a comparison.
const AGAINST: &str = " vs ";

/// The one comparison that a study is about. The report tests it alone at 5%; everything else is exploratory.
///
/// A side is the name of a condition, as in `trials.csv`, or that name without its budget, which is the whole curve:
///
/// | text | comparison |
/// |---|---|
/// | `random` | how the score falls with the fraction evicted |
/// | `random@0.5` | the cost against the full cache |
/// | `snapkv vs random` | the area between two curves |
/// | `snapkv@0.5 vs random@0.5` | two conditions on the same examples |
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Primary {
    /// The condition or curve in question.
    pub of: String,
    /// What it is compared with; `None` for the full cache.
    pub against: Option<String>,
}

/// The conditions of one side, by their index.
enum Side {
    Condition(usize),
    Curve(Vec<usize>),
}

impl Primary {
    /// Checks that a run with these conditions can answer the question.
    ///
    /// # Errors
    /// If a name is unknown, if there is no full cache to compare with, or if the two sides differ in more than one
    /// thing.
    pub fn check(&self, conditions: &[Condition]) -> Result<()> {
        let of = side(&self.of, conditions)?;
        let refuse = |why: String| Err(Error::input(format!("--primary \"{self}\": {why}")));
        let Some(against) = &self.against else {
            if !conditions.contains(&conditions[of.indices()[0]].baseline()) {
                return refuse("it is compared with the full cache; leave --no-baseline out".to_owned());
            }
            return match &of {
                Side::Curve(curve) if curve.len() < 2 => refuse(format!(
                    "a curve needs at least two ratios; add one to --ratio, or name the condition: {}",
                    conditions[curve[0]]
                )),
                _ => Ok(()),
            };
        };
        let other = side(against, conditions)?;
        let comparable = |&(a, b): &(usize, usize)| conditions[a].only_difference(&conditions[b]).is_some();
        let needed = match (&of, &other) {
            (Side::Curve(_), Side::Curve(_)) => 2,
            (Side::Condition(_), Side::Condition(_)) => 1,
            _ => return refuse("one side is a condition and the other a curve; name two of a kind".to_owned()),
        };
        let (left, right) = (of.indices(), other.indices());
        let pairs = left.iter().flat_map(|&a| right.iter().map(move |&b| (a, b))).filter(comparable).count();
        match pairs {
            found if found >= needed => Ok(()),
            _ if needed == 2 => refuse(
                "two curves are compared if they differ in one thing, such as the policy, and share at least two ratios"
                    .to_owned(),
            ),
            _ => refuse(
                "two conditions are compared if they have the same budget and differ in one thing, such as the policy"
                    .to_owned(),
            ),
        }
    }
}

impl Side {
    fn indices(&self) -> Vec<usize> {
        match self {
            Side::Condition(index) => vec![*index],
            Side::Curve(curve) => curve.clone(),
        }
    }
}

/// The conditions that a side names.
fn side(name: &str, conditions: &[Condition]) -> Result<Side> {
    let cut = || (0..conditions.len()).filter(|&index| !conditions[index].is_full());
    if let Some(index) = cut().find(|&index| conditions[index].to_string() == name) {
        return Ok(Side::Condition(index));
    }
    let of_curve = |&index: &usize| conditions[index].curve().as_deref() == Some(name);
    let curve: Vec<usize> = cut().filter(of_curve).collect();
    if !curve.is_empty() {
        return Ok(Side::Curve(curve));
    }
    let mut known: Vec<String> = cut().filter_map(|index| conditions[index].curve()).collect();
    known.dedup();
    known.extend(cut().map(|index| conditions[index].to_string()));
    Err(Error::input(format!(
        "--primary names `{name}`, which is not in this run; known are {}, and two of them with \" vs \" between",
        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
    )))
}

impl FromStr for Primary {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (of, against) = match words.split_once(AGAINST) {
            Some((of, against)) => (of.to_owned(), Some(against.to_owned())),
            None => (words, None),
        };
        let sides = std::iter::once(&of).chain(&against);
        if sides.clone().any(|side| side.is_empty() || side.contains(' ')) || against.as_ref() == Some(&of) {
            return Err(Error::input(format!(
                "`{text}` is no primary comparison; write a policy (random), a condition (random@0.5), or two of them, such \
                 as \"snapkv vs random\""
            )));
        }
        Ok(Primary { of, against })
    }
}

impl fmt::Display for Primary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.against {
            Some(against) => write!(f, "{}{AGAINST}{against}", self.of),
            None => f.write_str(&self.of),
        }
    }
}

impl TryFrom<String> for Primary {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Primary> for String {
    fn from(primary: Primary) -> Self {
        primary.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::Grid;

    #[test]
    fn a_primary_comparison_is_checked_against_the_grid() {
        let grid = Grid::parse("--policy random,snapkv:window=32 --ratio 0.25,0.5 --positions keep,compact").unwrap();
        let conditions = grid.conditions().unwrap();
        let check = |text: &str| text.parse::<Primary>().and_then(|primary| primary.check(&conditions));
        for text in [
            "random",
            "random/compact",
            "random@0.5/compact",
            "snapkv:window=32  vs random",
            "random@0.25 vs random@0.25/compact",
        ] {
            check(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        for (text, part) in [
            ("h2o", "names `h2o`, which is not in this run; known are random, random/compact"),
            ("random vs random", "is no primary comparison"),
            ("random against snapkv", "is no primary comparison"),
            ("random@0.5 vs random", "one side is a condition"),
            ("random@0.5 vs random@0.25", "the same budget and differ in one thing"),
            ("random/compact vs snapkv:window=32", "differ in one thing"),
        ] {
            let error = check(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let single = Grid { baseline: false, ..Grid::parse("--ratio 0.5").unwrap() }.conditions().unwrap();
        let error = Primary::from_str("random").unwrap().check(&single).unwrap_err().to_string();
        assert!(error.contains("leave --no-baseline out"), "{error}");
        let single = Grid::parse("--ratio 0.5").unwrap().conditions().unwrap();
        let error = Primary::from_str("random").unwrap().check(&single).unwrap_err().to_string();
        assert!(error.contains("name the condition: random@0.5"), "{error}");
    }
}
