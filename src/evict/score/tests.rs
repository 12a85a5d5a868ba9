//! Formulas on cases small enough to compute by hand. tests/scores.rs compares the whole chain, including the tap that
//! reads the tensors, with an independent implementation.

use super::h2o::Attended;
use super::keydiff::KeyDiff;
use super::knorm::KNorm;
use super::lagkv::LagKv;
use super::snapkv::SnapKv;
use super::tova::Tova;
use super::*;

fn layer<'a>(keys: &'a [f32], values: &'a [f32], sums: Vec<Attention<'a>>, len: usize) -> Layer<'a> {
    Layer {
        index: 0,
        window: None,
        len,
        positions: &[0, 1, 2, 3, 4, 5][..len],
        heads: 2,
        kv_heads: 1,
        d_k: 2,
        d_v: 2,
        attention: sums,
        keys,
        values,
        ..Layer::default()
    }
}

fn close(actual: &[f64], expected: &[f64]) {
    assert!(
        actual.len() == expected.len() && actual.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9),
        "{actual:?} is not {expected:?}"
    );
}

#[test]
fn keys_are_scored_by_norm_and_by_direction() {
    let keys = [3.0, 4.0, 0.0, 2.0, 0.0, 1.0];
    let layer = layer(&keys, &[], Vec::new(), 3);
    close(&KNorm.score(&layer)[0], &[-5.0, -2.0, -1.0]);
    // Unit keys (0.6, 0.8), (0, 1), (0, 1): their sum is (0.6, 2.8).
    let length = (0.36f64 + 7.84).sqrt();
    close(&KeyDiff.score(&layer)[0], &[-(0.36 + 2.24) / length, -2.8 / length, -2.8 / length]);
}

#[test]
fn attention_is_summed_normalized_and_pooled() {
    let sums: Vec<f64> = vec![3.0, 1.0, 0.5, 0.25, 0.2, 0.1];
    let attention = |from| vec![Attention { from, sums: vec![&sums], maxima: Vec::new() }];
    close(
        &Attended { sums: false }.score(&layer(&[], &[], attention(0), 6))[0],
        &[0.5, 0.2, 0.125, 0.25 / 3.0, 0.1, 0.1],
    );
    let local = Layer { window: Some(2), ..layer(&[], &[], attention(0), 6) };
    close(&Attended { sums: false }.score(&local)[0], &[1.5, 0.5, 0.25, 0.125, 0.1, 0.1]);
    let six = layer(&[], &[], attention(0), 6);
    close(&Attended { sums: true }.score(&six)[0], six.attention_from(0)[0]);
    close(&Tova.score(&layer(&[], &[], attention(5), 6))[0], &[3.0, 1.0, 0.5, 0.25, 0.2, 4.0]);
    // A window of half the prompt: three queries.
    close(
        &SnapKv { window: 64, kernel: 5, maxpool: false }.score(&layer(&[], &[], attention(3), 6))[0],
        &[0.3, 0.3, 0.3, 1.3, 1.3, 1.3],
    );
}

#[test]
fn a_dimension_without_range_does_not_turn_lagkv_into_recency() {
    // Two chunks of two; the second dimension is always 5, as are all values.
    let keys = [3.0, 5.0, 0.0, 5.0, 0.0, 5.0, 1.0, 5.0];
    let layer = layer(&keys, &[5.0; 8], Vec::new(), 4);
    close(&LagKv { sinks: 0, lag: 2 }.score(&layer)[0], &[0.5, 0.0, 1.0, 1.0]);
}

#[test]
fn a_score_that_is_no_number_is_an_error_and_no_rank() {
    let scores = |last: f64| Scores { layers: vec![(7, vec![vec![1.0, 2.0], vec![0.5, last]])], ..Scores::default() };
    assert!(scores(f64::NEG_INFINITY).checked().is_ok());
    let error = scores(f64::NAN).checked().unwrap_err().to_string();
    assert!(error.contains("position 1 in layer 7, KV head 1"), "{error}");
    // Keys that cannot be compared do not get a rank.
    let keys = [f32::NAN, 5.0, 0.0, 5.0, 0.0, 5.0, 1.0, 5.0];
    let layer = layer(&keys, &[5.0; 8], Vec::new(), 4);
    assert!(LagKv { sinks: 0, lag: 2 }.score(&layer)[0][0].is_nan());
}

