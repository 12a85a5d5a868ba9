//! Policies by name, with parameters: `random`, `snapkv:window=32,kernel=7`, `sinks+knorm`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{DEFAULT_SINKS, POLICIES, Policy, Score};
use crate::{Error, Result};

/// The parameter that sets how many first positions survive.
pub(super) const SINKS: &str = "sinks";

/// `sinks+POLICY` keeps the first positions in addition to the policy's own choice.
const WITH_SINKS: &str = "sinks+";

/// What all variants of a policy share, whatever their parameters: one `static` in the policy's file.
pub struct Family {
    /// The name used in the CLI, in condition names and in the CSV.
    pub name: &'static str,
    /// What it keeps, in one line for lists.
    pub summary: &'static str,
    /// The paper that defines it, as an arXiv id.
    pub paper: Option<&'static str>,
    /// Its parameters, in the order in which [`Family::make`] takes their values.
    pub parameters: &'static [Parameter],
    /// Makes the policy from one value per parameter.
    pub make: fn(&[usize]) -> Box<dyn Policy>,
}

/// A numeric parameter of a policy, such as `window` in `snapkv:window=32`.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// The value if none is given.
    pub default: usize,
    /// The allowed values.
    pub range: RangeInclusive<usize>,
    /// What it means, in one line for lists.
    pub about: &'static str,
}

/// The parameter of `sinks+POLICY`.
static WRAPPER: Parameter =
    Parameter { name: SINKS, default: DEFAULT_SINKS, range: 0..=65_536, about: "first positions that survive" };

/// A policy with a value for each of its parameters.
///
/// Its text form leaves out default values, so that `snapkv:window=64` and `snapkv` are the same:
///
/// ```
/// use kvllama::evict::PolicySpec;
///
/// let spec: PolicySpec = "snapkv:kernel=7,window=64".parse()?;
/// assert_eq!(spec.to_string(), "snapkv:kernel=7");
/// assert_eq!(spec.resolved(), "snapkv:window=64,kernel=7");
/// # Ok::<(), kvllama::Error>(())
/// ```
#[derive(Clone)]
pub struct PolicySpec {
    family: &'static Family,
    values: Vec<usize>,
    /// The number of sinks of `sinks+POLICY`.
    wrapper: Option<usize>,
    policy: Arc<dyn Policy>,
}

impl PolicySpec {
    fn new(family: &'static Family, values: Vec<usize>, wrapper: Option<usize>) -> Self {
        PolicySpec { family, policy: Arc::from((family.make)(&values)), values, wrapper }
    }

    /// The policy's name without parameters: `snapkv`.
    pub fn name(&self) -> &'static str {
        self.family.name
    }

    /// The policy's name, summary and parameters.
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// The policy itself.
    pub fn policy(&self) -> &dyn Policy {
        &*self.policy
    }

    /// The scores by which it ranks positions; `None` for a policy without scores.
    pub fn score(&self) -> Option<&dyn Score> {
        self.policy.score()
    }

    /// Whether it is `sinks+POLICY`.
    pub fn is_wrapped(&self) -> bool {
        self.wrapper.is_some()
    }

    /// How many first positions survive under a ratio; `None` unless the policy is `streaming` or `sinks+POLICY`.
    pub fn sinks(&self) -> Option<usize> {
        // The sinks of lagkv belong to its score, not to the budget.
        self.wrapper.or_else(|| self.policy.is_sinks_and_window().then(|| self.values[0]))
    }

    /// The same policy with another number of sinks; unchanged if it has no sinks or if its name sets their number.
    #[must_use]
    pub fn with_sinks(&self, sinks: usize) -> Self {
        let (mut values, mut wrapper) = (self.values.clone(), self.wrapper);
        match &mut wrapper {
            Some(own) if *own == DEFAULT_SINKS => *own = sinks,
            None if self.sinks() == Some(DEFAULT_SINKS) => values[0] = sinks,
            _ => return self.clone(),
        }
        Self::new(self.family, values, wrapper)
    }

    /// The name with every parameter, defaults included, as a manifest stores it.
    pub fn resolved(&self) -> String {
        self.text(|_, _| true)
    }

    fn text(&self, shown: impl Fn(&Parameter, usize) -> bool) -> String {
        let of_wrapper = self.wrapper.map(|value| (&WRAPPER, value));
        let own = self.family.parameters.iter().zip(self.values.iter().copied());
        let parameters: Vec<_> = of_wrapper
            .into_iter()
            .chain(own)
            .filter(|(parameter, value)| shown(parameter, *value))
            .map(|(parameter, value)| format!("{}={value}", parameter.name))
            .collect();
        let wrapper = if self.is_wrapped() { WITH_SINKS } else { "" };
        let colon = if parameters.is_empty() { "" } else { ":" };
        format!("{wrapper}{}{colon}{}", self.family.name, parameters.join(","))
    }

    /// Reads a list such as `streaming,snapkv:window=16,kernel=7,random`. An item `name=value` that names no policy
    /// belongs to the policy before it.
    ///
    /// # Errors
    /// If a policy or a parameter is unknown, or a value out of range.
    pub fn parse_list<S: AsRef<str>>(texts: &[S]) -> Result<Vec<Self>> {
        let mut items: Vec<String> = Vec::new();
        for item in texts.iter().flat_map(|text| text.as_ref().split(',')).map(str::trim) {
            match items.last_mut() {
                Some(policy) if item.contains('=') && !item.contains(':') => {
                    policy.push(if policy.contains(':') { ',' } else { ':' });
                    policy.push_str(item);
                }
                _ => items.push(item.to_owned()),
            }
        }
        items.iter().map(|item| item.parse()).collect()
    }
}

