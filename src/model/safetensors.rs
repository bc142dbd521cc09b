//! Tensors of a directory: `model.safetensors`, or the files that `model.safetensors.index.json` lists; or of such a
//! file inside the program.

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
use crate::kernels::{Dtype, Quantization, mapped::Mapped};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Files and where their tensors lie.
pub(super) struct Directory {
    entries: BTreeMap<String, Entry>,
    files: Vec<PathBuf>,
}

struct Entry {
    bytes: Bytes,
    kind: Kind,
    shape: Vec<usize>,
}

enum Kind {
    Plain(Dtype),
    /// Nibbles here, exponents there.
    Mxfp4 {
        scales: Bytes,
    },
    Unknown(StoredDtype),
}

impl Entry {
    fn bytes(&self) -> u64 {
        let scales = if let Kind::Mxfp4 { scales } = &self.kind { scales.len() } else { 0 };
        (self.bytes.len() + scales) as u64
    }
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
            join_mxfp4(&mut entries);
            return Ok(Self { entries, files: vec![file] });
        }
        let promised = read_index(&directory.join(INDEX))?;
        let files: BTreeSet<_> = promised.values().map(|file| directory.join(file)).collect();
        for file in &files {
            read_file(file, &mut entries)?;
        }
        match promised.keys().find(|name| !entries.contains_key(*name)) {
            Some(name) => Err(LoadError::MissingTensor(name.clone())),
            None => {
                join_mxfp4(&mut entries);
                Ok(Self { entries, files: files.into_iter().collect() })
            }
        }
    }

    /// Maps one file.
    ///
    /// # Errors
    /// When it is missing, cut short or malformed.
    pub(super) fn file(file: &Path) -> Result<Self, LoadError> {
        let mut entries = BTreeMap::new();
        read_file(file, &mut entries)?;
        Ok(Self { entries, files: vec![file.to_owned()] })
    }

    /// By name.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }

    /// Reads the header of a file that is part of the program.
    ///
    /// # Errors
    /// When it is malformed.
    pub(super) fn embedded(file: &'static [u8]) -> Result<Self, LoadError> {
        let mut entries = BTreeMap::new();
        read_header(file, Path::new(SINGLE), |range| Bytes::Embedded(&file[range]), &mut entries)?;
        Ok(Self { entries, files: Vec::new() })
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
        let kind = match info.dtype {
            StoredDtype::F32 => Kind::Plain(Dtype::F32),
            StoredDtype::F16 => Kind::Plain(Dtype::F16),
            StoredDtype::BF16 => Kind::Plain(Dtype::Bf16),
            other => Kind::Unknown(other),
        };
        let bytes = part(data + start..data + end);
        let entry = Entry { bytes, kind, shape: info.shape.clone() };
        entries.insert(name, entry);
    }
    Ok(())
}

/// Makes one tensor [experts, outputs, inputs] of each pair `{name}_blocks` [experts, outputs, inputs / 32, 16] and
/// `{name}_scales` [experts, outputs, inputs / 32] of bytes, as gpt-oss is published.
fn join_mxfp4(entries: &mut BTreeMap<String, Entry>) {
    let is_bytes = |entry: &Entry| matches!(entry.kind, Kind::Unknown(StoredDtype::U8));
    let names: Vec<String> =
        entries.keys().filter_map(|name| name.strip_suffix("_blocks").map(str::to_owned)).collect();
    for name in names {
        let (blocks_name, scales_name) = (format!("{name}_blocks"), format!("{name}_scales"));
        let (Some(blocks), Some(scales)) = (entries.get(&blocks_name), entries.get(&scales_name)) else {
            continue;
        };
        let &[experts, outputs, count, 16] = &blocks.shape[..] else { continue };
        if !is_bytes(blocks) || !is_bytes(scales) || scales.shape != [experts, outputs, count] {
            continue;
        }
        let joined = Entry {
            bytes: blocks.bytes.clone(),
            kind: Kind::Mxfp4 { scales: scales.bytes.clone() },
            shape: vec![experts, outputs, count * 32],
        };
        entries.remove(&blocks_name);
        entries.remove(&scales_name);
        entries.insert(name, joined);
    }
}

/// Blocks as GGUF has them: the exponent, then a byte for elements `i` and `i + 16`. Here a byte holds neighbours
/// (transformers' `integrations/mxfp4.py`).
fn mxfp4_blocks(nibbles: &[u8], scales: &[u8]) -> Vec<u8> {
    let mut blocks = Vec::with_capacity(scales.len() * 17);
    for (nibbles, scale) in nibbles.as_chunks::<16>().0.iter().zip(scales) {
        let element = |i: usize| nibbles[i / 2] >> (i % 2 * 4) & 15;
        blocks.push(*scale);
        blocks.extend((0..16).map(|i| element(i) | element(i + 16) << 4));
    }
    blocks
}

impl Tensors for Directory {
    fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    fn bytes(&self) -> u64 {
        self.entries.values().map(Entry::bytes).sum()
    }

    fn stored(&self, name: &str) -> Option<Stored> {
        let entry = self.entries.get(name)?;
        let kind = match &entry.kind {
            Kind::Plain(dtype) => dtype.name().to_owned(),
            Kind::Mxfp4 { .. } => Quantization::Mxfp4.name().to_owned(),
            Kind::Unknown(other) => format!("{other:?}"),
        };
        let parameters = entry.shape.iter().map(|side| *side as u64).product();
        Some(Stored { kind, parameters, bytes: entry.bytes() })
    }

    fn shape(&self, name: &str) -> Option<(Dtype, &[usize])> {
        let entry = self.entries.get(name)?;
        match entry.kind {
            Kind::Plain(dtype) => Some((dtype, &entry.shape)),
            Kind::Mxfp4 { .. } => Some((Dtype::Quantized(Quantization::Mxfp4), &entry.shape)),
            Kind::Unknown(_) => None,
        }
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>, LoadError> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        let (dtype, bytes) = match &entry.kind {
            Kind::Plain(dtype) => (*dtype, entry.bytes.clone()),
            Kind::Mxfp4 { scales } => {
                let blocks = mxfp4_blocks(&entry.bytes, scales);
                (Dtype::Quantized(Quantization::Mxfp4), Bytes::Owned(blocks.into()))
            }
            Kind::Unknown(other) => {
                return Err(LoadError::Dtype { name: name.to_owned(), dtype: format!("{other:?}") });
            }
        };
        Ok(Some(Tensor { dtype, shape: entry.shape.clone(), bytes }))
    }
}
