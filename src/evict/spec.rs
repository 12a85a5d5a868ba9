//! Policies by name, with parameters: `random`, `snapkv:window=32,kernel=7`, `sinks+knorm`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::own::{FILE, OWN, Opened, own_policies};
use super::{DEFAULT_SINKS, Own, OwnKind, POLICIES, Policy, Score, SourceFile, WRAPPERS, Wrapper};
use crate::{Error, Result};

/// The parameter that sets how many first positions survive.
pub(super) const SINKS: &str = "sinks";

/// What all variants of a policy share, whatever their parameters: one `static` in the policy's file.
pub struct Family {
    /// The name used in the CLI, in condition names and in the CSV.
    pub name: &'static str,
    /// Its name in reports, as its paper writes it: `SnapKV`.
    pub title: &'static str,
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

/// A wrapper with a value for each of its parameters.
type Wrapped = (&'static Wrapper, Vec<usize>);

/// A policy with a value for each of its parameters.
///
/// Its text form leaves out default values, so that `snapkv:window=64` and `snapkv` are the same:
///
/// ```
/// use kvllama::evict::PolicySpec;
///
/// let spec: PolicySpec = "snapkv:kernel=7,window=64".parse()?;
/// assert_eq!(spec.to_string(), "snapkv:kernel=7");
/// assert_eq!(spec.resolved(), "snapkv:window=64,kernel=7,maxpool=0");
/// # Ok::<(), kvllama::Error>(())
/// ```
#[derive(Clone)]
pub struct PolicySpec {
    /// The outermost first, with their parameters.
    wrappers: Vec<Wrapped>,
    family: &'static Family,
    values: Vec<usize>,
    /// Which program or file, if it is a policy of one's own.
    own: Option<Own>,
    /// What that computes, once it is [open](PolicySpec::opened), and the file it comes from.
    score: Option<(Arc<dyn Score>, Option<SourceFile>)>,
    policy: Arc<dyn Policy>,
}

impl PolicySpec {
    fn new(wrappers: Vec<Wrapped>, family: &'static Family, values: Vec<usize>) -> Self {
        let policy = Arc::from((family.make)(&values));
        PolicySpec { wrappers, family, values, own: None, score: None, policy }.made()
    }

    /// Makes the policy anew from parameters and wrappers.
    fn made(mut self) -> Self {
        let inner: Arc<dyn Policy> = match &self.score {
            Some((score, _)) => Arc::new(Opened(Arc::clone(score))),
            None => Arc::from((self.family.make)(&self.values)),
        };
        let wrappers = self.wrappers.iter().rev();
        self.policy = wrappers.fold(inner, |inner, (wrapper, values)| (wrapper.make)(values, inner));
        self
    }

    /// A policy that ranks positions by a score of your own. Its text form is `own:NAME`; a name has letters, digits,
    /// `-`, `_` and `.`.
    ///
    /// ```
    /// use kvllama::condition::Condition;
    /// use kvllama::evict::{Heads, Layer, Needs, PolicySpec, Score};
    /// use kvllama::exp::{Experiment, Observer, TrialRow};
    ///
    /// /// Keeps the keys with the largest component.
    /// struct Peaks;
    ///
    /// impl Score for Peaks {
    ///     fn needs(&self, _len: usize) -> Needs {
    ///         Needs::keys()
    ///     }
    ///
    ///     fn score(&self, layer: &Layer) -> Heads {
    ///         let peak = |key: &[f32]| f64::from(key.iter().fold(0.0, |peak: f32, x| peak.max(x.abs())));
    ///         layer.per_head(|head| (0..layer.len).map(|at| peak(layer.key(head, at))).collect())
    ///     }
    /// }
    ///
    /// struct Quiet;
    /// impl Observer for Quiet {
    ///     fn started(&mut self, _trials: usize, _finished: usize) {}
    ///     fn trial(&mut self, _row: &TrialRow, _mean: Option<f64>) {}
    /// }
    ///
    /// let policy = PolicySpec::own("peaks", Peaks)?;
    /// let mut experiment = Experiment::new("default", "demo", "--policy knorm --ratio 0.5")?;
    /// let own = Condition { policy, budget: "0.5".parse()?, ..Condition::default() };
    /// assert_eq!(own.to_string(), "own:peaks@0.5");
    /// experiment.settings.conditions.push(own);
    /// experiment.settings.limit = Some(1);
    /// experiment.settings.generation.n_predict = 8;
    /// let directory = tempfile::tempdir().unwrap();
    /// assert_eq!(experiment.run(directory.path(), &mut Quiet)?.finished, 3); // the full cache, knorm and peaks
    /// # Ok::<(), kvllama::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the name has other characters.
    pub fn own(name: &str, score: impl Score + 'static) -> Result<Self> {
        let spec: PolicySpec = format!("own:{name}").parse()?;
        Ok(spec.opened(Arc::new(score), None))
    }

    /// Which program or file it is, for a policy of one's own.
    pub fn own_source(&self) -> Option<&Own> {
        self.own.as_ref()
    }

    /// Whether it can run: a policy of one's own must have been opened.
    pub fn is_open(&self) -> bool {
        self.own.is_none() || self.score.is_some()
    }

    /// The policy with what its program or file computes. `file` goes into manifests.
    #[must_use]
    pub fn opened(&self, score: Arc<dyn Score>, file: Option<SourceFile>) -> Self {
        PolicySpec { score: Some((score, file)), ..self.clone() }.made()
    }

    /// The policy, opened as another of the same source is.
    #[must_use]
    pub fn opened_as(&self, other: &Self) -> Self {
        PolicySpec { score: other.score.clone(), ..self.clone() }.made()
    }

    /// Whether two policies of one's own ask the same program or file, whatever their wrappers.
    pub fn same_source(&self, other: &Self) -> bool {
        self.own == other.own && self.values == other.values
    }

    /// The program or file that it was opened from.
    pub fn source_file(&self) -> Option<&SourceFile> {
        self.score.as_ref().and_then(|(_, file)| file.as_ref())
    }

    /// The policy's name without parameters and wrappers: `snapkv`.
    pub fn name(&self) -> &'static str {
        self.family.name
    }

    /// The policy's name, summary and parameters.
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// The wrappers around it, the outermost first.
    pub fn wrappers(&self) -> impl Iterator<Item = &'static Wrapper> + '_ {
        self.wrappers.iter().map(|(wrapper, _)| *wrapper)
    }

    /// The value of one of the policy's own parameters, such as `window`; `None` if it has no such parameter.
    pub fn parameter(&self, name: &str) -> Option<usize> {
        let at = self.family.parameters.iter().position(|parameter| parameter.name == name)?;
        Some(self.values[at])
    }

    /// The policy itself.
    pub fn policy(&self) -> &dyn Policy {
        &*self.policy
    }

    /// The scores by which it ranks positions; `None` for a policy without scores.
    pub fn score(&self) -> Option<&dyn Score> {
        self.policy.score()
    }

    /// How many first positions survive under a ratio; `None` unless the policy is `streaming` or `sinks+POLICY`.
    pub fn sinks(&self) -> Option<usize> {
        // The sinks of lagkv belong to its score, not to the budget.
        let wrapped = self.wrappers.iter().find(|(wrapper, _)| wrapper.name == SINKS).map(|(_, values)| values[0]);
        wrapped.or_else(|| self.policy.is_sinks_and_window().then(|| self.values[0]))
    }

    /// The same policy with another number of sinks; unchanged if it has no sinks or if its name sets their number.
    #[must_use]
    pub fn with_sinks(&self, sinks: usize) -> Self {
        if self.sinks() != Some(DEFAULT_SINKS) {
            return self.clone();
        }
        let (mut wrappers, mut values) = (self.wrappers.clone(), self.values.clone());
        match wrappers.iter_mut().find(|(wrapper, _)| wrapper.name == SINKS) {
            Some((_, own)) => own[0] = sinks,
            None => values[0] = sinks,
        }
        PolicySpec { wrappers, values, ..self.clone() }.made()
    }

    /// The same policy with other values for parameters that have their defaults; those it does not have are left out.
    #[must_use]
    pub fn with_defaults(&self, values: &[(&str, usize)]) -> Self {
        let mut policy = self.clone();
        let wrapped = policy.wrappers.iter_mut().map(|(wrapper, values)| (wrapper.parameters, values));
        let all = wrapped.chain([(policy.family.parameters, &mut policy.values)]);
        for (parameter, value) in all.flat_map(|(parameters, values)| parameters.iter().zip(values)) {
            if let Some((_, other)) =
                values.iter().find(|(name, _)| *name == parameter.name && !is_set(parameter, *value))
            {
                *value = *other;
            }
        }
        policy.made()
    }

    /// The name with every parameter, defaults included, as a manifest stores it.
    pub fn resolved(&self) -> String {
        self.text(|_, _| true)
    }

    /// The name in reports, as papers write it, with the parameters that differ from their defaults.
    ///
    /// ```
    /// use kvllama::evict::PolicySpec;
    ///
    /// let spec: PolicySpec = "adakv+snapkv:window=16".parse()?;
    /// assert_eq!(spec.title(), "AdaKV + SnapKV (window 16)");
    /// # Ok::<(), kvllama::Error>(())
    /// ```
    pub fn title(&self) -> String {
        self.title_with(Vec::new())
    }

    /// The same with every parameter, defaults included.
    pub(crate) fn definition(&self) -> String {
        self.titled(self.parameters(|_, _| true, ' '))
    }

    /// The same with more in its parentheses, after the parameters.
    pub(crate) fn title_with(&self, details: Vec<String>) -> String {
        self.titled([self.parameters(is_set, ' '), details].concat())
    }

    fn titled(&self, details: Vec<String>) -> String {
        let title = match &self.own {
            Some(Own { kind: OwnKind::Scores, source, .. }) => format!("scores of {}", file_name(source)),
            Some(Own { kind: OwnKind::Exec | OwnKind::Library, source, .. }) => file_name(source).to_owned(),
            _ => self.family.title.to_owned(),
        };
        let titles: Vec<_> = self.wrappers().map(|wrapper| wrapper.title.to_owned()).chain([title]).collect();
        let details = details.join(", ");
        let details = if details.is_empty() { details } else { format!(" ({details})") };
        format!("{}{details}", titles.join(" + "))
    }

    /// `window=16` for each parameter that is `shown`, in the order of wrappers and policy.
    fn parameters(&self, shown: impl Fn(&Parameter, usize) -> bool, between: char) -> Vec<String> {
        let wrapped = self.wrappers.iter().map(|(wrapper, values)| (wrapper.parameters, values));
        let all = wrapped.chain([(self.family.parameters, &self.values)]);
        all.flat_map(|(parameters, values)| parameters.iter().zip(values.iter().copied()))
            .filter(|(parameter, value)| shown(parameter, *value))
            .map(|(parameter, value)| format!("{}{between}{value}", parameter.name))
            .chain(
                self.own.iter().flat_map(|own| &own.parameters).map(|(name, value)| format!("{name}{between}{value}")),
            )
            .collect()
    }

    fn text(&self, shown: impl Fn(&Parameter, usize) -> bool) -> String {
        let parameters = self.parameters(shown, '=');
        let names: Vec<_> = self.wrappers().map(|wrapper| wrapper.name).chain([self.family.name]).collect();
        let named = self.own.as_ref().filter(|own| own.kind != OwnKind::Filters);
        let source = named.map_or_else(String::new, |own| format!(":{}", own.source));
        let colon = if parameters.is_empty() { "" } else { ":" };
        format!("{}{source}{colon}{}", names.join("+"), parameters.join(","))
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
        if text.chars().any(char::is_control) {
            return Err(Error::input(format!(
                "`{}` names no policy: a name is one line, without control characters",
                text.escape_debug()
            )));
        }
        let head = text.split(':').next().unwrap_or(text);
        let own = OWN.iter().find(|(family, ..)| Some(family.name) == head.rsplit('+').next());
        let is_name = POLICIES.iter().any(|family| Some(family.name) == text.rsplit('+').next());
        let parts = text.split_once(':').filter(|_| own.is_some() || !is_name);
        let (name, given) = parts.map_or((text, None), |(name, given)| (name, Some(given)));
        let (wrappers, plain) = name.rsplit_once('+').map_or(("", name), |(wrappers, plain)| (wrappers, plain));
        let (family, own, given) = match own {
            Some(&(family, kind @ OwnKind::Filters, _)) => {
                (family, Some(Own { kind, source: String::new(), parameters: Vec::new() }), given)
            }
            Some(&(family, kind, what)) => {
                let (source, given) = source_of(text, kind, what, given.unwrap_or_default())?;
                (family, Some(Own { kind, source, parameters: Vec::new() }), given)
            }
            None => (find(POLICIES.iter().copied(), |family| family.name, plain)?, None, given),
        };
        let mut found: Vec<Wrapped> = Vec::new();
        for wrapper in wrappers.split('+').filter(|_| name.contains('+')) {
            let wrapper = find(WRAPPERS.iter().copied(), |wrapper| wrapper.name, wrapper)?;
            if found.iter().any(|(other, _)| other.name == wrapper.name) {
                return Err(Error::input(format!("`{text}` names {} twice; once is enough", wrapper.name)));
            }
            found.push((wrapper, defaults(wrapper.parameters)));
        }
        let mut spec = PolicySpec { own, ..Self::new(found, family, defaults(family.parameters)) };
        if let Some((wrapper, _)) = spec.wrappers.first() {
            let wrapper = wrapper.name;
            let inner = (family.make)(&spec.values);
            if inner.is_fixed() {
                return Err(Error::input(format!(
                    "`{name}`: {plain} leaves {wrapper} nothing to choose, because its positions are fixed; write \
                     --policy {plain}"
                )));
            }
            if let Some(wrapper) = spec.wrappers().find(|wrapper| wrapper.needs_scores && inner.score().is_none()) {
                return Err(Error::input(format!(
                    "`{name}`: {} uses scores, and {plain} has none; wrap a policy with scores, such as {}+snapkv",
                    wrapper.name, wrapper.name
                )));
            }
            if let [one, other, ..] = spec.wrappers().filter(|wrapper| wrapper.ranks).collect::<Vec<_>>()[..] {
                return Err(Error::input(format!(
                    "`{name}`: {} and {} each rank positions in their own way; take one of them",
                    one.name, other.name
                )));
            }
        }
        for item in given.iter().flat_map(|given| given.split(',')).map(str::trim) {
            spec.set(text, item)?;
        }
        Ok(spec.made())
    }
}

/// The program, file or name that a policy of one's own starts with, and the parameters after it.
fn source_of<'a>(text: &str, kind: OwnKind, what: &str, given: &'a str) -> Result<(String, Option<&'a str>)> {
    let (source, parameters) = match given.rsplit_once(':') {
        Some((source, parameters)) if parameters.contains('=') => (source, Some(parameters)),
        _ => (given, None),
    };
    let plain = |symbol: char| symbol.is_ascii_alphanumeric() || "-_.".contains(symbol);
    if kind == OwnKind::Library && (source.is_empty() || !source.chars().all(plain)) {
        return Err(Error::input(format!("`{text}`: a name has letters, digits, `-`, `_` and `.`, such as own:peaks")));
    }
    let example =
        if kind == OwnKind::Exec { "exec:./mine.py or exec:./mine.py:window=16" } else { "scores:mine.jsonl" };
    if source.is_empty() {
        return Err(Error::input(format!("`{text}` names no {what}; write {example}")));
    }
    Ok((source.to_owned(), parameters))
}