#[test]
fn of_equal_scores_the_later_position_is_kept() {
    let budget = crate::evict::Budget::Window { keep_first: 0, keep_last: 3 };
    let view =
        View { scores: &[9.0, 1.0, 2.0, 2.0, 0.0], ..View::new(0..5, &[false; 5], budget, crate::evict::TrialSeed(0)) };
    // The last position always survives, whatever its score.
    assert_eq!(super::super::evict(&Lowest(KNorm), 5, &view).unwrap().kept(), [0..1, 3..5]);
    let sinks: crate::evict::PolicySpec = "sinks+knorm:sinks=1".parse().unwrap();
    let budget = crate::evict::Budget::Ratio("0.4".parse().unwrap());
    let view = View { budget, scores: &[0.5, 1.0, 2.0, 2.0, 0.0], ..view };
    assert_eq!(super::super::evict(sinks.policy(), 5, &view).unwrap().kept(), [0..1, 3..5]);
}

#[test]
fn aggregates_differ_where_heads_differ_in_size() {
    let layers = vec![(0, vec![vec![100.0, 0.0, 50.0]]), (1, vec![vec![0.1, 0.2, 0.3]])];
    let scores = Scores { layers, ..Scores::default() };
    close(&scores.aggregate(Aggregate::Mean, |_| true), &[50.05, 0.1, 25.15]);
    close(&scores.aggregate(Aggregate::Max, |_| true), &[100.0, 0.2, 50.0]);
    close(&scores.aggregate(Aggregate::RankMean, |_| true), &[1.0, 0.5, 1.5]);
    close(&scores.aggregate(Aggregate::Mean, |layer| layer == 1), &[0.1, 0.2, 0.3]);
}

#[test]
fn parts_are_scored_as_if_each_were_the_whole_prompt() {
    // The weight of query q on position j <= q.
    let weight = |q: usize, j: usize| ((7 * q + 3 * j) % 5 + 1) as f64 / 10.0;
    let sums: Vec<Vec<f64>> =
        (0..=6).map(|from| (0..6).map(|j| (from.max(j)..6).map(|q| weight(q, j)).sum()).collect()).collect();
    let attention =
        sums.iter().zip(0..).map(|(sums, from)| Attention { from, sums: vec![&sums[..]], maxima: Vec::new() });
    let layer = layer(&[], &[], attention.collect(), 6);
    let parts = [0..2, 2..6];
    let h2o = Attended { sums: false };
    let mean = |j: usize, end: usize| (j..end).map(|q| weight(q, j)).sum::<f64>() / (end - j) as f64;
    let expected: Vec<f64> = (0..6).map(|j| mean(j, if j < 2 { 2 } else { 6 })).collect();
    close(&h2o.score_in_parts(&layer, &parts)[0], &expected);
    let tova: Vec<f64> = vec![weight(1, 0), 0.0, weight(5, 2), weight(5, 3), weight(5, 4), 0.0];
    let largest = tova.iter().copied().fold(0.0, f64::max) + 1.0;
    let kept = [&tova[..1], &[largest], &tova[2..5], &[largest]].concat();
    close(&Tova.score_in_parts(&layer, &parts)[0], &kept);
    let snapkv = SnapKv { window: 1, kernel: 1, maxpool: false };
    close(&snapkv.score_in_parts(&layer, &parts)[0], &kept);
    // The whole prompt as its only part.
    let whole: Vec<_> = std::iter::once(0..6).collect();
    let snapkv = SnapKv { window: 64, kernel: 5, maxpool: true };
    for score in [&h2o as &dyn Score, &Tova, &snapkv] {
        let (a, b) = (score.score(&layer), score.score_in_parts(&layer, &whole));
        close(&a[0], &b[0]);
        let needs = score.needs_in_parts(&parts).unwrap().attention_from;
        assert!(needs.windows(2).all(|pair| pair[0] < pair[1]) && needs.last() == Some(&6), "{needs:?}");
    }
}
