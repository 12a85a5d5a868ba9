//! Holm's correction over chains of hypotheses that are tested in order.

/// Corrected p-values that control the family-wise error rate over all chains together, whatever the dependence.
///
/// Each chain is tested in its order and stops at the first hypothesis that is not rejected. It starts with an equal
/// part of the level; once its last hypothesis is rejected, its part goes to the remaining chains (a graphical
/// procedure: Bretz, Maurer, Brannath & Posch 2009). With chains of one hypothesis this is Holm's procedure (1979).
pub fn holm_gated(chains: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut corrected: Vec<Vec<f64>> = chains.iter().map(|chain| vec![1.0; chain.len()]).collect();
    let mut at = vec![0; chains.len()];
    let mut open: Vec<usize> = (0..chains.len()).filter(|&chain| !chains[chain].is_empty()).collect();
    let mut part = vec![1.0 / open.len().max(1) as f64; chains.len()];
    let mut highest = 0.0f64;
    let demanded = |chain: usize, at: &[usize], part: &[f64]| chains[chain][at[chain]] / part[chain];
    while let Some(&next) = open.iter().min_by(|&&a, &&b| demanded(a, &at, &part).total_cmp(&demanded(b, &at, &part))) {
        highest = highest.max(demanded(next, &at, &part)).min(1.0);
        corrected[next][at[next]] = highest;
        at[next] += 1;
        if at[next] == chains[next].len() {
            open.retain(|&chain| chain != next);
            let share = part[next] / open.len().max(1) as f64;
            open.iter().for_each(|&chain| part[chain] += share);
        }
    }
    corrected
}
