//! Scores against a fraction: axes, bands, whiskers, labels that do not collide.

use super::heatmap::is_everything;
use super::svg::{Anchor, Svg, text_width};
use crate::stats::Estimate;

/// A point with its interval.
#[derive(Debug, Clone)]
pub struct Point {
    pub x: f64,
    pub y: Estimate,
    /// Shown on hovering.
    pub tip: String,
}

/// A curve or a scatter of one colour.
#[derive(Debug, Clone)]
pub struct Series {
    pub name: String,
    /// The index of its colour and mark.
    pub style: usize,
    pub points: Vec<Point>,
    /// Whether points are joined and their intervals form a band; else each has whiskers.
    pub joined: bool,
    /// A smooth curve of its own, such as a fit.
    pub fit: Vec<(f64, f64)>,
}

/// Distance between whiskers that would otherwise overlap.
const DODGE: f64 = 6.0;

/// One pair of axes.
#[derive(Debug, Clone)]
pub struct Plot {
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    pub x_max: f64,
    pub series: Vec<Series>,
    /// Whether series share x values, so that their points must be drawn apart.
    pub dodge: bool,
    /// A horizontal reference with the noise around it, and its name.
    pub reference: Option<(f64, f64, String)>,
}

const LEFT: f64 = 52.0;
const BOTTOM: f64 = 46.0;
const LINE: f64 = 15.0;
/// Room for a mark and between columns of names.
const GAP: f64 = 30.0;
/// More names than these do not fit beside the curves.
const MOST_BESIDE: usize = 18;

/// Where the names of the series are: beside the curves if they fit there, else above them in columns.
struct Names {
    widest: f64,
    beside: bool,
    columns: usize,
    /// What they take above the axes.
    height: f64,
}

impl Plot {
    /// Draws it into a box.
    pub fn draw(&self, svg: &mut Svg, (left, top): (f64, f64), (width, height): (f64, f64)) {
        let Names { widest, beside, columns, height: legend } = self.names(width);
        let head = if self.title.is_empty() { 8.0 } else { 26.0 } + legend;
        let dodge = if self.dodge { DODGE * self.series.len() as f64 / 2.0 } else { 0.0 };
        let right = if beside { widest + 26.0 } else { 14.0 } + dodge;
        let label = wrapped(&self.x_label, width - 20.0);
        let bottom = BOTTOM + LINE * (label.len() - 1) as f64;
        let area = Area {
            x0: left + LEFT,
            x1: left + width - right,
            y0: top + height - bottom,
            y1: top + head,
            x_max: self.x_max,
        };
        if !self.title.is_empty() {
            svg.text((area.x0, top + 14.0), Anchor::Start, "strong", &self.title);
        }
        self.axes(svg, &area, left, top + height, &label);
        if let Some((value, noise, name)) = &self.reference {
            if *noise > 0.0 {
                let (high, low) = (area.y((value + noise).min(1.0)), area.y((value - noise).max(0.0)));
                svg.rect((area.x0, high), (area.x1 - area.x0, low - high), "noise");
            }
            svg.line((area.x0, area.y(*value)), (area.x1, area.y(*value)), "rule");
            let below = if *value > 0.95 { 15.0 } else { -6.0 };
            svg.text((area.x1 - 4.0, area.y(*value) + below), Anchor::End, "small muted", name);
        }
        for series in self.series.iter().filter(|series| series.joined && series.points.len() > 1) {
            svg.open(series.style);
            let upper = series.points.iter().map(|point| (area.x(point.x), area.y(point.y.high)));
            let lower = series.points.iter().rev().map(|point| (area.x(point.x), area.y(point.y.low)));
            // A band from 0 to 1 says that nothing is known.
            if series.points.iter().all(|point| is_everything(&point.y)) {
                svg.close();
                continue;
            }
            let class = if self.series.len() > 4 { "band faint" } else { "band" };
            svg.polygon(&upper.chain(lower).collect::<Vec<_>>(), class);
            svg.close();
        }
        for (index, series) in self.series.iter().enumerate() {
            let middle = (self.series.len() - 1) as f64 / 2.0;
            let dodge = if self.dodge && !series.joined { DODGE * (index as f64 - middle) } else { 0.0 };
            series.draw(svg, &area, dodge);
        }
        if beside {
            self.names_beside(svg, &area);
        } else {
            let rows = self.series.len().div_ceil(columns);
            for (index, series) in self.series.iter().enumerate() {
                let x = area.x0 + (index / rows) as f64 * (widest + GAP);
                let y = area.y1 - legend + LINE * (index % rows) as f64 + 6.0;
                series.draw_name(svg, (x, y));
            }
        }
    }

    /// The height at which the axes have a height of about `least`, whatever the names take.
    pub fn height(&self, width: f64, least: f64) -> f64 {
        least + (self.names(width).height - 4.0 * LINE).max(0.0)
    }

    fn names(&self, width: f64) -> Names {
        // Names are bold, and some systems have wide letters.
        let widest = self.series.iter().map(|series| 1.2 * text_width(&series.name, 12.5)).fold(0.0, f64::max);
        let beside = widest + 26.0 < 0.34 * width && self.series.len() <= MOST_BESIDE;
        let columns = (((width - LEFT) / (widest + GAP)) as usize).clamp(1, self.series.len().max(1));
        let rows = self.series.len().div_ceil(columns);
        Names { widest, beside, columns, height: if beside { 0.0 } else { LINE * rows as f64 + 4.0 } }
    }

