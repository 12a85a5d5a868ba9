//! `qfilters`: keeps keys that point where queries point (Godey et al. 2025, "Q-Filters", arXiv 2503.02812).
//!
//! Queries of a head lie along one main direction. The filter of a KV head is that direction, measured beforehand on a text
//! (`kvllama calibrate`); a position's score is its key's projection on it.

use super::{Family, Heads, Layer, Lowest, Needs, Score, Scores, Subject};
use crate::{Error, Result};

/// The filters of a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QFilters {
    /// For each layer: its number in the model, and the filter of each KV head, as long as a key.
    pub layers: Vec<(u32, Vec<Vec<f32>>)>,
}

/// The name and summary of `qfilters`.
pub(in crate::evict) static QFILTERS: Family = Family {
    name: "qfilters",
    title: "Q-Filters",
    summary: "keys along the main direction of queries, which `kvllama calibrate` measures beforehand; takes file=PATH",
    paper: Some("2503.02812"),
    parameters: &[],
    make: |_| Box::new(Lowest(QFilters::default())),
};

impl QFilters {
    fn of(&self, layer: u32) -> Option<&Vec<Vec<f32>>> {
        self.layers.iter().find(|(index, _)| *index == layer).map(|(_, filters)| filters)
    }
}

impl Score for QFilters {
    fn needs(&self, _len: usize) -> Needs {
        Needs::keys()
    }

    /// The filters must [fit](Score::scores) the layer.
    fn score(&self, layer: &Layer) -> Heads {
        let Some(filters) = self.of(layer.index) else { return Heads::new() };
        layer.per_head(|head| {
            let along =
                |at| layer.key(head, at).iter().zip(&filters[head]).map(|(k, f)| f64::from(*k) * f64::from(*f)).sum();
            (0..layer.len).map(along).collect()
        })
    }

    fn scores(&self, layers: &[Layer], _subject: &Subject) -> Result<Scores> {
        for layer in layers {
            let sizes = self.of(layer.index).map(|filters| filters.iter().map(Vec::len).collect::<Vec<_>>());
            if sizes != Some(vec![layer.d_k; layer.kv_heads]) {
                return Err(Error::input(format!(
                    "the filters of layer {} must be {} of {} numbers, one for each KV head; make them anew with `kvllama \
                     calibrate`",
                    layer.index, layer.kv_heads, layer.d_k
                )));
            }
        }
        Ok(Scores {
            layers: layers.iter().map(|layer| (layer.index, self.score(layer))).collect(),
            ..Scores::default()
        })
    }
}
