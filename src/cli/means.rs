//! Mean scores by condition, as text.

use crate::exp::ConditionMean;

/// A table with one line per condition.
pub(super) fn table(means: &[ConditionMean]) -> String {
    let width = means.iter().map(|mean| mean.condition.len()).max().unwrap_or(0).max(9);
    let mut text = format!("{:width$}  trials   score\n", "condition");
    for ConditionMean { condition, mean_score, trials } in means {
        let score = mean_score.map_or("-".to_owned(), |score| format!("{score:.3}"));
        text.push_str(&format!("{condition:width$}  {trials:>6}  {score:>6}\n"));
    }
    text
}
