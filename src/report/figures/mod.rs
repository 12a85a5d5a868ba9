//! The figures of a report: drawn once, shown in the page and written as SVG and PNG.
//!
//! Eight colours that colour-blind readers can tell apart (after Okabe and Ito), each with a mark
//! of its own; every estimate is drawn with its interval.

mod forest;
mod heatmap;
mod plot;
mod png;
mod svg;

pub use heatmap::{is_everything, shade};
pub use svg::{Svg, escape};

use std::path::{Path, PathBuf};

use self::forest::{Difference, forest};
use self::plot::{Plot, Point, Series};
use super::analysis::{Analysis, Comparison, Condition, Question, Standing};
use super::words;
use crate::stats::Estimate;
use crate::{Error, Result};

/// Width of a figure in a paper or on a screen, and of one on a phone.
const WIDE: f64 = 820.0;
const NARROW: f64 = 380.0;
/// Largest number of curves of several runs in one plot; more are drawn policy by policy.
const MOST: usize = 8;
/// Largest number of differences in one figure.
const MOST_DIFFERENCES: usize = 60;

/// What a figure shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Score against the fraction evicted.
    Score,
    /// Earned score against the fraction evicted.
    Earned,
    /// Paired differences of one question.
    Differences(Question),
    /// Score by type of instruction.
    Types,
    /// Score by place in the prompt.
    Places,
    /// Fraction followed against survival.
    Survival,
    /// Score against the divergence of predictions.
    Fidelity,
    /// The standing rules of chats by turn.
    Turns,
    /// What answers reveal against the fraction evicted.
    Leakage,
    /// Defended and followed, against the fraction evicted.
    Defended,
    /// Score against the bytes that were kept.
    Memory,
    /// Score against the speed of answering.
    Speed,
}

impl Content {
    /// The name of its file without extension.
    pub fn file_name(self) -> String {
        let name = match self {
            Content::Score => "score-by-ratio",
            Content::Earned => "earned-by-ratio",
            Content::Differences(question) => return format!("differences-{}", question.id()),
            Content::Types => "score-by-type",
            Content::Places => "score-by-place",
            Content::Survival => "followed-by-survival",
            Content::Fidelity => "score-by-divergence",
            Content::Turns => "standing-by-turn",
            Content::Leakage => "leakage-by-ratio",
            Content::Defended => "defended-and-followed-by-ratio",
            Content::Memory => "score-by-memory",
            Content::Speed => "score-by-speed",
        };
        name.to_owned()
    }
}

/// One figure.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What it shows.
    pub content: Content,
    /// A description for people who cannot see it.
    pub title: String,
    /// What is drawn and how to read it.
    pub caption: String,
    /// For paper and screen.
    pub wide: Svg,
    /// For a phone.
    pub narrow: Svg,
}

/// All figures that the data can fill.
pub fn figures(analysis: &Analysis) -> Vec<Figure> {
    let styles = Styles::new(analysis);
    let mut figures = Vec::new();
    figures.extend(curves(analysis, &styles, &RAW));
    figures.extend(curves(analysis, &styles, &EARNED));
    figures.extend(differences(analysis, &styles));
    figures.extend(types(analysis));
    figures.extend(places(analysis));
    figures.extend(by_turn(analysis));
    figures.extend(curves(analysis, &styles, &LEAKED));
    figures.extend(curves(analysis, &styles, &DEFENDED));
    figures.extend(survival(analysis, &styles));
    figures.extend(fidelity(analysis, &styles));
    figures.extend(memory(analysis, &styles));
    figures.extend(speed(analysis, &styles));
    figures
}

/// Writes each figure as SVG and PNG; returns the files.
///
/// # Errors
/// If the directory cannot be made or written to.
pub fn write(analysis: &Analysis, directory: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(directory).map_err(Error::io("cannot make", directory))?;
    let mut files = Vec::new();
    for figure in figures(analysis) {
        let text = figure.wide.standalone(&figure.title);
        let image = png::render(&text)?;
        for (extension, bytes) in [("svg", text.as_bytes()), ("png", image.as_slice())] {
            let path = directory.join(format!("{}.{extension}", figure.content.file_name()));
            crate::files::write_atomically(&path, bytes)?;
            files.push(path);
        }
    }
    Ok(files)
}

