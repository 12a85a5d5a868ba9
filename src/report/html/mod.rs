//! The report as one page that needs no network.
//!
//! Everything a response may contain ends up as text: the template escapes, the data is JSON
//! without a single `<`, and the content security policy runs our own script only.

mod data;
mod probe;
mod prose;
mod tables;

use std::path::Path;

use base64::Engine as _;
use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::analysis::{Analysis, Question};
use super::figures::{self, Content, Figure};
use super::words::{self, percent, thousands};
use super::{Run, Table, Warning, methods};
use crate::{Error, Result};

/// Bytes of examples after which no further ones are added: a browser needs seconds to read a larger page.
const MOST: usize = 64 << 20;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Writes the page atomically.
///
/// # Errors
/// If the file cannot be written, or a row's evicted ranges cannot be read.
pub fn write(runs: &[Run], analysis: &Analysis, path: &Path) -> Result<()> {
    crate::files::write_atomically(path, page(runs, analysis)?.as_bytes())
}

/// The page.
///
/// # Errors
/// If a row's evicted ranges cannot be read.
pub fn page(runs: &[Run], analysis: &Analysis) -> Result<String> {
    let table = Table::new(runs);
    let (examples, shown) = data::examples(&table, MOST)?;
    let mut page = frame(runs, &table, analysis, shown)?;
    page.push_str(&examples);
    page.push_str(&format!("<script>{SCRIPT}</script>\n</body>\n</html>\n"));
    Ok(page)
}

/// A figure in the page.
#[derive(Serialize)]
struct Drawn {
    /// The question of a figure of differences.
    heading: Option<String>,
    caption: String,
    wide: String,
    narrow: String,
}

impl Drawn {
    fn new(figure: &Figure) -> Self {
        Drawn {
            heading: match figure.content {
                Content::Differences(question) => Some(words::capitalized(question.title())),
                _ => None,
            },
            caption: figure.caption.clone(),
            wide: figure.wide.inline("wide", &figure.title),
            narrow: figure.narrow.inline("narrow", &figure.title),
        }
    }
}

/// A fact about the runs.
#[derive(Serialize)]
struct Fact {
    name: &'static str,
    value: String,
}

/// A section of the page.
#[derive(Serialize)]
struct Section {
    id: &'static str,
    name: &'static str,
}

/// A group of comparisons with the same question.
#[derive(Serialize)]
struct Asked {
    id: Question,
    title: &'static str,
}

/// The values of the template.
#[derive(Serialize)]
struct Context<'a> {
    version: &'static str,
    style: &'static str,
    style_hash: String,
    script_hash: String,
    title: String,
    summary: &'a [String],
    primary: Option<String>,
    warnings: &'a [Warning],
    facts: Vec<Fact>,
    sections: Vec<Section>,
    curves: Option<Drawn>,
    earned_curves: Option<Drawn>,
    doses: Option<tables::Table>,
    curve_comparisons: Option<tables::Table>,
    differences: Vec<Drawn>,
    places: Option<Drawn>,
    survival: Option<Drawn>,
    fidelity: Option<Drawn>,
    costs: Vec<Drawn>,
    questions: Vec<Asked>,
    comparisons: Option<tables::Table>,
    conditions: Vec<(&'static str, tables::Table)>,
    chance: Option<String>,
    noise: Option<String>,
    types: Option<tables::Heat>,
    layers: Vec<tables::Heat>,
    odds: Vec<String>,
    forgotten: Vec<tables::ForgottenRow>,
    turns: Option<Drawn>,
    leaked: Option<Drawn>,
    defended: Option<Drawn>,
    leakage: Option<tables::Table>,
    leakage_note: String,
    leakage_curves: Vec<String>,
    first_broken: Vec<String>,
    left_out: Option<String>,
    methods: Vec<String>,
    index: String,
}

