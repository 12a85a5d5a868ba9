//! Progress of an experiment: a live bar on a terminal, one plain line per trial in a pipe.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::exp::{Observer, TrialRow};

/// Shows a run on stderr.
pub(super) struct Progress {
    quiet: bool,
    terminal: Option<Terminal>,
    directory: String,
    total: usize,
    finished: usize,
}

struct Terminal {
    bars: MultiProgress,
    bar: ProgressBar,
    /// One line per condition, in the order in which they were first seen.
    means: Vec<(String, ProgressBar)>,
}

impl Progress {
    pub fn new(directory: &Path, quiet: bool, terminal: bool) -> Self {
        let terminal = (terminal && !quiet).then(|| {
            let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} trials, {elapsed} gone, {eta} to go  {msg}");
            let bar = bars.add(ProgressBar::new(0).with_style(style.expect("the template is valid")));
            bar.enable_steady_tick(Duration::from_millis(500));
            Terminal { bars, bar, means: Vec::new() }
        });
        Progress { quiet, terminal, directory: directory.display().to_string(), total: 0, finished: 0 }
    }

    pub fn finish(&mut self) {
        if let Some(terminal) = &self.terminal {
            terminal.means.iter().for_each(|(_, bar)| bar.finish_and_clear());
            terminal.bar.finish_and_clear();
        }
    }

    /// Says something, unless nothing is to be said.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            Self::line(text);
        }
    }

    fn line(text: &str) {
        // Nobody may be listening; the rows are what counts.
        let _ = writeln!(anstream::stderr(), "{text}");
    }
}

impl Observer for Progress {
    fn started(&mut self, trials: usize, finished: usize) {
        (self.total, self.finished) = (trials, finished);
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
            terminal.bar.reset_eta();
        }
    }

    fn trial(&mut self, row: &TrialRow, mean: Option<f64>) {
        self.finished += usize::from(row.error.is_empty());
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
        terminal.bar.set_message(row.example_id.clone());
        let known = terminal.means.iter().position(|(condition, _)| *condition == row.condition);
        let index = known.unwrap_or_else(|| {
            let style = ProgressStyle::with_template("  {prefix:32} mean {msg}").expect("the template is valid");
            let bar = terminal.bars.add(ProgressBar::new(1).with_style(style).with_prefix(row.condition.clone()));
            terminal.means.push((row.condition.clone(), bar));
            terminal.means.len() - 1
        });
        terminal.means[index].1.set_message(number(mean));
    }
}
