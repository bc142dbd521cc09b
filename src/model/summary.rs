//! What a model is, told from its headers.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::Serialize;

use super::{
    LoadError, Model, Options, Task,
    description::{Description, FeedForward, Layer},
    encoder::description::{Bias, Description as EncoderDescription},
    loader::Source,
    pooled::Described,
    pooling::Description as Pooling,
};

/// A model's size and shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// `safetensors` or `gguf`.
    pub format: &'static str,
    pub task: Task,
    /// How hidden states become a vector, where they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<String>,
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
    /// What sets it apart from the plainest transformer.
    pub features: BTreeSet<&'static str>,
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
        let task = self.task(options)?;
        let (layers, pooling) = match task {
            Task::Generate => (Layers::of_decoder(&self.describe(options)?), None),
            Task::Embed | Task::Rerank => {
                let (described, pooling) = self.describe_pooled(options)?;
                let pooling = (task == Task::Embed).then(|| pooling.to_string());
                let layers = match described {
                    Described::Encoder(encoder) => Layers::of_encoder(&encoder),
                    Described::Decoder(decoder) => Layers::of_decoder(&decoder),
                };
                (layers, pooling)
            }
        };
        let tensors = self.tensors();
        let mut elements = BTreeMap::<String, Elements>::new();
        for stored in tensors.names().iter().filter_map(|name| tensors.stored(name)) {
            let sum = elements.entry(stored.kind).or_default();
            sum.tensors += 1;
            sum.parameters += stored.parameters;
            sum.bytes += stored.bytes;
        }
        let (format, config) = match self.source() {
            Source::Directory { config, .. } => ("safetensors", config),
            Source::Gguf(gguf) => ("gguf", &gguf.config),
        };
        let Layers { count, hidden, heads, kv_heads, sliding, experts, features, vocabulary, context_length } =
            layers;
        Ok(Summary {
            format,
            task,
            pooling,
            architecture: config.model_type()?.to_owned(),
            parameters: elements.values().map(|sum| sum.parameters).sum(),
            elements,
            layers: count,
            hidden,
            heads,
            kv_heads,
            sliding_layers: sliding,
            expert_layers: experts,
            features,
            vocabulary,
            context_length,
        })
    }

    /// The files that hold the weights, by name, and those that say what follows the hidden states.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        match self.source() {
            Source::Directory { path, tensors, .. } => {
                let pooling = path.as_deref().map(Pooling::files).unwrap_or_default();
                tensors.files().map(Into::into).chain(pooling).collect()
            }
            Source::Gguf(gguf) => vec![gguf.path().to_owned()],
        }
    }
}

/// What is told of a decoder or an encoder.
struct Layers {
    count: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    sliding: usize,
    experts: usize,
    features: BTreeSet<&'static str>,
    vocabulary: usize,
    context_length: usize,
}

impl Layers {
    fn of_decoder(description: &Description) -> Self {
        let layers = &description.layers;
        let count = |wanted: fn(&Layer) -> bool| layers.iter().filter(|layer| wanted(layer)).count();
        let widest = |of: fn(&Layer) -> usize| layers.iter().map(of).max().unwrap_or(0);
        Self {
            count: layers.len(),
            hidden: description.hidden,
            heads: widest(|layer| layer.attention.heads),
            kv_heads: widest(|layer| layer.attention.kv_heads),
            sliding: count(|layer| layer.attention.window.is_some()),
            experts: count(|layer| matches!(layer.feed_forward, FeedForward::Experts(_))),
            features: of_decoder(description),
            vocabulary: description.vocabulary,
            context_length: description.context_length,
        }
    }

    fn of_encoder(description: &EncoderDescription) -> Self {
        Self {
            count: description.layers.len(),
            hidden: description.hidden,
            heads: description.heads,
            kv_heads: description.heads,
            sliding: description.layers.iter().filter(|layer| layer.window.is_some()).count(),
            experts: 0,
            features: of_encoder(description),
            vocabulary: description.vocabulary,
            context_length: description.context_length,
        }
    }
}

/// What a decoder has of what decoders may have.
fn of_decoder(description: &Description) -> BTreeSet<&'static str> {
    let layers = &description.layers;
    let any = |has: fn(&Layer) -> bool| layers.iter().any(has);
    let shared =
        |layer: &Layer| matches!(&layer.feed_forward, FeedForward::Experts(it) if it.shared.is_some());
    let narrow = |layer: &Layer| {
        let turned = layer.attention.rotary.map(|index| description.rotary[index].width());
        turned.is_some_and(|turned| turned < layer.attention.head_dim)
    };
    let unturned = |layer: &Layer| layer.attention.rotary.is_none() && !description.rotary.is_empty();
    [
        ("grouped keys", any(|layer| layer.attention.kv_heads < layer.attention.heads)),
        ("rotary positions", any(|layer| layer.attention.rotary.is_some())),
        ("partly turned heads", layers.iter().any(narrow)),
        ("layers without positions", layers.iter().any(unturned)),
        ("learned positions", description.embedding.positions.is_some()),
        ("ALiBi", any(|layer| layer.attention.slopes.is_some())),
        ("window", any(|layer| layer.attention.window.is_some())),
        ("sinks", any(|layer| layer.attention.sinks.is_some())),
        ("normed queries and keys", any(|layer| layer.attention.query_norm.is_some())),
        ("capped scores", any(|layer| layer.attention.soft_cap.is_some())),
        ("capped logits", description.logit_soft_cap.is_some()),
        ("clipped projections", any(|layer| layer.attention.clip.is_some())),
        ("parallel branches", any(|layer| layer.parallel)),
        ("experts", any(|layer| matches!(layer.feed_forward, FeedForward::Experts(_)))),
        ("shared expert", layers.iter().any(shared)),
    ]
    .into_iter()
    .filter_map(|(name, has)| has.then_some(name))
    .collect()
}

/// What an encoder has of what encoders may have.
fn of_encoder(description: &EncoderDescription) -> BTreeSet<&'static str> {
    [
        ("rotary positions", !description.rotary.is_empty()),
        ("learned positions", description.embedding.positions.is_some()),
        ("ALiBi", matches!(description.bias, Some(Bias::Slopes(_)))),
        ("distance buckets", matches!(description.bias, Some(Bias::Buckets { .. }))),
        ("token types", description.embedding.types.is_some()),
        ("window", description.layers.iter().any(|layer| layer.window.is_some())),
    ]
    .into_iter()
    .filter_map(|(name, has)| has.then_some(name))
    .collect()
}