    fn axes(&self, svg: &mut Svg, area: &Area, left: f64, bottom: f64, label: &[&str]) {
        for tick in 0..=5 {
            let value = f64::from(tick) / 5.0;
            svg.line((area.x0, area.y(value)), (area.x1, area.y(value)), if tick == 0 { "axis" } else { "grid" });
            svg.text((area.x0 - 8.0, area.y(value) + 4.0), Anchor::End, "small muted", &format!("{value:.1}"));
        }
        let step = step(self.x_max, (area.x1 - area.x0) / 44.0);
        let mut tick = 0.0;
        while tick <= self.x_max * 1.0001 {
            svg.line((area.x(tick), area.y0), (area.x(tick), area.y0 + 4.0), "axis");
            let text = format!("{tick:.3}");
            let text = text.trim_end_matches('0').trim_end_matches('.');
            svg.text((area.x(tick), area.y0 + 17.0), Anchor::Middle, "small muted", text);
            tick += step;
        }
        for (row, line) in label.iter().rev().enumerate() {
            let y = bottom - 8.0 - LINE * row as f64;
            svg.text(((area.x0 + area.x1) / 2.0, y), Anchor::Middle, "", line);
        }
        svg.turned_text((left + 13.0, (area.y0 + area.y1) / 2.0), -90.0, Anchor::Middle, "", &self.y_label);
    }

    /// Draws names at the right end of each curve, moved apart if they would overlap.
    fn names_beside(&self, svg: &mut Svg, area: &Area) {
        let mut places: Vec<(usize, f64)> = self
            .series
            .iter()
            .enumerate()
            .filter_map(|(index, series)| {
                let end = series.fit.last().map(|(_, y)| *y).or(series.points.last().map(|point| point.y.point))?;
                Some((index, area.y(end) + 4.0))
            })
            .collect();
        // Where curves end together, the one that was higher before comes first.
        let mean = |index: usize| {
            let points = &self.series[index].points;
            points.iter().map(|point| point.y.point).sum::<f64>() / points.len() as f64
        };
        let end = |y: f64| (y / LINE).round();
        places.sort_by(|a, b| end(a.1).total_cmp(&end(b.1)).then(mean(b.0).total_cmp(&mean(a.0))));
        for index in 1..places.len() {
            places[index].1 = places[index].1.max(places[index - 1].1 + LINE);
        }
        let mut floor = area.y0 + 4.0;
        for place in places.iter_mut().rev() {
            place.1 = place.1.min(floor);
            floor = place.1 - LINE;
        }
        for (index, y) in places {
            let series = &self.series[index];
            let dodge = if self.dodge { DODGE * (self.series.len() - 1) as f64 / 2.0 } else { 0.0 };
            series.draw_name(svg, (area.x1 + 8.0 + dodge, y));
        }
    }
}

impl Series {
    /// Its mark and name.
    fn draw_name(&self, svg: &mut Svg, (x, y): (f64, f64)) {
        svg.open(self.style);
        svg.mark(self.style, (x + 6.0, y - 4.0), &self.name);
        svg.text((x + 16.0, y), Anchor::Start, "label", &self.name);
        svg.close();
    }

    /// `dodge` moves points and whiskers aside.
    fn draw(&self, svg: &mut Svg, area: &Area, dodge: f64) {
        svg.open(self.style);
        let at = |&(x, y): &(f64, f64)| (area.x(x), area.y(y));
        if !self.fit.is_empty() {
            svg.polyline(&self.fit.iter().map(at).collect::<Vec<_>>(), "curve");
        }
        if self.joined && self.points.len() > 1 {
            let line: Vec<_> = self.points.iter().map(|point| (area.x(point.x), area.y(point.y.point))).collect();
            svg.polyline(&line, "curve");
        } else {
            for point in &self.points {
                let x = area.x(point.x) + dodge;
                svg.line((x, area.y(point.y.low)), (x, area.y(point.y.high)), "whisker");
                for end in [point.y.low, point.y.high] {
                    svg.line((x - 3.5, area.y(end)), (x + 3.5, area.y(end)), "whisker");
                }
            }
        }
        for point in &self.points {
            svg.mark(self.style, (area.x(point.x) + dodge, area.y(point.y.point)), &point.tip);
        }
        svg.close();
    }
}

/// The plane of the data: x from 0 to `x_max`, y from 0 to 1.
struct Area {
    x0: f64,
    x1: f64,
    y0: f64,
    y1: f64,
    x_max: f64,
}

impl Area {
    fn x(&self, value: f64) -> f64 {
        self.x0 + value / self.x_max * (self.x1 - self.x0)
    }

    fn y(&self, value: f64) -> f64 {
        self.y0 - value.clamp(0.0, 1.0) * (self.y0 - self.y1)
    }
}

/// A label in one line, or, if it is wider, in two: the second is what stands in parentheses.
fn wrapped(label: &str, width: f64) -> Vec<&str> {
    match label.find(" (") {
        Some(at) if text_width(label, 12.5) > width => vec![&label[..at], &label[at + 1..]],
        _ => vec![label],
    }
}

/// A round distance between ticks that gives at most `most` of them.
fn step(range: f64, most: f64) -> f64 {
    let least = range / most.max(2.0);
    let magnitude = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|round| round * magnitude).find(|step| *step >= least).unwrap_or(range)
}