/// The page up to the data of the examples.
fn frame(runs: &[Run], table: &Table, analysis: &Analysis, shown: usize) -> Result<String> {
    let figures = figures::figures(analysis);
    let figure = |content: Content| figures.iter().find(|figure| figure.content == content).map(Drawn::new);
    let differences: Vec<Drawn> =
        figures.iter().filter(|figure| matches!(figure.content, Content::Differences(_))).map(Drawn::new).collect();
    let (curves, places) = (figure(Content::Score), figure(Content::Places));
    let costs: Vec<Drawn> = [Content::Memory, Content::Speed].into_iter().filter_map(figure).collect();
    let (survival, fidelity) = (figure(Content::Survival), figure(Content::Fidelity));
    let leakage = analysis.conditions.iter().any(|condition| condition.leakage.is_some());
    let sections = [
        (curves.is_some(), "curves", "Curves"),
        (!analysis.comparisons.is_empty(), "comparisons", "Comparisons"),
        (true, "conditions", "Conditions"),
        (!analysis.types.is_empty(), "types", "Types"),
        (!analysis.layers.is_empty(), "layers", "Layers"),
        (places.is_some(), "places", "Places"),
        (analysis.turns.is_some(), "turns", "Turns"),
        (leakage, "leakage", "Leakage"),
        (!analysis.forgotten.is_empty(), "forgotten", "One forgotten"),
        (survival.is_some(), "survival", "Survival"),
        (fidelity.is_some(), "fidelity", "Fidelity"),
        (!costs.is_empty(), "costs", "Memory and speed"),
        (true, "browser", "Examples"),
        (true, "methods", "Methods"),
    ];
    let sections: Vec<_> =
        sections.into_iter().filter(|(there, ..)| *there).map(|(_, id, name)| Section { id, name }).collect();
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let mut environment = Environment::new();
    environment.add_filter("breakable", |text: &str| Value::from_safe_string(prose::breakable(text)));
    environment.add_filter("prose", |text: &str| Value::from_safe_string(prose::prose(text)));
    environment.add_template("page.html", TEMPLATE).expect("the page's template is valid");
    let template = environment.get_template("page.html").expect("just added");
    let context = Context {
        version: env!("CARGO_PKG_VERSION"),
        style: STYLE,
        style_hash: hash(STYLE),
        script_hash: hash(SCRIPT),
        title: words::list(&names),
        summary: &analysis.summary,
        primary: primary(analysis),
        warnings: &analysis.warnings,
        facts: facts(analysis),
        sections,
        curves,
        earned_curves: figure(Content::Earned),
        doses: (!analysis.doses.is_empty()).then(|| tables::doses(analysis)),
        curve_comparisons: (!analysis.curve_comparisons.is_empty()).then(|| tables::curves(analysis)),
        differences,
        places,
        survival,
        fidelity,
        costs,
        questions: questions(analysis),
        comparisons: (!analysis.comparisons.is_empty()).then(|| tables::comparisons(analysis)),
        conditions: tables::conditions(analysis),
        chance: analysis.chance_sentence(),
        noise: analysis.noise_sentence(),
        types: tables::types(analysis),
        layers: tables::layers(analysis),
        odds: odds(analysis),
        forgotten: tables::forgotten(analysis),
        turns: figure(Content::Turns),
        leaked: figure(Content::Leakage),
        defended: figure(Content::Defended),
        leakage: leakage.then(|| tables::leakage(analysis)),
        leakage_note: words::capitalized(&words::leakage_note()) + ".",
        leakage_curves: analysis.leakage_sentences(),
        first_broken: analysis.turns.iter().flat_map(|turns| turns.sentences(&analysis.conditions)).collect(),
        left_out: (shown < table.examples.len()).then(|| {
            format!(
                "The first {} of {} are here; more would make this page too large for a browser. All are in trials.csv.",
                thousands(shown),
                words::count(table.examples.len(), "example")
            )
        }),
        methods: methods::paragraphs(runs, analysis),
        index: data::index(table, analysis, shown),
    };
    let page = template.render(Serde(&context));
    page.map_err(|error| Error::failed(format!("cannot make the page: {error:#}")))
}

/// The primary comparisons, as they were named.
fn primary(analysis: &Analysis) -> Option<String> {
    let named: Vec<String> = analysis.primaries.iter().map(|primary| primary.named.to_string()).collect();
    (!named.is_empty()).then(|| words::list(&named))
}

/// The hash of inline code in a content security policy.
fn hash(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text))
}

fn facts(analysis: &Analysis) -> Vec<Fact> {
    let joined = |value: &dyn Fn(&super::analysis::RunFacts) -> String| {
        let mut values: Vec<String> = analysis.runs.iter().map(value).filter(|value| !value.is_empty()).collect();
        values.dedup();
        values.join(", ")
    };
    let trials: usize = analysis.runs.iter().map(|run| run.finished).sum();
    let facts = [
        ("Model", joined(&|run| run.model.clone())),
        ("Quantization", joined(&|run| run.quantization.clone())),
        ("Data", joined(&|run| run.data.clone())),
        ("Examples", thousands(analysis.n_examples)),
        ("Conditions", thousands(analysis.conditions.len())),
        ("Trials", thousands(trials)),
        ("Intervals", percent(analysis.level)),
        ("Started", joined(&|run| run.started.replace('T', " ").replace('Z', " UTC"))),
    ];
    facts.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| Fact { name, value }).collect()
}

fn questions(analysis: &Analysis) -> Vec<Asked> {
    let mut questions: Vec<Question> = analysis.comparisons.iter().map(|comparison| comparison.question).collect();
    questions.dedup();
    questions.into_iter().map(|question| Asked { id: question, title: question.title() }).collect()
}

/// The result of the logistic curves, as sentences.
fn odds(analysis: &Analysis) -> Vec<String> {
    analysis
        .survival
        .iter()
        .filter_map(|curve| {
            let fit = curve.logistic.as_ref()?;
            let odds = |slope: f64| (slope / 10.0).exp();
            Some(format!(
                "{}: at the same fraction evicted, ten more points of survival multiply the odds of being followed by {:.2} \
                 [{:.2}, {:.2}] ({} of {}).",
                curve.name,
                odds(fit.slope.point),
                odds(fit.slope.low),
                odds(fit.slope.high),
                words::count(curve.n, "instruction"),
                words::count(fit.clusters, "example")
            ))
        })
        .collect()
}
