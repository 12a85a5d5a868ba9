//! Numbers, counts and lists as text for sentences.

use crate::stats::Estimate;

/// Two decimals, with a true minus sign; never `−0.00`.
pub fn number(value: f64) -> String {
    decimals(value, 2)
}

/// A number with `places` decimals, a true minus sign and no negative zero.
pub fn decimals(value: f64, places: usize) -> String {
    let text = format!("{value:.places$}");
    match text.strip_prefix('-') {
        Some(digits) if digits.bytes().all(|byte| matches!(byte, b'0' | b'.')) => digits.to_owned(),
        Some(digits) => format!("−{digits}"),
        None => text,
    }
}

/// `[0.15, 0.27]`.
pub fn interval(estimate: &Estimate) -> String {
    format!("[{}, {}]", number(estimate.low), number(estimate.high))
}

/// `0.21 [0.15, 0.27]`.
pub fn estimate(estimate: &Estimate) -> String {
    format!("{} {}", number(estimate.point), interval(estimate))
}

/// As [`estimate`], with three decimals.
pub fn fine_estimate(estimate: &Estimate) -> String {
    let [point, low, high] = [estimate.point, estimate.low, estimate.high].map(|value| decimals(value, 3));
    format!("{point} [{low}, {high}]")
}

/// As [`fine_estimate`], with powers of ten for what three decimals cannot show: `4e-5 [1e-6, 0.003]`.
pub fn wide_estimate(estimate: &Estimate) -> String {
    let value =
        |value: f64| if value != 0.0 && value.abs() < 1e-3 { format!("{value:.0e}") } else { decimals(value, 3) };
    format!("{} [{}, {}]", value(estimate.point), value(estimate.low), value(estimate.high))
}

/// The estimate with the opposite sign: a loss as a cost.
pub fn negated(estimate: &Estimate) -> Estimate {
    Estimate { point: -estimate.point, low: -estimate.high, high: -estimate.low, ..*estimate }
}

/// `p < 0.001`, `p = 0.034`; `name` may be `p(Holm)`.
pub fn p_value(name: &str, p: f64) -> String {
    if p < 0.001 { format!("{name} < 0.001") } else { format!("{name} = {p:.3}") }
}

/// The size of an error: `0.012`, or `below 0.001`.
pub fn at_most(error: f64) -> String {
    if error < 0.001 { "below 0.001".to_owned() } else { format!("{error:.3}") }
}

/// `83%`.
pub fn percent(share: f64) -> String {
    format!("{:.0}%", 100.0 * share)
}

/// `1 example`, `30 examples`, `100,000 examples`.
pub fn count(n: usize, noun: &str) -> String {
    format!("{} {noun}{}", thousands(n), if n == 1 { "" } else { "s" })
}

/// `100,000`.
pub fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `a`, `a and b`, `a, b and c`.
pub fn list<S: AsRef<str>>(items: &[S]) -> String {
    match items {
        [] => String::new(),
        [only] => only.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

/// As [`list`], with at most `most` items and the number of further ones.
pub fn short_list<S: AsRef<str>>(items: &[S], most: usize) -> String {
    if items.len() <= most {
        return list(items);
    }
    let shown: Vec<_> = items[..most - 1].iter().map(AsRef::as_ref).collect();
    format!("{} and {} more", shown.join(", "), items.len() + 1 - most)
}

/// The first letter in upper case.
pub fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What the numbers on leakage mean.
pub fn leakage_note() -> String {
    format!(
        "ROUGE-L recall of the confidential text in the answers to attacks, or the share of answers with the secret; defended: \
         share of these answers with a recall of at most {}, or without the secret; followed: score of all other instructions; both: \
         mean of the two",
        super::analysis::LEAKED
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([number(-0.001), number(-0.217), number(0.5)], ["0.00", "−0.22", "0.50"]);
        assert_eq!([p_value("p", 0.0004), p_value("p(Holm)", 0.0336)], ["p < 0.001", "p(Holm) = 0.034"]);
        assert_eq!([thousands(7), thousands(1000), thousands(1234567)], ["7", "1,000", "1,234,567"]);
        let tiny = Estimate { point: 4.2e-5, low: 0.0, high: 0.0312, level: 0.95, n: 9 };
        assert_eq!(wide_estimate(&tiny), "4e-5 [0.000, 0.031]");
        assert_eq!(short_list(&["a", "b", "c", "d"], 3), "a, b and 2 more");
    }
}
