//! One layer: attention and feed-forward, each added to the residual stream.

use candle_core::{Result, Tensor};

use super::{
    attention::{Attention, Cache},
    feed_forward::FeedForward,
    ops::turn,
    pack::{Linear, Norm, Packer, normalise},
    step::Step,
};
use crate::{
    kernels::{Cpu, rotary::Rotary},
    model::{builder::Builder, description, error::LoadError},
};

pub(super) struct Layer {
    before_attention: Option<Norm>,
    projections: Linear,
    clip: Option<f32>,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    rotary: Option<usize>,
    pub(super) attention: Attention,
    output: Linear,
    after_attention: Option<Norm>,
    before_feed_forward: Option<Norm>,
    feed_forward: FeedForward,
    after_feed_forward: Option<Norm>,
    parallel: bool,
    residual_multiplier: f64,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl Layer {
    pub(super) fn build(
        builder: &Builder<'_, Packer>,
        packer: &Packer,
        layer: &description::Layer,
        hidden: usize,
    ) -> std::result::Result<Self, LoadError> {
        let from = &layer.attention;
        let description::Attention { heads, kv_heads, head_dim, .. } = *from;
        let norm = |norm: &Option<description::Norm>| -> std::result::Result<Option<Norm>, LoadError> {
            Ok(packer.optional_norm(builder.optional_norm(norm.as_ref(), hidden)?)?)
        };
        let query_norm = builder.head_norm(from.query_norm.as_ref(), heads, head_dim)?;
        let key_norm = builder.head_norm(from.key_norm.as_ref(), kv_heads, head_dim)?;
        let sinks = from.sinks.as_ref().map(|name| builder.vector(name, heads)).transpose()?;
        let output = builder.linear(&[(&from.output, hidden)], heads * head_dim)?;
        Ok(Self {
            before_attention: norm(&layer.before_attention)?,
            projections: packer.linear(builder.projections(&from.projections, from.layout(), hidden)?)?,
            clip: from.clip,
            query_norm: packer.optional_norm(query_norm)?,
            key_norm: packer.optional_norm(key_norm)?,
            rotary: from.rotary,
            attention: Attention::new(from, sinks, &packer.device)?,
            output: packer.linear(output)?,
            after_attention: norm(&layer.after_attention)?,
            before_feed_forward: norm(&layer.before_feed_forward)?,
            feed_forward: FeedForward::build(builder, packer, layer, hidden)?,
            after_feed_forward: norm(&layer.after_feed_forward)?,
            parallel: layer.parallel,
            residual_multiplier: f64::from(layer.residual_multiplier),
            heads,
            kv_heads,
            head_dim,
        })
    }

    /// The residual stream `x` [rows, hidden] after this layer, whose keys and values the cache then has.
    pub(super) fn forward(
        &self,
        cpu: &Cpu,
        cache: &Cache,
        rotary: &[Rotary],
        step: &Step,
        x: &Tensor,
    ) -> Result<Tensor> {
        let normed = normalise(self.before_attention.as_ref(), x)?;
        let mut qkv = self.projections.apply(&normed)?;
        if let Some(clip) = self.clip {
            qkv = qkv.clamp(-clip, clip)?;
        }
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let values = qkv.narrow(1, queries + keys, keys)?;
        let turned = |first: usize, heads: usize, norm: Option<&Norm>| {
            let part = normalise(norm, &qkv.narrow(1, first, heads * self.head_dim)?)?;
            let Some(index) = self.rotary else { return Ok(part) };
            let by_head = part.reshape((step.rows, heads, self.head_dim))?;
            let turned = turn(&rotary[index], &step.angles[index], &by_head)?;
            turned.reshape((step.rows, heads * self.head_dim))
        };
        let keys = turned(queries, self.kv_heads, self.key_norm.as_ref())?;
        let queries = turned(0, self.heads, self.query_norm.as_ref())?;
        self.attention.remember(cache, step, &keys, &values)?;
        let branch = self.output.apply(&self.attention.attend(cache, step, &queries)?)?;
        let branch = normalise(self.after_attention.as_ref(), &branch)?;
        let after = (x + (branch * self.residual_multiplier)?)?;
        let input = match &self.before_feed_forward {
            None if self.parallel => normed,
            norm => normalise(norm.as_ref(), if self.parallel { x } else { &after })?,
        };
        let other = self.feed_forward.forward(cpu, &input)?;
        let other = normalise(self.after_feed_forward.as_ref(), &other)?;
        after + (other * self.residual_multiplier)?
    }
}
