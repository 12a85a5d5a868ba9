//! Mean scores by condition, as text and as JSON.

use serde_json::{Value, json};

/// A condition's name, its mean score, the number of its finished trials.
pub(super) type Mean = (String, Option<f64>, usize);

/// A table with one line per condition.
pub(super) fn table(means: &[Mean]) -> String {
    let width = means.iter().map(|(name, ..)| name.len()).max().unwrap_or(0).max(9);
    let mut text = format!("{:width$}  trials   score\n", "condition");
    for (name, mean, trials) in means {
        let mean = mean.map_or("-".to_owned(), |mean| format!("{mean:.3}"));
        text.push_str(&format!("{name:width$}  {trials:>6}  {mean:>6}\n"));
    }
    text
}

/// One JSON object per condition.
pub(super) fn objects(means: &[Mean]) -> Vec<Value> {
    let object = |(name, mean, trials): &Mean| json!({"condition": name, "mean_score": mean, "trials": trials});
    means.iter().map(object).collect()
}
