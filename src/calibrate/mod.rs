//! Filters for the policy `qfilters`: the main direction of a model's queries, measured on texts beforehand.
//!
//! For each query head the direction is the first right singular vector of all its queries (after RoPE), with the sign that
//! most queries have on average; a KV head gets the mean over its query heads (Godey et al. 2025, arXiv 2503.02812).

mod direction;
mod file;

pub use file::{Filters, Provenance};

use direction::main_direction;

use crate::evict::{Layer, Needs, QFilters};
use crate::llama::{Context, Token};
use crate::{Error, Result};

/// Sums over the queries of one query head.
struct Moments {
    /// Of the queries: `[d]`.
    sum: Vec<f64>,
    /// Of their outer products: `[d][d]`.
    outer: Vec<f64>,
}

/// Measures the filters while the context reads each of `texts` from an empty cache. `read` is called after each text
/// with the number of texts so far. Returns the number of positions too.
///
/// # Errors
/// If the context has no tap or is too small, if there are no tokens, if the model's graph lacks the queries, or if a
/// query is not finite.
pub fn calibrate(
    context: &mut Context,
    texts: &[Vec<Token>],
    mut read: impl FnMut(usize),
) -> Result<(QFilters, usize)> {
    let needs = Needs::rotated_queries();
    let mut layers: Vec<(u32, usize, Vec<Moments>)> = Vec::new();
    for (index, text) in texts.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
        context.clear();
        context.observe(0, &needs)?;
        context.read(0, text, 0, false)?;
        context.seen(0, &needs, |seen| {
            if layers.is_empty() {
                layers = seen.iter().map(|layer| (layer.index, layer.kv_heads, Moments::none(layer))).collect();
            }
            for ((_, _, moments), layer) in layers.iter_mut().zip(seen) {
                moments.iter_mut().enumerate().for_each(|(head, moments)| moments.add(layer, head, text.len()));
            }
        })?;
        context.look_away();
        read(index + 1);
    }
    let positions = texts.iter().map(Vec::len).sum();
    if positions == 0 {
        return Err(Error::input("there are no tokens to calibrate on; give a longer text"));
    }
    let filters = layers.into_iter().map(|(layer, kv_heads, moments)| {
        let group = moments.len() / kv_heads;
        let directions = moments.iter().map(|moments| main_direction(&moments.sum, &moments.outer));
        let directions: Option<Vec<_>> = directions.collect();
        let directions = directions.ok_or_else(|| {
            Error::failed(format!(
                "the queries of layer {layer} are not finite, or all 0, so that they have no direction"
            ))
        })?;
        let mean = |heads: &[Vec<f64>]| -> Vec<f32> {
            let at = |dimension: usize| heads.iter().map(|head| head[dimension]).sum::<f64>() / heads.len() as f64;
            (0..heads[0].len()).map(|dimension| at(dimension) as f32).collect()
        };
        Ok((layer, directions.chunks(group).map(mean).collect()))
    });
    Ok((QFilters { layers: filters.collect::<Result<_>>()? }, positions))
}

impl Moments {
    fn none(layer: &Layer) -> Vec<Self> {
        let d = layer.d_k;
        (0..layer.heads).map(|_| Moments { sum: vec![0.0; d], outer: vec![0.0; d * d] }).collect()
    }

    /// Adds a text of `n` queries.
    fn add(&mut self, layer: &Layer, head: usize, n: usize) {
        let Some(queries) = &layer.queries else { return };
        let (d, n) = (layer.d_k, n as f64);
        let mean = &queries.mean[head * d..(head + 1) * d];
        let covariance = &queries.covariance[head * d * d..(head + 1) * d * d];
        self.sum.iter_mut().zip(mean).for_each(|(sum, mean)| *sum += n * mean);
        for (row, (outer, covariance)) in self.outer.chunks_mut(d).zip(covariance.chunks(d)).enumerate() {
            for (column, (outer, covariance)) in outer.iter_mut().zip(covariance).enumerate() {
                *outer += n * (covariance + mean[row] * mean[column]);
            }
        }
    }
}
