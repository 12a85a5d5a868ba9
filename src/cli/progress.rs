//! Progress of an experiment: a live bar on a terminal, one plain line per trial in a pipe.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::exp::{Observer, TrialRow};

/// Shows the progress of a run on stderr.
pub(super) struct Progress {
    quiet: bool,
    terminal: Option<Terminal>,
    directory: String,
    total: usize,
    finished: usize,
    session: Session,
}

struct Terminal {
    bar: ProgressBar,
    /// One line for each of the first conditions of the plan.
    means: Vec<(String, ProgressBar)>,
    /// The line with the number of conditions that have no line.
    more: Option<ProgressBar>,
}

/// Largest number of lines of means: more would push the bar off a small window.
const MEANS: usize = 16;

/// The work since this process started: the rows of an earlier start say nothing about the remaining time.
struct Session {
    start: Instant,
    trials: u32,
    tokens: usize,
}

impl Session {
    /// From this time on an estimate is shown.
    const WARM_UP: Duration = Duration::from_secs(2);

    /// `3m 10s to go, 41 tokens/s`, with a dash for what is not known yet.
    fn outlook(&self, left: usize) -> String {
        let elapsed = self.start.elapsed();
        if self.trials == 0 || elapsed < Self::WARM_UP {
            return "– to go".to_owned();
        }
        let left = elapsed.mul_f64(left as f64 / f64::from(self.trials));
        let speed = self.tokens as f64 / elapsed.as_secs_f64();
        format!("{} to go, {speed:.0} tokens/s", HumanDuration(Duration::from_secs(left.as_secs())))
    }
}

impl Progress {
    /// `conditions` are the names of the plan's conditions, in its order.
    pub fn new(directory: &Path, conditions: &[String], quiet: bool, terminal: bool) -> Self {
        let terminal = (terminal && !quiet).then(|| {
            let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} trials, {elapsed} gone, {msg}");
            let bar = bars.add(ProgressBar::new(0).with_style(style.expect("the template is valid")));
            bar.enable_steady_tick(Duration::from_millis(500));
            let line = |style: &str| {
                let style = ProgressStyle::with_template(style).expect("the template is valid");
                bars.add(ProgressBar::new(1).with_style(style))
            };
            let shown = conditions.iter().take(MEANS);
            let means = shown.map(|name| {
                let bar = line("  {prefix:32} mean {msg}").with_prefix(name.clone());
                bar.set_message("–");
                (name.clone(), bar)
            });
            let means = means.collect();
            let more = conditions.len().saturating_sub(MEANS);
            let more = (more > 0).then(|| {
                let bar = line("  {msg}");
                bar.set_message(format!("and {more} more conditions"));
                bar
            });
            Terminal { bar, means, more }
        });
        let session = Session { start: Instant::now(), trials: 0, tokens: 0 };
        Progress { quiet, terminal, directory: directory.display().to_string(), total: 0, finished: 0, session }
    }

    pub fn finish(&mut self) {
        if let Some(terminal) = &self.terminal {
            let lines = terminal.means.iter().map(|(_, bar)| bar).chain(&terminal.more);
            lines.for_each(ProgressBar::finish_and_clear);
            terminal.bar.finish_and_clear();
        }
    }

    /// Prints a message, unless output is off.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            Self::line(text);
        }
    }

    fn line(text: &str) {
        // Stderr may be closed; the rows matter.
        let _ = writeln!(anstream::stderr(), "{text}");
    }
}

impl Observer for Progress {
    fn started(&mut self, trials: usize, finished: usize) {
        (self.total, self.finished) = (trials, finished);
        self.session.start = Instant::now();
        if self.quiet {
            return;
        }
        let mut text = format!("{trials} trials, rows in {}", self.directory);
        if finished > 0 {
            let _ = write!(text, "; {finished} finished earlier");
        }
        Self::line(&text);
        if let Some(terminal) = &self.terminal {
            terminal.bar.set_length(trials as u64);
            terminal.bar.set_position(finished as u64);
            terminal.bar.set_message(self.session.outlook(trials));
        }
    }

    fn trial(&mut self, row: &TrialRow, mean: Option<f64>) {
        self.finished += usize::from(row.error.is_empty());
        self.session.trials += 1;
        self.session.tokens += row.n_generated;
        if self.quiet {
            return;
        }
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let Some(terminal) = &mut self.terminal else {
            let outcome = if row.error.is_empty() {
                format!("score {} mean {}", number(row.mean_score), number(mean))
            } else {
                format!("FAILED {}", row.error)
            };
            Self::line(&format!("[{}/{}] {} {} {outcome}", self.finished, self.total, row.example_id, row.condition));
            return;
        };
        terminal.bar.set_position(self.finished as u64);
        let left = self.total.saturating_sub(self.finished);
        terminal.bar.set_message(format!("{}  {}", self.session.outlook(left), row.example_id));
        if let Some((_, line)) = terminal.means.iter().find(|(condition, _)| *condition == row.condition) {
            line.set_message(number(mean));
        }
    }
}