/// The last part of a path.
fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// The policy or wrapper of this name.
fn find<T>(known: impl Iterator<Item = T>, name: impl Fn(&T) -> &'static str, wanted: &str) -> Result<T> {
    let mut known = known;
    known.find(|one| name(one) == wanted).ok_or_else(|| {
        let own = own_policies().map(|(family, what)| format!("{}:{what}", family.name));
        let policies: Vec<_> = POLICIES.iter().map(|family| family.name.to_owned()).chain(own).collect();
        let wrappers: Vec<_> = WRAPPERS.iter().map(|wrapper| format!("{}+POLICY", wrapper.name)).collect();
        Error::input(format!(
            "there is no policy `{wanted}`; known are {}, and {}, such as sinks+knorm",
            policies.join(", "),
            wrappers.join(", ")
        ))
    })
}

/// Whether a parameter has another value than its default.
fn is_set(parameter: &Parameter, value: usize) -> bool {
    value != parameter.default
}

fn defaults(parameters: &[Parameter]) -> Vec<usize> {
    parameters.iter().map(|parameter| parameter.default).collect()
}

impl PolicySpec {
    /// Sets a parameter from a text such as `window=32`. If a wrapper and the policy have parameters of the same name,
    /// the outermost wrapper's is meant.
    fn set(&mut self, text: &str, item: &str) -> Result<()> {
        let family = (self.family.parameters, &mut self.values);
        let wrappers = self.wrappers.iter_mut().map(|(wrapper, values)| (wrapper.parameters, values));
        let mut known: Vec<(&Parameter, &mut usize)> =
            wrappers.chain([family]).flat_map(|(parameters, values)| parameters.iter().zip(values)).collect();
        let takes: Vec<_> = known
            .iter()
            .map(|(one, _)| format!("{}={} ({} to {})", one.name, one.default, one.range.start(), one.range.end()))
            .collect();
        let policy = text.split(':').next().unwrap_or(text);
        let file = self.own.as_ref().filter(|own| own.kind == OwnKind::Filters).map(|_| format!("{FILE}=PATH"));
        let takes: Vec<_> = takes.into_iter().chain(file).collect();
        let takes = match takes.is_empty() {
            true => format!("{policy} has no parameters"),
            false => format!("{policy} takes {}", takes.join(", ")),
        };
        let bad = || Error::input(format!("`{text}`: `{item}` is no parameter of this policy; {takes}"));
        let (name, given) = item.split_once('=').ok_or_else(bad)?;
        let found = known.iter_mut().find(|(one, _)| one.name == name);
        if let (None, Some(own)) = (&found, &mut self.own)
            && own.kind == OwnKind::Exec
            && !name.is_empty()
        {
            // The program knows its own parameters.
            own.parameters.retain(|(other, _)| other != name);
            own.parameters.push((name.to_owned(), given.to_owned()));
            return Ok(());
        }
        if let (None, Some(own)) = (&found, &mut self.own)
            && own.kind == OwnKind::Filters
            && name == FILE
            && !given.is_empty()
        {
            own.parameters = vec![(name.to_owned(), given.to_owned())];
            return Ok(());
        }
        let (parameter, value) = found.ok_or_else(bad)?;
        **value = given.parse().ok().filter(|value| parameter.range.contains(value)).ok_or_else(bad)?;
        Ok(())
    }
}

