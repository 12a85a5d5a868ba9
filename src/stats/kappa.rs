//! Agreement between two raters.

/// Cohen's kappa (1960) of two sets of yes/no verdicts on the same items. `None` without items, or if both raters
/// always give the same single verdict, so that there is no chance agreement to correct for.
///
/// # Panics
/// If the slices differ in length.
pub fn cohens_kappa(a: &[bool], b: &[bool]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "verdicts on the same items");
    let n = a.len() as f64;
    let share = |verdicts: &[bool]| verdicts.iter().filter(|&&verdict| verdict).count() as f64 / n;
    let (yes_a, yes_b) = (share(a), share(b));
    let agreed = a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / n;
    let by_chance = yes_a * yes_b + (1.0 - yes_a) * (1.0 - yes_b);
    (by_chance < 1.0).then(|| (agreed - by_chance) / (1.0 - by_chance)) // NaN of no items fails the test
}
