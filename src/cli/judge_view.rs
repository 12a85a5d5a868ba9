//! The text output of judging: the plan, the progress, the result.

use std::io::{IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::judge::stage::{self, Judged, Plan, Spent};

/// The planned requests, in one line.
pub(super) fn plan_text(plan: &Plan) -> String {
    let cost = plan.cost_usd.map_or(String::new(), |cost| format!(", about ${cost:.4}"));
    format!(
        "{} verdicts to ask of {} ({} known): about {} tokens in, {} out{cost}",
        plan.pending,
        plan.judge,
        plan.known,
        plan.usage.read(),
        plan.usage.output
    )
}

fn spent_text(spent: &Spent) -> String {
    let cost = if spent.cost_usd > 0.0 { format!(", ${:.4}", spent.cost_usd) } else { String::new() };
    format!("{} verdicts asked, {} tokens in, {} out{cost}", spent.requests, spent.usage.read(), spent.usage.output)
}

/// The result of judging, as text.
pub(super) fn outcome_text(outcome: &Judged) -> String {
    let mut text = format!("judge     {}\n", outcome.judge);
    if outcome.judged + outcome.unjudged == 0 {
        text.push_str("judged    nothing: no instruction has a rubric; --all judges those with a rule, too\n");
    } else {
        let note = if outcome.out_of_budget { " (--max-cost is reached)" } else { "" };
        text.push_str(&format!("judged    {} instructions, {} unjudged{note}\n", outcome.judged, outcome.unjudged));
    }
    text.push_str(&format!("now       {}\n", spent_text(&outcome.spent)));
    text.push_str(&format!("in all    {}\n", spent_text(&outcome.spent_in_all)));
    if let Some(agreement) = &outcome.agreement {
        text.push_str(&format!(
            "agreement {:.3} with the rules on {} instructions (both {}, neither {}, judge only {}, rule only {})\n",
            agreement.share(),
            agreement.total(),
            agreement.both,
            agreement.neither,
            agreement.judge_only,
            agreement.rule_only
        ));
    }
    text
}

/// Shows the progress of judging on stderr: a live bar on a terminal, a plain line from time to time elsewhere.
pub(super) struct Progress {
    quiet: bool,
    bar: Option<ProgressBar>,
    /// The plan, as soon as it is known.
    pub plan: Option<Plan>,
}

/// Number of replies between two plain lines.
const LINE_EVERY: usize = 100;

impl Progress {
    pub fn new(quiet: bool) -> Self {
        Progress { quiet, bar: None, plan: None }
    }

    fn line(&self, text: &str) {
        if !self.quiet {
            // Stderr may be closed; the rows matter.
            let _ = writeln!(anstream::stderr(), "{text}");
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl stage::Observer for Progress {
    fn planned(&mut self, plan: &Plan) {
        self.line(&plan_text(plan));
        if !self.quiet && std::io::stderr().is_terminal() && plan.pending > 0 {
            let style =
                ProgressStyle::with_template("{bar:30} {pos}/{len} verdicts, {elapsed} gone, {eta} to go  {msg}");
            let bar = ProgressBar::with_draw_target(Some(plan.pending as u64), ProgressDrawTarget::stderr());
            self.bar = Some(bar.with_style(style.expect("the template is valid")));
        }
        self.plan = Some(plan.clone());
    }

    fn replied(&mut self, replies: usize, unjudged: usize, spent: &Spent) {
        let failed = if unjudged > 0 { format!("{unjudged} unjudged, ") } else { String::new() };
        let state = format!("{failed}${:.4}", spent.cost_usd);
        match &self.bar {
            Some(bar) => {
                bar.set_position(replies as u64);
                bar.set_message(state);
            }
            None if replies.is_multiple_of(LINE_EVERY) => self.line(&format!("{replies} verdicts, {state}")),
            None => {}
        }
    }
}
