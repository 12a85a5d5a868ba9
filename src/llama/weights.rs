//! Weights as the model's file holds them. llama.cpp's own copies may be on a GPU, or repacked for CPU kernels so that they
//! cannot be read back.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Cursor, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::ffi;
use super::gguf::{self, Place};
use crate::evict::Layer;
use crate::{Error, Result};

/// Where a model was loaded from, with the table of its tensors once one was asked for.
pub(super) struct Weights {
    source: Source,
    places: OnceLock<HashMap<String, (Source, Place)>>,
}

#[derive(Debug, Clone)]
enum Source {
    File(PathBuf),
    Memory(&'static [u8]),
}

/// A matrix of a model.
pub(super) struct Matrix {
    /// Length of a row.
    pub columns: usize,
    /// Row after row.
    pub values: Vec<f32>,
}

impl Weights {
    pub fn of_file(path: &Path) -> Self {
        Weights { source: Source::File(path.to_owned()), places: OnceLock::new() }
    }

    pub fn of_memory(bytes: &'static [u8]) -> Self {
        Weights { source: Source::Memory(bytes), places: OnceLock::new() }
    }

    /// A matrix, as float32.
    ///
    /// # Errors
    /// If there is no such matrix, or its file cannot be read.
    pub fn matrix(&self, name: &str) -> Result<Matrix> {
        if self.places.get().is_none() {
            let _ = self.places.set(self.read_places()?); // another thread may have read the same
        }
        let unreadable = |why: &str| Error::input(format!("the model's matrix `{name}` cannot be read: {why}"));
        let (source, place) =
            self.places.get().and_then(|places| places.get(name)).ok_or_else(|| unreadable("the file has none"))?;
        let [columns, rows] = place.shape[..] else { return Err(unreadable("it is no matrix")) };
        let elements = usize::try_from(columns.saturating_mul(rows)).unwrap_or(usize::MAX);
        let size =
            ffi::bytes_of(place.kind, elements).ok_or_else(|| unreadable("this build does not know its type"))?;
        let bytes = source.read(place.start, size).map_err(|error| unreadable(&error.to_string()))?;
        let values = ffi::floats(place.kind, &bytes, elements)
            .ok_or_else(|| unreadable("its type has no way back to numbers"))?;
        Ok(Matrix { columns: columns as usize, values })
    }