impl fmt::Display for PolicySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(is_set))
    }
}

impl fmt::Debug for PolicySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resolved())
    }
}

impl PartialEq for PolicySpec {
    fn eq(&self, other: &Self) -> bool {
        self.resolved() == other.resolved()
    }
}

impl Eq for PolicySpec {}

impl Hash for PolicySpec {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.resolved().hash(state);
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
        assert_eq!(spec.resolved(), "sinks+snapkv:sinks=4,window=8,kernel=5,maxpool=0");
        assert_eq!(spec.resolved().parse::<PolicySpec>().unwrap(), spec);
        assert_eq!(spec.with_sinks(2).to_string(), "sinks+snapkv:sinks=2,window=8");
        assert_eq!("random".parse::<PolicySpec>().unwrap().with_sinks(2).to_string(), "random");
    }

    #[test]
    fn a_program_has_a_path_and_parameters_of_its_own() {
        assert_eq!(
            names("exec:./a=b+random.py,snapkv,adakv+exec:../x/mine.py:window=16,safeguard=5,mode=x,scores:s.jsonl"),
            [
                "exec:./a=b+random.py",
                "snapkv",
                "adakv+exec:../x/mine.py:safeguard=5,window=16,mode=x",
                "scores:s.jsonl"
            ]
        );
        let spec: PolicySpec = "sinks+exec:../x/mine.py:window=16,timeout=5".parse().unwrap();
        assert_eq!(spec.resolved(), "sinks+exec:../x/mine.py:sinks=4,timeout=5,window=16");
        assert_eq!(spec.resolved().parse::<PolicySpec>().unwrap(), spec);
        assert_eq!(spec.title(), "Sinks + mine.py (timeout 5, window 16)");
        assert_eq!(spec.with_sinks(2).to_string(), "sinks+exec:../x/mine.py:sinks=2,timeout=5,window=16");
        assert!(!spec.is_open());
    }

    #[test]
    fn what_is_unknown_or_out_of_range_is_refused_with_what_is_known() {
        for (text, part) in [
            ("nope", "known are none, streaming"),
            ("sinks+streaming", "write --policy streaming"),
            ("snapkv:windw=3", "snapkv takes window=64 (1 to 65536), kernel=5"),
            ("snapkv:window=0", "`window=0` is no parameter"),
            ("snapkv:window", "takes window"),
            ("random:sinks=3", "random has no parameters"),
            ("snapkv:", "is no parameter"),
            ("exec", "names no PROGRAM; write exec:./mine.py"),
            ("exec:", "names no PROGRAM"),
            ("exec::window=3", "names no PROGRAM"),
            ("exec:./m.py:timeout=0", "`timeout=0` is no parameter"),
            ("exec:./m.py:window=3,=4", "`=4` is no parameter"),
            ("scores:s.jsonl:window=3", "`window=3` is no parameter"),
            ("own:a b", "a name has letters"),
        ] {
            let error = text.parse::<PolicySpec>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
