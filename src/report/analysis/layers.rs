//! Which layers matter: conditions that evict in one layer alone, layer by layer.

use serde::Serialize;

use super::Condition;

/// The conditions that differ only in the one layer that forgets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerRow {
    /// Index of the run.
    pub run: usize,
    /// What they have in common: `SnapKV at 0.5`.
    pub name: String,
    /// By layer: the condition, if there is one.
    pub conditions: Vec<Option<usize>>,
}

pub(super) fn rows(conditions: &[Condition]) -> Vec<LayerRow> {
    let mut rows: Vec<LayerRow> = Vec::new();
    for (index, condition) in conditions.iter().enumerate() {
        let Some(layer) = condition.condition.one_layer() else { continue };
        let mut common = condition.condition.clone();
        common.layers = Default::default();
        let name = common.words();
        let at = rows.iter().position(|row| row.run == condition.run && row.name == name).unwrap_or_else(|| {
            rows.push(LayerRow { run: condition.run, name, conditions: Vec::new() });
            rows.len() - 1
        });
        let of_layers = &mut rows[at].conditions;
        of_layers.resize(of_layers.len().max(layer + 1), None);
        of_layers[layer] = Some(index);
    }
    rows
}
