//! GGUF files of the architectures that `metadata` lists. Quantized weights stay as they are.

mod metadata;
mod names;
mod reader;

use std::{collections::BTreeMap, ops::Range, path::Path, sync::Arc};

use super::{
    config::Config,
    description::{Description, HeadNorm, Norm},
    error::LoadError,
    tensors::{Bytes, Tensor, Tensors},
};
use crate::kernels::{Dtype, Quantization, mapped::Mapped, rotary::Pairing};

/// A mapped file.
pub(super) struct Gguf {
    file: Arc<Mapped>,
    /// By Hugging Face's names.
    entries: BTreeMap<String, Entry>,
    architecture: String,
    pub(super) config: Config,
}

struct Entry {
    range: Range<usize>,
    dtype: Dtype,
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
            let Some(dtype) = dtype(tensor.kind) else {
                let dtype = format!("number {} of ggml", tensor.kind);
                return Err(LoadError::Dtype { name: tensor.name, dtype });
            };
            let (elements, size) = dtype.block();
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
            let entry = Entry { range: start..end, dtype, shape: tensor.shape };
            if tensor.name.starts_with("rope_f") {
                let mut table = vec![0.0; count];
                dtype.widen(&file[start..end], 0, &mut table);
                tables.insert(tensor.name, table);
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
        Ok(Self { file: Arc::new(file), entries, architecture, config })
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

    fn shape(&self, name: &str) -> Option<(Dtype, &[usize])> {
        self.entries.get(name).map(|entry| (entry.dtype, &entry.shape[..]))
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>, LoadError> {
        let tensor = |entry: &Entry| {
            let bytes = Bytes::Mapped(Arc::clone(&self.file), entry.range.clone());
            Tensor { dtype: entry.dtype, shape: entry.shape.clone(), bytes }
        };
        Ok(self.entries.get(name).map(tensor))
    }
}

/// An element type by its number in ggml (`ggml.h`, `enum ggml_type`).
fn dtype(number: u32) -> Option<Dtype> {
    Some(match number {
        0 => Dtype::F32,
        1 => Dtype::F16,
        2 => Dtype::Quantized(Quantization::Q4_0),
        3 => Dtype::Quantized(Quantization::Q4_1),
        6 => Dtype::Quantized(Quantization::Q5_0),
        7 => Dtype::Quantized(Quantization::Q5_1),
        8 => Dtype::Quantized(Quantization::Q8_0),
        12 => Dtype::Quantized(Quantization::Q4K),
        13 => Dtype::Quantized(Quantization::Q5K),
        14 => Dtype::Quantized(Quantization::Q6K),
        30 => Dtype::Bf16,
        39 => Dtype::Quantized(Quantization::Mxfp4),
        _ => return None,
    })
}