    fn read_places(&self) -> Result<HashMap<String, (Source, Place)>> {
        let parts = match &self.source {
            Source::File(path) => parts(path).into_iter().map(Source::File).collect(),
            memory @ Source::Memory(_) => vec![memory.clone()],
        };
        let mut places = HashMap::new();
        for part in parts {
            let found = match &part {
                Source::File(path) => File::open(path).and_then(|file| {
                    let size = file.metadata()?.len();
                    gguf::tensors(file, size)
                }),
                Source::Memory(bytes) => gguf::tensors(Cursor::new(*bytes), bytes.len() as u64),
            };
            let found =
                found.map_err(|error| Error::input(format!("the model's tensors cannot be listed: {error}")))?;
            places.extend(found.into_iter().map(|(name, place)| (name, (part.clone(), place))));
        }
        Ok(places)
    }
}

impl Source {
    fn read(&self, start: u64, size: usize) -> std::io::Result<Vec<u8>> {
        let short = || std::io::Error::other("the file ends before it does");
        match self {
            Source::File(path) => {
                let mut file = File::open(path)?;
                if file.metadata()?.len() < start.saturating_add(size as u64) {
                    return Err(short());
                }
                file.seek(SeekFrom::Start(start))?;
                let mut bytes = vec![0; size];
                file.read_exact(&mut bytes)?;
                Ok(bytes)
            }
            Source::Memory(all) => {
                let start = usize::try_from(start).map_err(|_| short())?;
                let end = start.checked_add(size).ok_or_else(short)?;
                all.get(start..end).map(<[u8]>::to_vec).ok_or_else(short)
            }
        }
    }
}

/// The files of a model, of which one is named: several for `NAME-00001-of-00003.gguf`.
fn parts(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let split = || -> Option<Vec<PathBuf>> {
        let (front, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (stem, number) = front.rsplit_once('-')?;
        number.parse::<u32>().ok()?;
        let part = |number: u32| path.with_file_name(format!("{stem}-{number:05}-of-{count}.gguf"));
        Some((1..=count.parse().ok().filter(|count| (1..=10_000).contains(count))?).map(part).collect())
    };
    split().unwrap_or_else(|| vec![path.to_owned()])
}

/// For each KV head and position of a layer: the L1 norm of what the attention output's weights make of the value, averaged
/// over the query heads of the group.
///
/// # Errors
/// If the weights do not fit the layer.
pub(super) fn projected(layer: &Layer, weights: &Matrix) -> Result<Vec<Vec<f64>>> {
    /// Positions that are computed side by side, so that vector units can.
    const BLOCK: usize = 64;
    let (heads, kv_heads, d, len) = (layer.heads, layer.kv_heads, layer.d_v, layer.len);
    if weights.columns != heads * d || kv_heads == 0 || d == 0 {
        return Err(Error::input(format!(
            "the attention output of layer {} takes {} numbers, and its {heads} heads give {d} each; choose a policy without \
             criticalkv",
            layer.index, weights.columns
        )));
    }
    let group = heads / kv_heads;
    let mut norms = vec![vec![0.0; len]; kv_heads];
    let mut values = vec![[0.0f32; BLOCK]; kv_heads * d]; // of a block, by head and dimension
    for start in (0..len).step_by(BLOCK) {
        let block = start..(start + BLOCK).min(len);
        for (head, at) in (0..kv_heads).flat_map(|head| block.clone().map(move |at| (head, at))) {
            for (dimension, &value) in layer.value(head, at).iter().enumerate() {
                values[head * d + dimension][at - start] = value;
            }
        }
        let mut sums = vec![[0.0f64; BLOCK]; kv_heads];
        for row in weights.values.chunks_exact(weights.columns) {
            for (head, row) in row.chunks_exact(d).enumerate() {
                let kv_head = head / group;
                let mut output = [0.0f32; BLOCK];
                for (weight, values) in row.iter().zip(&values[kv_head * d..(kv_head + 1) * d]) {
                    output.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
                }
                sums[kv_head].iter_mut().zip(output).for_each(|(sum, output)| *sum += f64::from(output.abs()));
            }
        }
        for (norms, sums) in norms.iter_mut().zip(&sums) {
            for at in block.clone() {
                norms[at] = sums[at - start] / group as f64;
            }
        }
    }
    Ok(norms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::EMBEDDED_GGUF;

    #[test]
    fn parts_of_a_split_model_are_found_by_name() {
        let names =
            |path: &str| parts(Path::new(path)).iter().map(|part| part.display().to_string()).collect::<Vec<_>>();
        assert_eq!(names("m/a-00002-of-00002.gguf"), ["m/a-00001-of-00002.gguf", "m/a-00002-of-00002.gguf"]);
        assert_eq!(names("a-of-b.gguf"), ["a-of-b.gguf"]);
    }

    #[test]
    fn a_matrix_of_the_embedded_model_is_read_and_a_missing_or_short_one_refused() {
        let weights = Weights::of_memory(EMBEDDED_GGUF);
        let output = weights.matrix("blk.0.attn_output.weight").unwrap();
        assert_eq!(output.values.len() % output.columns, 0);
        assert!(output.values.iter().all(|value| value.is_finite() && value.abs() < 10.0));
        assert!(weights.matrix("blk.999.attn_output.weight").is_err());
        let short = Weights::of_memory(&EMBEDDED_GGUF[..EMBEDDED_GGUF.len() / 2]);
        let last = (0..100).rev().find_map(|layer| {
            let name = format!("blk.{layer}.attn_output.weight");
            weights.matrix(&name).ok().map(|_| name)
        });
        assert!(short.matrix(&last.unwrap()).is_err());
    }
}
