//! Tensors of a directory: `model.safetensors`, or the files that `model.safetensors.index.json` lists; or of such a
//! file inside the program.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::Path,
    sync::Arc,
};

use safetensors::{Dtype as StoredDtype, SafeTensors};
use serde_json::Value;

use super::{
    error::LoadError,
    tensors::{Bytes, Tensor, Tensors},
};
use crate::kernels::{Dtype, mapped::Mapped};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Tensors, read in place.
pub(super) struct Directory(BTreeMap<String, Entry>);

struct Entry {
    bytes: Bytes,
    dtype: StoredDtype,
    shape: Vec<usize>,
}

impl Directory {
    /// Maps the files and reads their headers.
    ///
    /// # Errors
    /// When a file is missing, cut short or malformed, or lacks a tensor that the index promises.
    pub(super) fn open(directory: &Path) -> Result<Self, LoadError> {
        let mut entries = BTreeMap::new();
        if !directory.join(INDEX).exists() {
            read_file(&directory.join(SINGLE), &mut entries)?;
            return Ok(Self(entries));
        }
        let promised = read_index(&directory.join(INDEX))?;
        for file in promised.values().collect::<BTreeSet<_>>() {
            read_file(&directory.join(file), &mut entries)?;
        }
        match promised.keys().find(|name| !entries.contains_key(*name)) {
            Some(name) => Err(LoadError::MissingTensor(name.clone())),
            None => Ok(Self(entries)),
        }
    }

    /// Reads the header of a file that is part of the program.
    ///
    /// # Errors
    /// When it is malformed.
    pub(super) fn embedded(file: &'static [u8]) -> Result<Self, LoadError> {
        let mut entries = BTreeMap::new();
        read_header(file, Path::new(SINGLE), |range| Bytes::Embedded(&file[range]), &mut entries)?;
        Ok(Self(entries))
    }
}

/// Which file holds each tensor.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>, LoadError> {
    let format = |reason: &str| LoadError::Format { path: path.to_owned(), reason: reason.to_owned() };
    let text = fs::read_to_string(path).map_err(|source| LoadError::Io { path: path.to_owned(), source })?;
    let index: Value = serde_json::from_str(&text).map_err(|error| format(&error.to_string()))?;
    let map =
        index.get("weight_map").and_then(Value::as_object).ok_or_else(|| format("it has no weight_map"))?;
    let entry = |(name, file): (&String, &Value)| {
        let file = file.as_str().ok_or_else(|| format("a file's name is no string"))?;
        // The index comes with the model: it must not lead out of the model's directory.
        let inside = Path::new(file).file_name().is_some_and(|only| only == file);
        if inside {
            Ok((name.clone(), file.to_owned()))
        } else {
            Err(format("a file is not beside the index"))
        }
    };
    map.iter().map(entry).collect()
}

fn read_file(path: &Path, entries: &mut BTreeMap<String, Entry>) -> Result<(), LoadError> {
    let file = Mapped::open(path).map_err(|source| LoadError::Io { path: path.to_owned(), source })?;
    let file = Arc::new(file);
    read_header(&file, path, |range| Bytes::Mapped(Arc::clone(&file), range), entries)
}

/// `part` gives bytes of the file `whole`.
fn read_header(
    whole: &[u8],
    path: &Path,
    part: impl Fn(Range<usize>) -> Bytes,
    entries: &mut BTreeMap<String, Entry>,
) -> Result<(), LoadError> {
    let format = |reason: String| LoadError::Format { path: path.to_owned(), reason };
    let (header, metadata) = SafeTensors::read_metadata(whole).map_err(|error| format(error.to_string()))?;
    // The first eight bytes hold the header's length.
    let data = header + 8;
    for (name, info) in metadata.tensors() {
        let (start, end) = info.data_offsets;
        if data + end > whole.len() {
            return Err(format(format!("the file ends before tensor {name}")));
        }
        let bytes = part(data + start..data + end);
        let entry = Entry { bytes, dtype: info.dtype, shape: info.shape.clone() };
        entries.insert(name, entry);
    }
    Ok(())
}

impl Tensors for Directory {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn bytes(&self) -> u64 {
        self.0.values().map(|entry| entry.bytes.len() as u64).sum()
    }

    fn loaded_bytes(&self, name: &str) -> Option<u64> {
        self.0.get(name).map(|entry| entry.bytes.len() as u64)
    }

    fn is_mapped(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>, LoadError> {
        let Some(entry) = self.0.get(name) else { return Ok(None) };
        let dtype = match entry.dtype {
            StoredDtype::F32 => Dtype::F32,
            StoredDtype::F16 => Dtype::F16,
            StoredDtype::BF16 => Dtype::Bf16,
            other => return Err(LoadError::Dtype { name: name.to_owned(), dtype: format!("{other:?}") }),
        };
        Ok(Some(Tensor { dtype, shape: entry.shape.clone(), bytes: entry.bytes.clone() }))
    }
}
