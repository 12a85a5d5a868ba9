//! `.npz` files of filters: `layer_3`, float32 `[KV heads, d]`, for each layer, and `provenance`, the bytes of a JSON object.

use std::io::{Cursor, Read as _, Write as _};
use std::path::{Path, PathBuf};

use npyz::WriterBuilder as _;
use serde::{Deserialize, Serialize};
use zip::write::SimpleFileOptions;

use crate::evict::QFilters;
use crate::models::{self, ModelSource};
use crate::{Error, Result};

/// More bytes than this has no file of filters.
const MOST: u64 = 1 << 30;

/// Filters, and where they come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Filters {
    /// The filters.
    pub filters: QFilters,
    /// What they were measured on.
    pub provenance: Provenance,
}

/// What filters were measured on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The name of the model, as given.
    pub model: String,
    /// SHA-256 of its file.
    pub model_sha256: String,
    /// The name of the texts, as given.
    pub data: String,
    /// SHA-256 of their file.
    pub data_sha256: String,
    /// Number of texts that were read.
    pub texts: usize,
    /// Number of queries of each query head.
    pub queries: usize,
    /// The version of kvllama.
    pub kvllama: String,
}

impl Filters {
    /// The file that a model's filters have by default: `NAME.qfilters.npz` beside it; in the directory of models for the
    /// embedded one.
    pub fn place(model: &ModelSource) -> PathBuf {
        match model {
            ModelSource::File(path) => path.with_extension("qfilters.npz"),
            ModelSource::Embedded => models::directory().join(format!("{}.qfilters.npz", models::EMBEDDED)),
        }
    }

    /// Reads the filters of a model.
    ///
    /// # Errors
    /// If the file is missing, is something else, or holds the filters of another model.
    pub fn of_model(path: &Path, model: &ModelSource) -> Result<Self> {
        let shown = path.display();
        let bytes = std::fs::read(path).map_err(|error| {
            Error::input(format!(
                "cannot read the filters of qfilters, {shown}: {error}; make them with `kvllama calibrate`, with the \
                 same --model, or name others with qfilters:file=PATH"
            ))
        })?;
        let filters = Self::from_npz(&bytes).map_err(|what| {
            Error::input(format!("{shown} is no file of filters: {what}; make one with `kvllama calibrate`"))
        })?;
        let (theirs, ours) = (&filters.provenance, model.sha256()?);
        if theirs.model_sha256 != ours {
            let short = |sha256: &str| sha256.chars().take(12).collect::<String>();
            return Err(Error::input(format!(
                "{shown} holds the filters of another model: {} (SHA-256 {}), while this one's is {}; make its own with \
                 `kvllama calibrate`",
                theirs.model,
                short(&theirs.model_sha256),
                short(&ours)
            )));
        }
        Ok(filters)
    }

    /// The content of the file.
    pub fn to_npz(&self) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let mut add = |name: String, array: Vec<u8>| {
            let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
            archive.start_file(format!("{name}.npy"), stored).expect("names are short and differ");
            archive.write_all(&array).expect("memory can be written to");
        };
        for (layer, filters) in &self.filters.layers {
            let shape = [filters.len(), filters.first().map_or(0, Vec::len)];
            add(format!("layer_{layer}"), npy(&shape, filters.iter().flatten().copied()));
        }
        let provenance = serde_json::to_vec_pretty(&self.provenance).expect("plain data");
        add("provenance".to_owned(), npy(&[provenance.len()], provenance.into_iter()));
        archive.finish().expect("memory can be written to").into_inner()
    }

    /// `Err` says what is wrong.
    fn from_npz(bytes: &[u8]) -> std::result::Result<Self, String> {
        let said = |error: zip::result::ZipError| error.to_string();
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(said)?;
        let mut filters = Filters { filters: QFilters::default(), provenance: Provenance::unknown() };
        let mut described = false;
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).map_err(said)?;
            let name = entry.name().map_err(said)?.trim_end_matches(".npy").to_owned();
            let mut array = Vec::new();
            entry.by_ref().take(MOST).read_to_end(&mut array).map_err(|error| error.to_string())?;
            if name == "provenance" {
                let (_, text) = values::<u8>(&array, &name)?;
                filters.provenance =
                    serde_json::from_slice(&text).map_err(|error| format!("its provenance is broken: {error}"))?;
                described = true;
            } else if let Some(layer) = name.strip_prefix("layer_").and_then(|layer| layer.parse().ok()) {
                let (shape, all) = values::<f32>(&array, &name)?;
                let [_, d] = shape[..] else { return Err(format!("`{name}` is not [KV heads, d]")) };
                if !all.iter().all(|value| value.is_finite()) {
                    return Err(format!("`{name}` has a value that is not finite"));
                }
                filters.filters.layers.push((layer, all.chunks(d.max(1)).map(<[f32]>::to_vec).collect()));
            } else {
                return Err(format!("it has an array `{name}`"));
            }
        }
        if described { Ok(filters) } else { Err("it has no provenance, which names the model".to_owned()) }
    }
}

impl Provenance {
    fn unknown() -> Self {
        let none = String::new;
        Provenance {
            model: none(),
            model_sha256: none(),
            data: none(),
            data_sha256: none(),
            texts: 0,
            queries: 0,
            kvllama: none(),
        }
    }
}

/// The bytes of an array.
fn npy<T: npyz::AutoSerialize>(shape: &[usize], values: impl Iterator<Item = T>) -> Vec<u8> {
    let shape: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
    let mut bytes = Vec::new();
    let options = npyz::WriteOptions::new().default_dtype().shape(&shape);
    let mut writer = options.writer(&mut bytes).begin_nd().expect("memory can be written to");
    writer.extend(values).expect("as many as the shape says");
    writer.finish().expect("memory can be written to");
    bytes
}

/// Shape and values of an array in C order.
fn values<T: npyz::Deserialize>(bytes: &[u8], name: &str) -> std::result::Result<(Vec<usize>, Vec<T>), String> {
    let said = |error: std::io::Error| format!("`{name}`: {error}");
    let file = npyz::NpyFile::new(bytes).map_err(said)?;
    let shape: Vec<usize> = file.shape().iter().map(|&size| usize::try_from(size).unwrap_or(usize::MAX)).collect();
    let elements = shape.iter().try_fold(size_of::<T>(), |product, &size| product.checked_mul(size));
    if file.order() != npyz::Order::C || elements.is_none_or(|size| size > bytes.len()) {
        return Err(format!("`{name}` is cut short, or in Fortran order"));
    }
    Ok((shape, file.into_vec::<T>().map_err(said)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_broken_refused() {
        let provenance = Provenance { model: "m".to_owned(), queries: 7, ..Provenance::unknown() };
        let filters = QFilters { layers: vec![(0, vec![vec![1.0, 2.0]; 3]), (5, vec![vec![-0.5; 4]])] };
        let filters = Filters { filters, provenance };
        let bytes = filters.to_npz();
        assert_eq!(Filters::from_npz(&bytes).unwrap(), filters);
        for end in (0..bytes.len()).step_by(97) {
            assert!(Filters::from_npz(&bytes[..end]).is_err(), "cut at {end}");
        }
        for at in (0..bytes.len()).step_by(3) {
            let mut broken = bytes.clone();
            broken[at] ^= 0x55;
            let _ = Filters::from_npz(&broken); // whatever it says, without a panic
        }
        let nan = QFilters { layers: vec![(0, vec![vec![f32::NAN; 2]])] };
        let nan = Filters { filters: nan, ..filters };
        assert!(Filters::from_npz(&nan.to_npz()).unwrap_err().contains("not finite"));
    }
}