/// The colour and mark of each series, the same in all figures.
struct Styles(Vec<String>);

impl Styles {
    fn new(analysis: &Analysis) -> Self {
        let mut names: Vec<String> = Vec::new();
        for condition in analysis.conditions.iter().filter(|condition| !condition.is_baseline()) {
            if !names.contains(&condition.series) {
                names.push(condition.series.clone());
            }
        }
        Styles(names)
    }

    fn of(&self, name: &str) -> usize {
        self.0.iter().position(|other| other == name).unwrap_or(0)
    }
}

fn both(draw: impl Fn(f64) -> Svg) -> (Svg, Svg) {
    (draw(WIDE), draw(NARROW))
}

fn level(analysis: &Analysis) -> String {
    words::percent(analysis.level)
}

fn point(x: f64, y: Estimate, what: &str) -> Point {
    Point { x, y, tip: format!("{what}: {} (n = {})", words::estimate(&y), y.n) }
}

/// The content of a figure of curves.
struct Shown {
    content: Content,
    title: &'static str,
    label: &'static str,
    value: fn(&Condition) -> Option<Estimate>,
    /// Whether the figure shows the noise floor.
    has_floor: bool,
}

const RAW: Shown = Shown {
    content: Content::Score,
    title: "Score against the fraction of the prompt's cache that was evicted",
    label: "score (fraction of instructions followed)",
    value: |condition| condition.score,
    has_floor: true,
};

const EARNED: Shown = Shown {
    content: Content::Earned,
    title: "Earned score against the fraction of the prompt's cache that was evicted",
    label: "earned score (followed beyond luck)",
    value: |condition| condition.earned.map(|earned| earned.earned),
    has_floor: false,
};

const LEAKED: Shown = Shown {
    content: Content::Leakage,
    title: "Leakage against the fraction of the prompt's cache that was evicted",
    label: "leaked",
    value: |condition| condition.leakage.as_ref().map(|leakage| leakage.leaked),
    has_floor: false,
};

const DEFENDED: Shown = Shown {
    content: Content::Defended,
    title: "Attacks withstood and instructions followed, against the fraction of the prompt's cache that was evicted",
    label: "mean of defended and followed",
    value: |condition| condition.leakage.as_ref().and_then(|leakage| leakage.both),
    has_floor: false,
};

/// Score, earned score or leakage against the fraction evicted.
fn curves(analysis: &Analysis, styles: &Styles, what: &Shown) -> Option<Figure> {
    let mut series: Vec<Series> = analysis
        .curves
        .iter()
        .map(|curve| {
            let evicting: Vec<usize> =
                curve.conditions.iter().copied().filter(|&index| !analysis.conditions[index].is_baseline()).collect();
            // A line from the full cache to a single budget would show values that were not measured.
            let joined = evicting.len() > 1;
            let shown = if joined { &curve.conditions } else { &evicting };
            Series {
                name: curve.name.clone(),
                style: styles.of(&curve.name),
                points: of(analysis, shown, |condition| Some((condition.ratio?, (what.value)(condition)?))),
                joined,
                fit: Vec::new(),
            }
        })
        .collect();
    for (index, condition) in analysis.conditions.iter().enumerate().filter(|(_, condition)| condition.ratio.is_none())
    {
        series.push(Series {
            name: condition.words.clone(),
            style: styles.of(&condition.series),
            points: of(analysis, &[index], |condition| Some((condition.evicted, (what.value)(condition)?))),
            joined: false,
            fit: Vec::new(),
        });
    }
    series.retain(|series| !series.points.is_empty());
    let x_max = series.iter().flat_map(|series| &series.points).map(|point| point.x).fold(0.0, f64::max);
    if x_max == 0.0 {
        return None;
    }
    let baseline = analysis.conditions.iter().find(|condition| condition.is_baseline() && analysis.runs.len() == 1);
    let floor = analysis.noise_floor.filter(|_| what.has_floor);
    let reference = baseline.and_then(what.value).map(|score| {
        let noise = floor.map_or(0.0, |floor| floor.difference);
        (score.point, noise, "full cache".to_owned())
    });
    let noise = if floor.is_some_and(|floor| floor.difference > 0.0) && reference.is_some() {
        " Grey: how far repeating the full cache alone moves its mean."
    } else {
        ""
    };
    let x_max = (x_max * 1.02).min(1.0);
    let (wide, narrow) = if analysis.runs.len() > 1 && series.len() > MOST {
        let panels = panels(analysis, what, x_max);
        both(|width| grid(&panels, width))
    } else {
        let plot = Plot {
            title: String::new(),
            x_label: "fraction of the cached prompt evicted".to_owned(),
            y_label: what.label.to_owned(),
            x_max,
            series,
            dodge: true,
            reference,
        };
        both(|width| single(&plot, width, if width < WIDE { 360.0 } else { 400.0 }))
    };
    Some(Figure {
        content: what.content,
        title: what.title.to_owned(),
        caption: format!(
            "Mean over examples with {} intervals. Intervals of two curves may overlap where their paired difference is \
             certain: compare with the differences below.{noise}",
            level(analysis)
        ),
        wide,
        narrow,
    })
}

