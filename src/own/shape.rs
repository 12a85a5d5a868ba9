//! Scores in the shapes that a program or a file may give: `[L]`, per layer, or per layer and KV head.

use std::path::Path;

use serde_json::Value;

use crate::evict::{Layer, Scores};
use crate::{Error, Result};

const UNEVEN: &str = "it must be lists of numbers, at most three deep and all equally deep";

/// An array of numbers, row by row.
pub(super) struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Array {
    /// Nested lists of numbers, such as `[[1, 2], [3, 4]]`.
    pub fn nested(value: &Value) -> std::result::Result<Self, String> {
        let mut array = Array { shape: Vec::new(), values: Vec::new() };
        array.collect(value, 0)?;
        Ok(array)
    }

    fn collect(&mut self, value: &Value, depth: usize) -> std::result::Result<(), String> {
        const DEEPEST: usize = 3;
        match value {
            Value::Array(items) if depth < DEEPEST => {
                match self.shape.get(depth) {
                    None if self.values.is_empty() => self.shape.push(items.len()),
                    None => return Err(UNEVEN.to_owned()),
                    Some(&length) if length == items.len() => {}
                    Some(length) => return Err(format!("lists of {length} and of {} stand side by side", items.len())),
                }
                items.iter().try_for_each(|item| self.collect(item, depth + 1))
            }
            Value::Number(number) if depth > 0 && depth == self.shape.len() => {
                self.values.push(number.as_f64().unwrap_or(f64::NAN));
                Ok(())
            }
            _ => Err(UNEVEN.to_owned()),
        }
    }

    /// A `.npy` file of float32 or float64 (or integers, for a keep set), in C order.
    pub fn npy(path: &Path) -> std::result::Result<Self, String> {
        let said = |error: std::io::Error| format!("{}: {error}", path.display());
        let bytes = std::fs::read(path).map_err(said)?;
        let file = npyz::NpyFile::new(&bytes[..]).map_err(said)?;
        if file.order() != npyz::Order::C {
            return Err(format!(
                "{}: the array is in Fortran order; save numpy.ascontiguousarray(array)",
                path.display()
            ));
        }
        let shape = file.shape().iter().map(|&size| usize::try_from(size).unwrap_or(usize::MAX)).collect();
        let of = |values: std::result::Result<Vec<f64>, std::io::Error>| values.map_err(said);
        let values = match file.dtype().descr().trim_matches('\'').trim_start_matches(['<', '=', '|']) {
            "f4" => of(file.into_vec::<f32>().map(|all| all.into_iter().map(f64::from).collect()))?,
            "f8" => of(file.into_vec::<f64>())?,
            "i4" => of(file.into_vec::<i32>().map(|all| all.into_iter().map(f64::from).collect()))?,
            "i8" => of(file.into_vec::<i64>().map(|all| all.into_iter().map(|value| value as f64).collect()))?,
            other => {
                return Err(format!(
                    "{}: the element type is {other}; save float32 or float64 (int32 or int64 for positions)",
                    path.display()
                ));
            }
        };
        Ok(Array { shape, values })
    }

    /// The shape as numpy prints it: `(18, 4, 100)`.
    fn shown(&self) -> String {
        let sizes: Vec<_> = self.shape.iter().map(ToString::to_string).collect();
        format!("({}{})", sizes.join(", "), if sizes.len() == 1 { "," } else { "" })
    }

    /// The rows of `layers`, `[layer][KV head]`, each of `len` numbers: a row for all heads of all layers, one for all
    /// heads of each layer, or one for each head.
    pub fn rows(&self, layers: &[(u32, usize)], len: usize) -> std::result::Result<Vec<Vec<&[f64]>>, String> {
        let heads = layers.first().map_or(0, |(_, heads)| *heads);
        let equal = layers.iter().all(|(_, other)| *other == heads);
        let row = |index: usize| &self.values[index * len..(index + 1) * len];
        let n = layers.len();
        let per_layer = |row_of: &dyn Fn(usize, usize) -> usize| {
            let of_layer = |(layer, (_, heads)): (usize, &(u32, usize))| {
                (0..*heads).map(|head| row(row_of(layer, head))).collect()
            };
            Ok(layers.iter().enumerate().map(of_layer).collect())
        };
        if self.shape == [len] {
            per_layer(&|_, _| 0)
        } else if self.shape == [n, len] {
            per_layer(&|layer, _| layer)
        } else if equal && self.shape == [n, heads, len] {
            per_layer(&|layer, head| layer * heads + head)
        } else {
            let per_head = if equal { format!(" or ({n}, {heads}, {len})") } else { String::new() };
            Err(format!("its shape is {}, and it must be ({len},), ({n}, {len}){per_head}", self.shown()))
        }
    }

    /// The array as scores of `layers` over `len` positions.
    pub fn scores(&self, layers: &[(u32, usize)], len: usize) -> std::result::Result<Scores, String> {
        if let Some(at) = self.values.iter().position(|value| !value.is_finite()) {
            return Err(format!("score number {at} is {}, and positions cannot be ranked by that", self.values[at]));
        }
        let rows = self.rows(layers, len)?;
        let of_layer = |(&(layer, _), heads): (&(u32, usize), Vec<&[f64]>)| {
            (layer, heads.into_iter().map(<[f64]>::to_vec).collect())
        };
        Ok(Scores { layers: layers.iter().zip(rows).map(of_layer).collect(), ..Scores::default() })
    }
}

/// The layers as [`Array::rows`] takes them: number and KV heads.
pub(super) fn sizes(layers: &[Layer]) -> Vec<(u32, usize)> {
    layers.iter().map(|layer| (layer.index, layer.kv_heads)).collect()
}

/// Writes an array as `.npy`.
pub(super) fn write<T: npyz::AutoSerialize + Copy>(path: &Path, shape: &[usize], values: &[T]) -> Result<()> {
    use npyz::WriterBuilder as _;
    let fail = |error| Error::io("cannot write", path)(error);
    let shape: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
    let mut bytes = Vec::with_capacity(size_of_val(values) + 128);
    let options = npyz::WriteOptions::new().default_dtype().shape(&shape);
    let mut writer = options.writer(&mut bytes).begin_nd().map_err(fail)?;
    writer.extend(values.iter().copied()).map_err(fail)?;
    writer.finish().map_err(fail)?;
    std::fs::write(path, bytes).map_err(fail)
}
