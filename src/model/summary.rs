//! What a model is, told from its headers.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;

use super::{
    LoadError, Model, Options,
    description::{FeedForward, Layer},
    loader::Source,
};

/// A model's size and shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// `safetensors` or `gguf`.
    pub format: &'static str,
    /// As Hugging Face's `model_type` has it.
    pub architecture: String,
    /// Numbers in all tensors, as stored.
    pub parameters: u64,
    /// Tensors by the type of their elements.
    pub elements: BTreeMap<String, Elements>,
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    /// Layers that see a window of the last positions, where not all see everything.
    pub sliding_layers: usize,
    /// Layers of mixed experts.
    pub expert_layers: usize,
    pub vocabulary: usize,
    /// Tokens of prompt and completion together, with the options' limit.
    pub context_length: usize,
}

/// Tensors of one type of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Elements {
    pub tensors: u64,
    pub parameters: u64,
    pub bytes: u64,
}

/// One tensor as it is stored.
pub(super) struct Stored {
    pub(super) kind: String,
    pub(super) parameters: u64,
    pub(super) bytes: u64,
}

impl Model {
    /// # Errors
    /// When the configuration cannot be served.
    pub fn summary(&self, options: &Options) -> Result<Summary, LoadError> {
        let description = self.describe(options)?;
        let tensors = self.tensors();
        let mut elements = BTreeMap::<String, Elements>::new();
        for stored in tensors.names().iter().filter_map(|name| tensors.stored(name)) {
            let sum = elements.entry(stored.kind).or_default();
            sum.tensors += 1;
            sum.parameters += stored.parameters;
            sum.bytes += stored.bytes;
        }
        let layers = &description.layers;
        let count = |wanted: fn(&Layer) -> bool| layers.iter().filter(|layer| wanted(layer)).count();
        let widest = |of: fn(&Layer) -> usize| layers.iter().map(of).max().unwrap_or(0);
        let (format, config) = match self.source() {
            Source::Directory { config, .. } => ("safetensors", config),
            Source::Gguf(gguf) => ("gguf", &gguf.config),
        };
        Ok(Summary {
            format,
            architecture: config.model_type()?.to_owned(),
            parameters: elements.values().map(|sum| sum.parameters).sum(),
            elements,
            layers: layers.len(),
            hidden: description.hidden,
            heads: widest(|layer| layer.attention.heads),
            kv_heads: widest(|layer| layer.attention.kv_heads),
            sliding_layers: count(|layer| layer.attention.window.is_some()),
            expert_layers: count(|layer| matches!(layer.feed_forward, FeedForward::Experts(_))),
            vocabulary: description.vocabulary,
            context_length: description.context_length,
        })
    }

    /// The files that hold the weights, by name.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        match self.source() {
            Source::Directory { tensors, .. } => tensors.files().collect(),
            Source::Gguf(gguf) => vec![gguf.path()],
        }
    }
}