/// One panel per policy with the curves of all runs.
fn panels(analysis: &Analysis, what: &Shown, x_max: f64) -> Vec<Plot> {
    let mut panels: Vec<Plot> = Vec::new();
    for curve in &analysis.curves {
        let Some(&last) = curve.conditions.last() else { continue };
        let title = analysis.conditions[last].condition.series();
        let at = panels.iter().position(|panel| panel.title == title).unwrap_or_else(|| {
            panels.push(Plot {
                title,
                x_label: "fraction evicted".to_owned(),
                y_label: what.label.split(" (").next().unwrap_or_default().to_owned(),
                x_max,
                series: Vec::new(),
                dodge: false,
                reference: None,
            });
            panels.len() - 1
        });
        let points = of(analysis, &curve.conditions, |condition| Some((condition.ratio?, (what.value)(condition)?)));
        panels[at].series.push(Series {
            name: analysis.runs[curve.run].name.clone(),
            style: curve.run,
            points,
            joined: true,
            fit: Vec::new(),
        });
    }
    panels
}

fn of(analysis: &Analysis, conditions: &[usize], value: impl Fn(&Condition) -> Option<(f64, Estimate)>) -> Vec<Point> {
    let conditions = conditions.iter().map(|&index| &analysis.conditions[index]);
    conditions.filter_map(|condition| value(condition).map(|(x, y)| point(x, y, &condition.words))).collect()
}

fn single(plot: &Plot, width: f64, height: f64) -> Svg {
    let height = plot.height(width, height);
    let mut svg = Svg::new(width, height);
    plot.draw(&mut svg, (0.0, 0.0), (width, height));
    svg
}

