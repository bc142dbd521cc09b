//! Tensors of a directory: `model.safetensors`, or the files that `model.safetensors.index.json` lists.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use safetensors::{Dtype as StoredDtype, SafeTensors};
use serde_json::Value;

use super::{
    error::LoadError,
    summary::Stored,
    tensors::{Bytes, Tensor, Tensors},
};
use crate::kernels::{Dtype, mapped::Mapped};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Mapped files and where their tensors lie.
pub(super) struct Directory {
    entries: BTreeMap<String, Entry>,
    files: Vec<PathBuf>,
}

struct Entry {
    file: Arc<Mapped>,
    range: Range<usize>,
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
            let file = directory.join(SINGLE);
            read_file(&file, &mut entries)?;
            return Ok(Self { entries, files: vec![file] });
        }
        let promised = read_index(&directory.join(INDEX))?;
        let files: BTreeSet<_> = promised.values().map(|file| directory.join(file)).collect();
        for file in &files {
            read_file(file, &mut entries)?;
        }
        match promised.keys().find(|name| !entries.contains_key(*name)) {
            Some(name) => Err(LoadError::MissingTensor(name.clone())),
            None => Ok(Self { entries, files: files.into_iter().collect() }),
        }
    }

    /// By name.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
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
    let format = |reason: String| LoadError::Format { path: path.to_owned(), reason };
    let (header, metadata) = SafeTensors::read_metadata(&file).map_err(|error| format(error.to_string()))?;
    // The first eight bytes hold the header's length.
    let data = header + 8;
    let file = Arc::new(file);
    for (name, info) in metadata.tensors() {
        let (start, end) = info.data_offsets;
        if data + end > file.len() {
            return Err(format(format!("the file ends before tensor {name}")));
        }
        let entry = Entry {
            file: Arc::clone(&file),
            range: data + start..data + end,
            dtype: info.dtype,
            shape: info.shape.clone(),
        };
        entries.insert(name, entry);
    }
    Ok(())
}

impl Tensors for Directory {
    fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    fn bytes(&self) -> u64 {
        self.entries.values().map(|entry| entry.range.len() as u64).sum()
    }

    fn loaded_bytes(&self, name: &str) -> Option<u64> {
        self.entries.get(name).map(|entry| entry.range.len() as u64)
    }

    fn is_mapped(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    fn stored(&self, name: &str) -> Option<Stored> {
        let entry = self.entries.get(name)?;
        Some(Stored {
            kind: format!("{:?}", entry.dtype),
            parameters: entry.shape.iter().map(|side| *side as u64).product(),
            bytes: entry.range.len() as u64,
        })
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>, LoadError> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        let dtype = match entry.dtype {
            StoredDtype::F32 => Dtype::F32,
            StoredDtype::F16 => Dtype::F16,
            StoredDtype::BF16 => Dtype::Bf16,
            other => return Err(LoadError::Dtype { name: name.to_owned(), dtype: format!("{other:?}") }),
        };
        let bytes = Bytes::Mapped(Arc::clone(&entry.file), entry.range.clone());
        Ok(Some(Tensor { dtype, shape: entry.shape.clone(), bytes }))
    }
}