impl FromStr for PolicySpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bare = text.strip_prefix(WITH_SINKS).unwrap_or(text);
        let is_name = POLICIES.iter().any(|family| family.name == bare);
        let parts = text.split_once(':').filter(|_| !is_name);
        let (name, given) = parts.map_or((text, None), |(name, given)| (name, Some(given)));
        let (plain, wrapped) = name.strip_prefix(WITH_SINKS).map_or((name, false), |plain| (plain, true));
        let family = POLICIES.iter().copied().find(|family| family.name == plain).ok_or_else(|| {
            let known: Vec<_> = POLICIES.iter().map(|family| family.name).collect();
            Error::input(format!(
                "there is no policy `{plain}`; known are {}, and sinks+POLICY, such as sinks+knorm",
                known.join(", ")
            ))
        })?;
        let mut spec = Self::new(
            family,
            family.parameters.iter().map(|parameter| parameter.default).collect(),
            wrapped.then_some(WRAPPER.default),
        );
        if wrapped && spec.policy.target().is_some() {
            return Err(Error::input(format!(
                "`{name}`: {plain} evicts a certain part of the prompt; it takes no sinks"
            )));
        }
        if wrapped && (spec.policy.keeps_all() || spec.policy.is_sinks_and_window()) {
            return Err(Error::input(format!("`{name}`: {plain} keeps its sinks anyway; write --policy {plain}")));
        }
        for item in given.iter().flat_map(|given| given.split(',')).map(str::trim) {
            spec.set(text, item)?;
        }
        spec.policy = Arc::from((family.make)(&spec.values));
        Ok(spec)
    }
}

impl PolicySpec {
    fn set(&mut self, text: &str, item: &str) -> Result<()> {
        let own = self.family.parameters;
        let known = || {
            let wrapper = self.is_wrapped().then_some(&WRAPPER);
            let known: Vec<_> = wrapper
                .into_iter()
                .chain(own)
                .map(|one| format!("{}={} ({} to {})", one.name, one.default, one.range.start(), one.range.end()))
                .collect();
            match known.is_empty() {
                true => format!("{} has no parameters", self.family.name),
                false => format!("{} takes {}", self.family.name, known.join(", ")),
            }
        };
        let bad = || Error::input(format!("`{text}`: `{item}` is no parameter of this policy; {}", known()));
        let (name, value) = item.split_once('=').ok_or_else(bad)?;
        let index = own.iter().position(|parameter| parameter.name == name);
        let of_wrapper = self.is_wrapped() && name == SINKS;
        let parameter = if of_wrapper { Some(&WRAPPER) } else { index.map(|index| &own[index]) }.ok_or_else(bad)?;
        let value = value.parse().ok().filter(|value| parameter.range.contains(value)).ok_or_else(bad)?;
        match index {
            Some(index) if !of_wrapper => self.values[index] = value,
            _ => self.wrapper = Some(value),
        }
        Ok(())
    }
}

impl fmt::Display for PolicySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(|parameter, value| value != parameter.default))
    }
}

impl fmt::Debug for PolicySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resolved())
    }
}

impl PartialEq for PolicySpec {
    fn eq(&self, other: &Self) -> bool {
        (self.family.name, &self.values, self.wrapper) == (other.family.name, &other.values, other.wrapper)
    }
}

impl Eq for PolicySpec {}

impl Hash for PolicySpec {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.family.name, &self.values, self.wrapper).hash(state);
    }
}

impl Serialize for PolicySpec {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.resolved())
    }
}

impl<'de> Deserialize<'de> for PolicySpec {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        PolicySpec::parse_list(&[text]).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn parameters_are_part_of_the_name_and_defaults_are_left_out() {
        assert_eq!(
            names(
                "streaming:sinks=8, snapkv:window=16,kernel=7,random,snapkv:kernel=5,sinks+knorm:sinks=2,sinks+lagkv:lag=64"
            ),
            [
                "streaming:sinks=8",
                "snapkv:window=16,kernel=7",
                "random",
                "snapkv",
                "sinks+knorm:sinks=2",
                "sinks+lagkv:lag=64"
            ]
        );
        let spec: PolicySpec = "sinks+snapkv:window=8".parse().unwrap();
        assert_eq!(spec.resolved(), "sinks+snapkv:sinks=4,window=8,kernel=5");
        assert_eq!(spec.resolved().parse::<PolicySpec>().unwrap(), spec);
        assert_eq!(spec.with_sinks(2).to_string(), "sinks+snapkv:sinks=2,window=8");
        assert_eq!("random".parse::<PolicySpec>().unwrap().with_sinks(2).to_string(), "random");
    }

    #[test]
    fn what_is_unknown_or_out_of_range_is_refused_with_what_is_known() {
        for (text, part) in [
            ("nope", "known are none, streaming"),
            ("sinks+streaming", "keeps its sinks anyway"),
            ("snapkv:windw=3", "snapkv takes window=64 (1 to 65536), kernel=5"),
            ("snapkv:window=0", "`window=0` is no parameter"),
            ("snapkv:window", "takes window"),
            ("random:sinks=3", "random has no parameters"),
            ("snapkv:", "is no parameter"),
        ] {
            let error = text.parse::<PolicySpec>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