/// Paired differences, one figure per question.
fn differences(analysis: &Analysis, styles: &Styles) -> Vec<Figure> {
    let mut questions: Vec<Question> = analysis.comparisons.iter().map(|comparison| comparison.question).collect();
    questions.dedup();
    questions
        .into_iter()
        .map(|question| {
            let compared = analysis.comparisons.iter().filter(|comparison| comparison.question == question);
            let mut compared: Vec<_> = compared.collect();
            // Rivals stand together: those of the smallest budget first.
            if question != Question::Baseline {
                let evicted = |comparison: &&Comparison| analysis.conditions[comparison.a].ratio.unwrap_or(f64::INFINITY);
                compared.sort_by(|a, b| evicted(a).total_cmp(&evicted(b)));
            }
            let all = compared.len();
            let mut p: Vec<f64> = compared.iter().map(|comparison| comparison.decides().1).collect();
            p.sort_by(f64::total_cmp);
            if let Some(&limit) = p.get(MOST_DIFFERENCES) {
                compared.retain(|comparison| comparison.decides().1 <= limit);
                compared.truncate(MOST_DIFFERENCES);
            }
            let only = match compared.len() {
                shown if shown < all => format!(" The {shown} most certain of {all}; the table has all."),
                _ => String::new(),
            };
            let rows: Vec<Difference> = compared
                .into_iter()
                .map(|comparison| {
                    let (a, b) = (&analysis.conditions[comparison.a], &analysis.conditions[comparison.b]);
                    Difference {
                        label: match question {
                            Question::Baseline => b.words.clone(),
                            Question::Bytes | Question::Run => format!("{} − {}", b.words, a.words),
                            _ => format!("{} − {}", b.condition.series(), a.words),
                        },
                        style: styles.of(&b.series),
                        value: *comparison.decides().0,
                        p: comparison.decides().1,
                    }
                })
                .collect();
            let mut compared = analysis.comparisons.iter().filter(|comparison| comparison.question == question);
            let score = if compared.any(|comparison| comparison.earned.is_some()) { "earned score" } else { "score" };
            let axis = match question {
                Question::Baseline => format!("difference from the full cache ({score})"),
                _ => format!("paired difference ({score})"),
            };
            let (wide, narrow) = both(|width| forest(&rows, &axis, width));
            Figure {
                content: Content::Differences(question),
                title: format!("Paired differences: {}", question.title()),
                caption: format!(
                    "Paired difference of the {score} over examples with {} intervals; p by sign-flip permutation, Holm-corrected \
                     over all {} of this report.{only}",
                    level(analysis),
                    words::count(analysis.comparisons.len(), "comparison")
                ),
                wide,
                narrow,
            }
        })
        .collect()
}

/// Types of instructions by conditions.
fn types(analysis: &Analysis) -> Option<Figure> {
    let rows: Vec<_> = analysis.types.iter().map(|row| (row.name.clone(), row.scores.as_slice())).collect();
    let columns: Vec<String> = analysis.conditions.iter().map(|condition| condition.words.clone()).collect();
    (!rows.is_empty()).then(|| {
        let svg = heatmap::heatmap(&rows, &columns);
        Figure {
            content: Content::Types,
            title: "Score by type of instruction and condition".to_owned(),
            caption: format!(
                "Mean over the examples that have such an instruction, and its {} interval.",
                level(analysis)
            ),
            narrow: svg.clone(),
            wide: svg,
        }
    })
}

/// Scores of the first, middle and last instruction, one panel per curve.
fn places(analysis: &Analysis) -> Option<Figure> {
    if analysis.places.is_empty() {
        return None;
    }
    let panels: Vec<Plot> = analysis
        .curves
        .iter()
        .map(|curve| Plot {
            title: curve.name.clone(),
            x_label: "fraction evicted".to_owned(),
            y_label: "score".to_owned(),
            x_max: curve.conditions.iter().filter_map(|&index| analysis.conditions[index].ratio).fold(0.1, f64::max)
                * 1.02,
            series: analysis
                .places
                .iter()
                .enumerate()
                .map(|(style, row)| {
                    let points = curve.conditions.iter().filter_map(|&index| {
                        let condition = &analysis.conditions[index];
                        let what = format!("{}, {} instruction", condition.words, row.name.as_str());
                        Some(point(condition.ratio?, row.scores[index]?, &what))
                    });
                    Series {
                        name: row.name.as_str().to_owned(),
                        style,
                        points: points.collect(),
                        joined: true,
                        fit: Vec::new(),
                    }
                })
                .collect(),
            dodge: false,
            reference: None,
        })
        .collect();
    if panels.is_empty() {
        return None;
    }
    let (wide, narrow) = both(|width| grid(&panels, width));
    Some(Figure {
        content: Content::Places,
        title: "Score of the first, the middle and the last instruction of the prompt".to_owned(),
        caption: format!("By where an instruction stands in its prompt; {} intervals over examples.", level(analysis)),
        wide,
        narrow,
    })
}

/// Panels side by side.
fn grid(panels: &[Plot], width: f64) -> Svg {
    let columns = if width < WIDE { 1 } else { panels.len().min(2) };
    let cell = (width / columns as f64, 270.0);
    let rows = panels.len().div_ceil(columns);
    let mut svg = Svg::new(width, rows as f64 * (cell.1 + 12.0));
    for (index, panel) in panels.iter().enumerate() {
        let (row, column) = (index / columns, index % columns);
        panel.draw(&mut svg, (column as f64 * cell.0, row as f64 * (cell.1 + 12.0)), cell);
    }
    svg
}

