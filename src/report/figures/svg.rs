//! A small writer of SVG. Colours are classes: the page and the stand-alone file each bring their own.

use std::fmt::Write as _;

/// Classes of series, in both style sheets.
pub const SERIES: usize = 8;

/// White around a stand-alone file.
const MARGIN: f64 = 12.0;

/// A drawing of a fixed size in user units.
#[derive(Debug, Clone)]
pub struct Svg {
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
    body: String,
}

/// How text is aligned with its point.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    /// Text begins there.
    Start,
    /// Text is centred there.
    Middle,
    /// Text ends there.
    End,
}

impl Anchor {
    fn as_str(self) -> &'static str {
        match self {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        }
    }
}

impl Svg {
    /// An empty drawing.
    pub fn new(width: f64, height: f64) -> Self {
        Svg { width, height, body: String::new() }
    }

    fn push(&mut self, arguments: std::fmt::Arguments) {
        let _ = self.body.write_fmt(arguments);
    }

    /// Text at its anchor.
    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, class: &str, text: &str) {
        let (anchor, text) = (anchor.as_str(), escape(text));
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{text}</text>"
        ));
    }

    /// Text turned by an angle in degrees about its point.
    pub fn turned_text(&mut self, (x, y): (f64, f64), angle: f64, anchor: Anchor, class: &str, text: &str) {
        let (anchor, text) = (anchor.as_str(), escape(text));
        self.push(format_args!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate({angle})\" text-anchor=\"{anchor}\" class=\"{class}\">{text}</text>"
        ));
    }

    /// A straight line.
    pub fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        self.push(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>"
        ));
    }

    /// A rectangle from its upper left corner.
    pub fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), class: &str) {
        self.push(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" class=\"{class}\"/>"
        ));
    }

    /// A line through points.
    pub fn polyline(&mut self, points: &[(f64, f64)], class: &str) {
        self.shape("polyline", points, class);
    }

    /// A filled shape.
    pub fn polygon(&mut self, points: &[(f64, f64)], class: &str) {
        self.shape("polygon", points, class);
    }

    fn shape(&mut self, element: &str, points: &[(f64, f64)], class: &str) {
        self.push(format_args!("<{element} points=\""));
        for (x, y) in points {
            self.push(format_args!("{x:.1},{y:.1} "));
        }
        self.push(format_args!("\" class=\"{class}\"/>"));
    }

    /// Draws the mark of a series: each series has its own shape and colour. `tip` is shown on hovering.
    pub fn mark(&mut self, series: usize, (x, y): (f64, f64), tip: &str) {
        let tip = escape(tip);
        let polygon = |points: &[(f64, f64)]| -> String {
            points.iter().map(|(dx, dy)| format!("{:.1},{:.1} ", x + dx, y + dy)).collect()
        };
        // Series that share a colour have different marks.
        let points = match (series + series / SERIES) % 4 {
            0 => {
                self.push(format_args!(
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" class=\"mark\"><title>{tip}</title></circle>"
                ));
                return;
            }
            1 => polygon(&[(-3.6, -3.6), (3.6, -3.6), (3.6, 3.6), (-3.6, 3.6)]),
            2 => polygon(&[(0.0, -4.8), (4.6, 3.6), (-4.6, 3.6)]),
            _ => polygon(&[(0.0, -5.2), (5.2, 0.0), (0.0, 5.2), (-5.2, 0.0)]),
        };
        self.push(format_args!("<polygon points=\"{points}\" class=\"mark\"><title>{tip}</title></polygon>"));
    }

    /// What is drawn from here to [`Self::close`] has the colour of a series.
    pub fn open(&mut self, series: usize) {
        let dashed = if series >= SERIES { " dashed" } else { "" };
        self.push(format_args!("<g class=\"s{}{dashed}\">", series % SERIES));
    }

    /// Ends what [`Self::open`] began.
    pub fn close(&mut self) {
        self.push(format_args!("</g>"));
    }

    /// SVG for a page that styles the classes itself.
    pub fn inline(&self, class: &str, title: &str) -> String {
        format!(
            "<svg class=\"figure {class}\" viewBox=\"0 0 {:.0} {:.0}\" width=\"{:.0}\" height=\"{:.0}\" role=\"img\" \
             aria-label=\"{}\">{}</svg>",
            self.width,
            self.height,
            self.width,
            self.height,
            escape(title),
            self.body
        )
    }

    /// A stand-alone file on white.
    pub fn standalone(&self, title: &str) -> String {
        let (width, height, edge) = (self.width + 2.0 * MARGIN, self.height + 2.0 * MARGIN, -MARGIN);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"{edge} {edge} {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" role=\"img\">\n<title>{}</title>\n<style>{}</style>\n\
             <rect x=\"{edge}\" y=\"{edge}\" width=\"{width:.0}\" height=\"{height:.0}\" fill=\"#ffffff\"/>\n{}\n</svg>\n",
            escape(title),
            include_str!("figure.css"),
            self.body.replace("/><", "/>\n<").replace("</text><", "</text>\n<")
        )
    }
}

/// The approximate width of a text.
pub fn text_width(text: &str, size: f64) -> f64 {
    text.chars()
        .map(|letter| if matches!(letter, 'i' | 'l' | '.' | ',' | ' ' | ':') { 0.32 } else { 0.62 })
        .sum::<f64>()
        * size
}

/// Text for XML and HTML, in content and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Control characters are not allowed in XML at all.
            control if control.is_control() && !matches!(control, '\n' | '\t') => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}
