//! GGUF files of the architectures that `metadata` lists.
//!
//! In this first cut quantized weights are widened to `f32` when they are loaded: four bytes a weight, which
//! [`Memory`](super::Memory) tells. Kernels of exact integer dot products come in its place.

mod blocks;
mod metadata;
mod names;
mod reader;
mod text;

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    config::Config,
    description::{Description, HeadNorm, Norm},
    error::LoadError,
    summary::Stored,
    tensors::{Bytes, Tensor, Tensors},
};
use crate::kernels::{Dtype, mapped::Mapped, rotary::Pairing};
use blocks::Kind;
pub use text::{TextMetadata, WrongKind};

/// A mapped file.
pub(super) struct Gguf {
    path: PathBuf,
    file: Arc<Mapped>,
    /// By Hugging Face's names.
    entries: BTreeMap<String, Entry>,
    architecture: String,
    pub(super) config: Config,
}

struct Entry {
    range: Range<usize>,
    kind: Kind,
    shape: Vec<usize>,
}

impl Gguf {
    /// Maps the file and reads its header.
    ///
    /// # Errors
    /// When it is malformed, or of an architecture or with a type of elements that is not supported.
    pub(super) fn open(path: &Path) -> Result<Self, LoadError> {
        let file = Mapped::open(path).map_err(|source| LoadError::Io { path: path.to_owned(), source })?;
        let format = |reason: String| LoadError::Format { path: path.to_owned(), reason };
        let header = reader::read(&file).map_err(format)?;
        let architecture = metadata::architecture(&header.metadata)?.to_owned();
        let mut entries = BTreeMap::new();
        let mut tables = BTreeMap::new();
        for tensor in header.tensors {
            let name = names::to_hugging_face(&architecture, &tensor.name);
            let Some(kind) = Kind::from_number(tensor.kind) else {
                let dtype = format!("number {} of ggml", tensor.kind);
                return Err(LoadError::Dtype { name: tensor.name, dtype });
            };
            let (elements, size) = kind.block();
            let count = tensor.shape.iter().try_fold(1usize, |count, side| count.checked_mul(*side));
            let count = count.ok_or_else(|| format(format!("tensor {} is too large", tensor.name)))?;
            if !tensor.shape.last().is_some_and(|row| row.is_multiple_of(elements)) {
                return Err(format(format!("rows of tensor {} are no whole blocks", tensor.name)));
            }
            let start = header.data.checked_add(tensor.offset);
            let end = start.and_then(|start| start.checked_add(count / elements * size));
            let (Some(start), Some(end)) = (start, end.filter(|end| *end <= file.len())) else {
                return Err(format(format!("the file ends before tensor {}", tensor.name)));
            };
            let entry = Entry { range: start..end, kind, shape: tensor.shape };
            if tensor.name.starts_with("rope_f") {
                tables.insert(tensor.name, kind.dequantize(&file[start..end]));
            } else {
                entries.insert(name.unwrap_or(tensor.name), entry);
            }
        }
        let embedding = ["model.embed_tokens.weight", "transformer.wte.weight"]
            .into_iter()
            .find_map(|name| entries.get(name))
            .ok_or_else(|| LoadError::MissingTensor("token_embd.weight".to_owned()))?;
        let facts = metadata::Facts {
            vocabulary: embedding.shape[0],
            tied: !entries.contains_key("lm_head.weight"),
            frequency_factors: tables.remove("rope_freqs.weight"),
            long_factors: tables.remove("rope_factors_long.weight"),
            short_factors: tables.remove("rope_factors_short.weight"),
        };
        let config = metadata::config(&header.metadata, &facts)?;
        Ok(Self { path: path.to_owned(), file: Arc::new(file), entries, architecture, config })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What llama.cpp's converter changed in the weights.
    pub(super) fn adjust(&self, description: &mut Description) {
        // It turns GPT-2's matrices round,
        description.transposed = false;
        // adds Gemma's 1 to the norms' weights,
        let whole = |norm: Option<&mut Norm>| {
            if let Some(norm) = norm {
                norm.unit_offset = false;
            }
        };
        whole(description.norm.as_mut());
        description.each(|_, layer| {
            whole(layer.before_attention.as_mut());
            whole(layer.after_attention.as_mut());
            whole(layer.before_feed_forward.as_mut());
            whole(layer.after_feed_forward.as_mut());
            for norm in [&mut layer.attention.query_norm, &mut layer.attention.key_norm] {
                if let Some(HeadNorm::Head(norm)) = norm {
                    norm.unit_offset = false;
                }
            }
        });
        // and orders the rows of Llama's queries and keys so that neighbours turn together.
        if self.architecture == "llama" {
            for rotary in &mut description.rotary {
                rotary.pairing = Pairing::Neighbours;
            }
        }
    }
}

impl Tensors for Gguf {
    fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    fn bytes(&self) -> u64 {
        self.entries.values().map(|entry| entry.range.len() as u64).sum()
    }

    fn loaded_bytes(&self, name: &str) -> Option<u64> {
        let entry = self.entries.get(name)?;
        let size = dtype(entry.kind).unwrap_or(Dtype::F32).size();
        Some((entry.shape.iter().product::<usize>() * size) as u64)
    }

    fn is_mapped(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| dtype(entry.kind).is_some())
    }

    fn stored(&self, name: &str) -> Option<Stored> {
        let entry = self.entries.get(name)?;
        let parameters = entry.shape.iter().map(|side| *side as u64).product();
        Some(Stored { kind: entry.kind.name(), parameters, bytes: entry.range.len() as u64 })
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>, LoadError> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        let shape = entry.shape.clone();
        Ok(Some(match dtype(entry.kind) {
            Some(dtype) => {
                Tensor { dtype, shape, bytes: Bytes::Mapped(Arc::clone(&self.file), entry.range.clone()) }
            }
            None => {
                let values = entry.kind.dequantize(&self.file[entry.range.clone()]);
                let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
                Tensor { dtype: Dtype::F32, shape, bytes: Bytes::Owned(bytes) }
            }
        }))
    }
}

/// The type that kernels read as it is; None where blocks are widened.
fn dtype(kind: Kind) -> Option<Dtype> {
    match kind {
        Kind::F32 => Some(Dtype::F32),
        Kind::F16 => Some(Dtype::F16),
        Kind::Bf16 => Some(Dtype::Bf16),
        _ => None,
    }
}