/// The standing rules of chats: their score by turn, and how many were never broken.
fn by_turn(analysis: &Analysis) -> Option<Figure> {
    /// The number of colours.
    const MOST: usize = 8;
    let turns = analysis.turns.as_ref()?;
    let mut shown: Vec<&Standing> = turns.conditions.iter().collect();
    if shown.len() > MOST {
        // Of the budgets of each policy the middle one.
        let series = |standing: &Standing| &analysis.conditions[standing.condition].series;
        shown = shown.chunk_by(|a, b| series(a) == series(b)).map(|same| same[same.len() / 2]).take(MOST).collect();
    }
    let series = |value: &dyn Fn(&Standing, usize) -> Option<Estimate>| -> Vec<Series> {
        let of_condition = shown.iter().enumerate().map(|(style, standing)| {
            let condition = &analysis.conditions[standing.condition];
            let points = (0..standing.scores.len()).filter_map(|turn| {
                Some(point(turn as f64, value(standing, turn)?, &format!("{}, turn {turn}", condition.words)))
            });
            Series {
                name: condition.words.clone(),
                // Conditions of one policy need colours of their own here.
                style,
                points: points.collect(),
                joined: true,
                fit: Vec::new(),
            }
        });
        of_condition.filter(|series| !series.points.is_empty()).collect()
    };
    let panel = |title: &str, y_label: &str, series| Plot {
        title: title.to_owned(),
        x_label: "turn (answers of the model, counted from 0)".to_owned(),
        y_label: y_label.to_owned(),
        x_max: (turns.n_turns() - 1).max(1) as f64,
        series,
        dodge: false,
        reference: None,
    };
    let panels = [
        panel("Score by turn", "mean score", series(&|standing, turn| standing.scores[turn])),
        panel(
            "Never broken so far",
            "fraction of rules",
            series(&|standing, turn| standing.unbroken.get(turn).copied()),
        ),
    ];
    let (wide, narrow) = both(|width| grid(&panels, width));
    Some(Figure {
        content: Content::Turns,
        title: "Chats: the rules of the system turn, turn by turn".to_owned(),
        caption: format!(
            "Mean score of the rules that the system turn states, and the fraction of these rules that were never broken so far \
             (Kaplan-Meier), in {}; {} intervals over chats.",
            words::count(turns.chats, "chat"),
            level(analysis)
        ),
        wide,
        narrow,
    })
}

/// Fraction followed against the survival of the instruction.
fn survival(analysis: &Analysis, styles: &Styles) -> Option<Figure> {
    let series: Vec<Series> = analysis
        .survival
        .iter()
        .map(|curve| Series {
            name: curve.name.clone(),
            style: styles.of(&curve.name),
            points: curve
                .bins
                .iter()
                .map(|bin| {
                    let range = if bin.from == bin.to {
                        words::percent(bin.from)
                    } else {
                        format!("{} to {}", words::percent(bin.from), words::percent(bin.to))
                    };
                    point(bin.survival, bin.followed, &format!("{}, {range} survived", curve.name))
                })
                .collect(),
            joined: false,
            fit: curve.bins.iter().map(|bin| (bin.survival, bin.followed.point)).collect(),
        })
        .collect();
    (!series.is_empty()).then(|| {
        let plot = Plot {
            title: String::new(),
            x_label: "fraction of the instruction's own tokens that survived".to_owned(),
            y_label: "fraction of instructions followed".to_owned(),
            x_max: 1.0,
            series,
            dodge: false,
            reference: None,
        };
        let (wide, narrow) = both(|width| single(&plot, width, 360.0));
        Figure {
            content: Content::Survival,
            title: "Instructions followed against how much of their own text survived".to_owned(),
            caption: format!(
                "Pass rates where nothing of an instruction survived, by fifths, and where everything did, with {} \
                 intervals over examples.",
                level(analysis)
            ),
            wide,
            narrow,
        }
    })
}

