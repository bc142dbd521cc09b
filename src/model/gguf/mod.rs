//! GGUF files of the architectures that `metadata` lists. Quantized weights stay as they are.

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
    description::{
        Description, ExpertWeights, FeedForward, FusedOrder, HeadNorm, Linear, Mlp, Norm, Projections, Up,
    },
    error::LoadError,
    summary::Stored,
    tensors::{Bytes, Tensor, Tensors},
};
use crate::kernels::{Dtype, Quantization, mapped::Mapped, rotary::Pairing};
use metadata::Facts;
pub use metadata::supported_gguf;
use names::Name;
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
        let mut file_entries = BTreeMap::new();
        for tensor in header.tensors {
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
            file_entries.insert(tensor.name, Entry { range: start..end, dtype, shape: tensor.shape });
        }
        let mut table = |name: &str| {
            let entry: Entry = file_entries.remove(name)?;
            let mut values = vec![0.0; entry.shape.iter().product()];
            entry.dtype.widen(&file[entry.range], 0, &mut values);
            Some(values)
        };
        let frequency_factors = table("rope_freqs.weight");
        let long_factors = table("rope_factors_long.weight");
        let short_factors = table("rope_factors_short.weight");
        let facts = Facts {
            shapes: file_entries.iter().map(|(name, entry)| (name.as_str(), &entry.shape[..])).collect(),
            frequency_factors,
            long_factors,
            short_factors,
        };
        let config = metadata::config(&header.metadata, &facts)?;
        let entries = rename(&architecture, file_entries);
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
        // orders the rows of queries and keys so that neighbours turn together, where the architecture's graph wants it,
        if metadata::turns_neighbours(&self.architecture) {
            for rotary in &mut description.rotary {
                rotary.pairing = Pairing::Neighbours;
            }
        }
        // puts all queries first, then all keys, then all values,
        description.each(|_, layer| {
            if let Projections::Fused { order, .. } = &mut layer.attention.projections {
                *order = FusedOrder::Sections;
            }
        });
        // and parts the gates of gpt-oss from what they gate.
        description.each(|_, layer| {
            if let FeedForward::Experts(experts) = &mut layer.feed_forward
                && let ExpertWeights::Stacked { name, count, inner, .. } = &experts.weights
            {
                let linear = |e: usize, part: &str| Linear::new(format!("{name}.{e}.{part}_proj"), true);
                let each = |e: usize| Mlp {
                    inner: *inner,
                    up: Up::Gated { gate: linear(e, "gate"), up: linear(e, "up") },
                    down: linear(e, "down"),
                };
                experts.weights = ExpertWeights::Each((0..*count).map(each).collect());
            }
        });
    }
}

/// Entries by the names that the descriptions ask for.
fn rename(architecture: &str, entries: BTreeMap<String, Entry>) -> BTreeMap<String, Entry> {
    // Falcon's norm before both halves is the feed-forward's where attention has its own.
    let two_norms = architecture == "falcon" && entries.contains_key("blk.0.attn_norm_2.weight");
    let mut renamed = BTreeMap::new();
    for (name, mut entry) in entries {
        match names::to_hugging_face(architecture, &name) {
            None => {
                renamed.insert(name, entry);
            }
            Some(Name::Whole(mut name)) => {
                if two_norms {
                    name = name.replace(".input_layernorm.", ".ln_mlp.");
                }
                // A matrix of one row is stored as a vector.
                if name.ends_with("shared_expert_gate.weight") && entry.shape.len() == 1 {
                    entry.shape.insert(0, 1);
                }
                renamed.insert(name, entry);
            }
            Some(Name::Each(before, after)) => {
                let count = entry.shape[0].max(1);
                let size = entry.range.len() / count;
                for i in 0..entry.shape[0] {
                    let start = entry.range.start + i * size;
                    let own = Entry {
                        range: start..start + size,
                        dtype: entry.dtype,
                        shape: entry.shape[1..].to_vec(),
                    };
                    renamed.insert(format!("{before}{i}{after}"), own);
                }
            }
        }
    }
    renamed
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

    fn stored(&self, name: &str) -> Option<Stored> {
        let entry = self.entries.get(name)?;
        let parameters = entry.shape.iter().map(|side| *side as u64).product();
        Some(Stored { kind: entry.dtype.name().to_owned(), parameters, bytes: entry.range.len() as u64 })
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>, LoadError> {
        let tensor = |entry: &Entry| {
            let bytes = Bytes::Mapped(Arc::clone(&self.file), entry.range.clone());
            Tensor { dtype: entry.dtype, shape: entry.shape.clone(), bytes }
        };
        Ok(self.entries.get(name).map(tensor))
    }
}

/// Element types and their numbers in ggml (`ggml.h`, `enum ggml_type`).
const TYPES: [(u32, Dtype); 12] = [
    (0, Dtype::F32),
    (1, Dtype::F16),
    (2, Dtype::Quantized(Quantization::Q4_0)),
    (3, Dtype::Quantized(Quantization::Q4_1)),
    (6, Dtype::Quantized(Quantization::Q5_0)),
    (7, Dtype::Quantized(Quantization::Q5_1)),
    (8, Dtype::Quantized(Quantization::Q8_0)),
    (12, Dtype::Quantized(Quantization::Q4K)),
    (13, Dtype::Quantized(Quantization::Q5K)),
    (14, Dtype::Quantized(Quantization::Q6K)),
    (30, Dtype::Bf16),
    (39, Dtype::Quantized(Quantization::Mxfp4)),
];

/// Names of the element types that can be loaded.
#[must_use]
pub fn supported_types() -> Vec<&'static str> {
    TYPES.iter().map(|(_, dtype)| dtype.name()).collect()
}

fn dtype(number: u32) -> Option<Dtype> {
    TYPES.iter().find(|(known, _)| *known == number).map(|(_, dtype)| *dtype)
}
