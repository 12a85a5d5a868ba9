//! The direction in which vectors are longest.

/// The unit eigenvector of the largest eigenvalue of `outer`, the sum of the vectors' outer products (`[d][d]`), with a
/// positive part along `sum`, the sum of the vectors. `None` if a value is not finite, or if all vectors are 0.
///
/// By power iteration, which starts at `sum`: where vectors have a main direction, it is close to it.
pub(super) fn main_direction(sum: &[f64], outer: &[f64]) -> Option<Vec<f64>> {
    /// The squared length of the difference at which two steps are the same.
    const CLOSE: f64 = 1e-24;
    const STEPS: usize = 10_000;
    let d = sum.len();
    // A small part of every axis, in case the sum has nothing of the direction.
    let length = dot(sum, sum).sqrt();
    let off = |axis: usize| 1e-3 * length.max(f64::MIN_POSITIVE) * (1.0 + axis as f64 / d as f64);
    let start: Vec<f64> = sum.iter().enumerate().map(|(axis, x)| x + off(axis)).collect();
    let mut direction = unit(&start)?;
    for _ in 0..STEPS {
        let next: Vec<f64> = outer.chunks(d).map(|row| dot(row, &direction)).collect();
        let next = unit(&next)?;
        let moved: f64 = next.iter().zip(&direction).map(|(a, b)| (a - b).powi(2)).sum();
        direction = next;
        if moved < CLOSE {
            break;
        }
    }
    let sign = if dot(&direction, sum) < 0.0 { -1.0 } else { 1.0 };
    Some(direction.into_iter().map(|x| sign * x).collect())
}

fn unit(vector: &[f64]) -> Option<Vec<f64>> {
    let length = dot(vector, vector).sqrt();
    (length > 0.0 && length.is_finite()).then(|| vector.iter().map(|x| x / length).collect())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sum and sum of outer products.
    fn moments(vectors: &[[f64; 3]]) -> (Vec<f64>, Vec<f64>) {
        let sum = (0..3).map(|i| vectors.iter().map(|v| v[i]).sum()).collect();
        let outer = (0..9).map(|at| vectors.iter().map(|v| v[at / 3] * v[at % 3]).sum()).collect();
        (sum, outer)
    }

    #[test]
    fn the_direction_is_that_of_the_longest_vectors_with_the_sign_of_their_sum() {
        let (sum, outer) = moments(&[[0.0, -5.0, 0.1], [0.0, -4.0, -0.1], [1.0, 0.5, 0.0], [0.0, 1.0, 0.0]]);
        let found = main_direction(&sum, &outer).unwrap();
        assert!(found[1] < -0.99 && (dot(&found, &found) - 1.0).abs() < 1e-12, "{found:?}");
        // An eigenvector: its image has its direction.
        let image = unit(&outer.chunks(3).map(|row| dot(row, &found)).collect::<Vec<_>>()).unwrap();
        assert!((dot(&image, &found) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn vectors_whose_sum_is_across_their_direction_still_have_one_and_zeros_have_none() {
        let (sum, outer) = moments(&[[3.0, 0.1, 0.0], [-3.0, 0.1, 0.0]]);
        assert!(main_direction(&sum, &outer).unwrap()[0].abs() > 0.99);
        assert_eq!(main_direction(&[0.0; 3], &[0.0; 9]), None);
        assert_eq!(main_direction(&[f64::NAN; 3], &[1.0; 9]), None);
    }
}
