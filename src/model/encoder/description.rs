//! An encoder as data. Tensors are named without `.weight` and `.bias`.

use crate::{
    kernels::{activation::Activation, rotary::Rotary},
    model::{
        description::{Linear, Mlp, Norm, Projections},
        pooling::Mode,
    },
};

/// Everything about an encoder but its weights.
#[derive(Debug, Clone)]
pub(in crate::model) struct Description {
    pub(in crate::model) vocabulary: usize,
    pub(in crate::model) hidden: usize,
    pub(in crate::model) heads: usize,
    pub(in crate::model) context_length: usize,
    /// Of the names of all tensors but the classifier's; checkpoints of the bare encoder lack it.
    pub(in crate::model) prefix: &'static str,
    pub(in crate::model) embedding: Embedding,
    /// Rotary tables that layers refer to by index.
    pub(in crate::model) rotary: Vec<Rotary>,
    pub(in crate::model) bias: Option<Bias>,
    pub(in crate::model) layers: Vec<Layer>,
    pub(in crate::model) norm: Option<Norm>,
    pub(in crate::model) classifier: Option<Classifier>,
}

#[derive(Debug, Clone)]
pub(in crate::model) struct Embedding {
    pub(in crate::model) tokens: String,
    /// A learned table of positions and the row of position 0.
    pub(in crate::model) positions: Option<(String, usize)>,
    /// A table of token types and its rows.
    pub(in crate::model) types: Option<(String, usize)>,
    pub(in crate::model) norm: Option<Norm>,
}

/// What is added to the scores of attention in all layers.
#[derive(Debug, Clone)]
pub(in crate::model) enum Bias {
    /// -slope · distance, a slope for each head (ALiBi to both sides).
    Slopes(Vec<f32>),
    /// A table [buckets, heads] of ranges of distances (`modeling_mpnet.py`, `relative_position_bucket`).
    Buckets { name: String, buckets: usize },
}

#[derive(Debug, Clone)]
pub(in crate::model) struct Layer {
    pub(in crate::model) projections: Projections,
    pub(in crate::model) output: Linear,
    pub(in crate::model) rotary: Option<usize>,
    /// Positions seen on each side, where not all are.
    pub(in crate::model) window: Option<usize>,
    pub(in crate::model) attention_norm: Place,
    pub(in crate::model) mlp: Mlp,
    pub(in crate::model) activation: Activation,
    pub(in crate::model) mlp_norm: Place,
}

/// Where a norm stands.
#[derive(Debug, Clone)]
pub(in crate::model) enum Place {
    /// Before the branch, which is added to what came in.
    Before(Option<Norm>),
    /// After the branch was added.
    After(Norm),
}

/// From a sequence's rows to a score for each label.
#[derive(Debug, Clone)]
pub(in crate::model) struct Classifier {
    pub(in crate::model) mode: Mode,
    pub(in crate::model) dense: Linear,
    pub(in crate::model) activation: Activation,
    pub(in crate::model) norm: Option<Norm>,
    pub(in crate::model) output: Linear,
    pub(in crate::model) labels: usize,
    /// Scores are brought between 0 and 1.
    pub(in crate::model) sigmoid: bool,
}

impl Description {
    /// Tables that are read where they lie, without the prefix.
    pub(in crate::model) fn tables(&self) -> Vec<&str> {
        let Embedding { tokens, positions, types, norm: _ } = &self.embedding;
        let others = positions.iter().chain(types).map(|(name, _)| name);
        let bare = |name| str::strip_prefix(name, self.prefix).unwrap_or(name);
        std::iter::once(tokens).chain(others).map(|name| bare(name.as_str())).collect()
    }

    /// Bytes of the buffers, for each row of a batch.
    pub(in crate::model) fn row_bytes(&self) -> u64 {
        let inner = self.layers.iter().map(|layer| layer.mlp.inner).max().unwrap_or(0);
        // Stream, normed stream, queries with keys and values, context, branch; twice the inner rows and what is left.
        ((7 * self.hidden + 3 * inner) * size_of::<f32>()) as u64
    }
}
