//! A decoder as data: what an architecture's file makes of a configuration, and what the loader builds.
//!
//! Tensors are named without `.weight` and `.bias`.

use crate::kernels::{activation::Activation, norm::NormKind, rotary::Rotary};

/// Everything about a model but its weights.
#[derive(Debug, Clone)]
pub(super) struct Description {
    pub(super) vocabulary: usize,
    pub(super) hidden: usize,
    pub(super) context_length: usize,
    /// Of the names of all tensors but the head's; checkpoints of the bare decoder lack it.
    pub(super) prefix: &'static str,
    pub(super) embedding: Embedding,
    /// Rotary tables that layers refer to by index.
    pub(super) rotary: Vec<Rotary>,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Option<Norm>,
    /// None: the embedding table is the head.
    pub(super) head: Option<Linear>,
    pub(super) logit_multiplier: f32,
    pub(super) logit_soft_cap: Option<f32>,
    /// Matrices lie as [inputs, outputs] (GPT-2's `Conv1D`).
    pub(super) transposed: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Embedding {
    pub(super) tokens: String,
    pub(super) multiplier: f32,
    /// A learned table of positions and the row of position 0.
    pub(super) positions: Option<(String, usize)>,
    pub(super) norm: Option<Norm>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Linear {
    pub(super) name: String,
    pub(super) bias: bool,
}

impl Linear {
    pub(super) fn new(name: impl Into<String>, bias: bool) -> Self {
        Self { name: name.into(), bias }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Norm {
    /// None: it has no parameters.
    pub(super) name: Option<String>,
    pub(super) kind: NormKind,
    pub(super) eps: f32,
    pub(super) bias: bool,
    /// The weight is stored less 1 (Gemma).
    pub(super) unit_offset: bool,
}

/// A norm of queries or keys.
#[derive(Debug, Clone)]
pub(super) enum HeadNorm {
    /// One weight of a head's width for all.
    Head(Norm),
    /// A weight for each head, one after the other, in one tensor.
    EachHead(Norm),
    /// As [`HeadNorm::EachHead`], in a tensor for each head: `{name}.{head}`.
    TensorEachHead(Norm),
    /// All heads share their statistics too.
    Whole(Norm),
}

/// How rows of the fused projection are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FusedOrder {
    /// All queries, all keys, all values.
    Sections,
    /// For each head of keys and values: its queries, its key, its value.
    Groups,
}

#[derive(Debug, Clone)]
pub(super) enum Projections {
    Separate { query: Linear, key: Linear, value: Linear },
    Fused { linear: Linear, order: FusedOrder },
}

/// Heads of a layer of attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadLayout {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Attention {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) projections: Projections,
    /// Bounds queries, keys and values (OLMo).
    pub(super) clip: Option<f32>,
    pub(super) query_norm: Option<HeadNorm>,
    pub(super) key_norm: Option<HeadNorm>,
    pub(super) rotary: Option<usize>,
    pub(super) scale: f32,
    pub(super) soft_cap: Option<f32>,
    pub(super) window: Option<usize>,
    pub(super) sinks: Option<String>,
    pub(super) slopes: Option<Vec<f32>>,
    pub(super) output: Linear,
}

#[derive(Debug, Clone)]
pub(super) enum Up {
    Plain(Linear),
    Gated {
        gate: Linear,
        up: Linear,
    },
    /// The gate's rows, then up's.
    FusedGated(Linear),
}

#[derive(Debug, Clone)]
pub(super) struct Mlp {
    pub(super) inner: usize,
    pub(super) up: Up,
    pub(super) down: Linear,
}

#[derive(Debug, Clone)]
pub(super) enum ExpertWeights {
    Each(Vec<Mlp>),
    /// `{name}.gate_up_proj` [experts, hidden, 2 inner] with gate and up in turn, `{name}.down_proj`
    /// [experts, inner, hidden], and both with `_bias`.
    Stacked {
        name: String,
        count: usize,
        inner: usize,
        /// The last two dimensions lie the other way round: quantized blocks go along the inputs.
        outputs_first: bool,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Experts {
    pub(super) router: Linear,
    pub(super) weights: ExpertWeights,
    pub(super) top_k: usize,
    /// The chosen experts' weights add up to 1.
    pub(super) renormalise: bool,
    /// An expert for all tokens, and what weighs it through a sigmoid.
    pub(super) shared: Option<(Mlp, Linear)>,
}

#[derive(Debug, Clone)]
pub(super) enum FeedForward {
    Dense(Mlp),
    Experts(Experts),
}

#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) before_attention: Option<Norm>,
    pub(super) attention: Attention,
    pub(super) after_attention: Option<Norm>,
    pub(super) before_feed_forward: Option<Norm>,
    pub(super) feed_forward: FeedForward,
    pub(super) activation: Activation,
    pub(super) after_feed_forward: Option<Norm>,
    /// Attention and feed-forward see the same input. Without a norm of its own, the feed-forward gets attention's.
    pub(super) parallel: bool,
    pub(super) residual_multiplier: f32,
}

impl Description {
    /// Changes every layer.
    pub(super) fn each(&mut self, mut change: impl FnMut(usize, &mut Layer)) {
        self.layers.iter_mut().enumerate().for_each(|(i, layer)| change(i, layer));
    }
}

impl Attention {
    pub(super) fn layout(&self) -> HeadLayout {
        HeadLayout { heads: self.heads, kv_heads: self.kv_heads, head_dim: self.head_dim }
    }
}

impl Layer {
    /// Biases of the three projections.
    pub(super) fn bias_projections(&mut self, bias: bool) {
        match &mut self.attention.projections {
            Projections::Separate { query, key, value } => {
                (query.bias, key.bias, value.bias) = (bias, bias, bias);
            }
            Projections::Fused { linear, .. } => linear.bias = bias,
        }
    }

    /// Biases of a dense feed-forward.
    pub(super) fn bias_feed_forward(&mut self, bias: bool) {
        let FeedForward::Dense(mlp) = &mut self.feed_forward else { return };
        mlp.down.bias = bias;
        match &mut mlp.up {
            Up::Plain(up) | Up::FusedGated(up) => up.bias = bias,
            Up::Gated { gate, up } => (gate.bias, up.bias) = (bias, bias),
        }
    }
}