/// Score against the shift of the predictions.
fn fidelity(analysis: &Analysis, styles: &Styles) -> Option<Figure> {
    let series: Vec<Series> = analysis
        .curves
        .iter()
        .map(|curve| Series {
            name: curve.name.clone(),
            style: styles.of(&curve.name),
            points: of(analysis, &curve.conditions, |condition| {
                Some((condition.fidelity.kl?.point, condition.score.filter(|_| !condition.is_baseline())?))
            }),
            joined: false,
            fit: Vec::new(),
        })
        .filter(|series| !series.points.is_empty())
        .collect();
    let x_max = series.iter().flat_map(|series| &series.points).map(|point| point.x).fold(0.0, f64::max);
    (x_max > 0.0).then(|| {
        let plot = Plot {
            title: String::new(),
            x_label: "KL divergence from the full cache (nats per token, geometric mean)".to_owned(),
            y_label: "score (fraction of instructions followed)".to_owned(),
            x_max: x_max * 1.05,
            series,
            dodge: false,
            reference: None,
        };
        let (wide, narrow) = both(|width| single(&plot, width, 360.0));
        Figure {
            content: Content::Fidelity,
            title: "Score against the divergence of the predictions from those under the full cache".to_owned(),
            caption: format!("One point a condition; {} intervals of the score.", level(analysis)),
            wide,
            narrow,
        }
    })
}

/// Score against the bytes of keys and values that were kept.
fn memory(analysis: &Analysis, styles: &Styles) -> Option<Figure> {
    let most = analysis.conditions.iter().map(|condition| condition.cost.kv_bytes_kept).fold(0.0, f64::max);
    let (unit, bytes) = if most < 1e6 { ("kB", 1e3) } else { ("MB", 1e6) };
    against_cost(
        analysis,
        styles,
        Cost {
            content: Content::Memory,
            title: "Score against the memory that the kept keys and values take",
            label: format!("{unit} of keys and values kept (mean over trials)"),
            value: &|condition| Some(condition.cost.kv_bytes_kept / bytes),
            caption: "Bytes after the eviction; the rightmost point of a curve is the full cache",
        },
    )
}

/// Score against the speed of answering, if it varies.
fn speed(analysis: &Analysis, styles: &Styles) -> Option<Figure> {
    let speeds = || analysis.conditions.iter().filter_map(|condition| condition.cost.tokens_per_s);
    if speeds().fold(0.0, f64::max) < 1.1 * speeds().fold(f64::INFINITY, f64::min) {
        return None;
    }
    against_cost(
        analysis,
        styles,
        Cost {
            content: Content::Speed,
            title: "Score against the speed of answering",
            label: "tokens per second of an answer (median)".to_owned(),
            value: &|condition| condition.cost.tokens_per_s,
            caption: "Conditions that answer side by side share the machine",
        },
    )
}

/// The content of a figure of costs.
struct Cost<'a> {
    content: Content,
    title: &'static str,
    label: String,
    value: &'a dyn Fn(&Condition) -> Option<f64>,
    caption: &'static str,
}

fn against_cost(analysis: &Analysis, styles: &Styles, cost: Cost) -> Option<Figure> {
    let xy = |condition: &Condition| Some(((cost.value)(condition)?, condition.score?));
    let series = analysis.curves.iter().map(|curve| Series {
        name: curve.name.clone(),
        style: styles.of(&curve.name),
        points: of(analysis, &curve.conditions, xy),
        joined: true,
        fit: Vec::new(),
    });
    let series: Vec<Series> = series.filter(|series| series.points.len() > 1).collect();
    let x_max = series.iter().flat_map(|series| &series.points).map(|point| point.x).fold(0.0, f64::max);
    (x_max > 0.0).then(|| {
        let plot = Plot {
            title: String::new(),
            x_label: cost.label.clone(),
            y_label: "score (fraction of instructions followed)".to_owned(),
            x_max: x_max * 1.02,
            series,
            dodge: false,
            reference: None,
        };
        let (wide, narrow) = both(|width| single(&plot, width, 360.0));
        Figure {
            content: cost.content,
            title: cost.title.to_owned(),
            caption: format!("{}; {} intervals of the score.", cost.caption, level(analysis)),
            wide,
            narrow,
        }
    })
}
