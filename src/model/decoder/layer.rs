//! One layer: attention and feed-forward, each added to the residual stream.

use super::{Scratch, feed_forward::FeedForward};
use crate::{
    kernels::{
        Aligned, Cpu,
        attention::{Attention, KvLayer, Place},
        norm::Norm,
        rotary::Rotary,
        simd::LANES,
        vector::add_scaled,
    },
    model::{
        builder::{Builder, Linear},
        description,
        error::LoadError,
    },
};

pub(super) struct Layer {
    before_attention: Option<Norm>,
    projections: Linear,
    clip: Option<f32>,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    rotary: Option<usize>,
    attention: Attention,
    output: Linear,
    after_attention: Option<Norm>,
    before_feed_forward: Option<Norm>,
    feed_forward: FeedForward,
    after_feed_forward: Option<Norm>,
    parallel: bool,
    residual_multiplier: f32,
    hidden: usize,
}

impl Layer {
    pub(super) fn build(
        builder: &Builder<'_>,
        layer: &description::Layer,
        hidden: usize,
    ) -> Result<Self, LoadError> {
        let from = &layer.attention;
        let norm = |norm: &Option<description::Norm>| builder.optional_norm(norm.as_ref(), hidden);
        let sinks = from.sinks.as_ref().map(|name| builder.vector(name, from.heads)).transpose()?;
        Ok(Self {
            before_attention: norm(&layer.before_attention)?,
            projections: builder.projections(&from.projections, from.layout(), hidden)?,
            clip: from.clip,
            query_norm: builder.head_norm(from.query_norm.as_ref(), from.heads, from.head_dim)?,
            key_norm: builder.head_norm(from.key_norm.as_ref(), from.kv_heads, from.head_dim)?,
            rotary: from.rotary,
            attention: Attention {
                heads: from.heads,
                kv_heads: from.kv_heads,
                head_dim: from.head_dim,
                scale: from.scale,
                soft_cap: from.soft_cap,
                window: from.window,
                sinks,
                slopes: from.slopes.clone(),
            },
            output: builder.linear(&[(&from.output, hidden)], from.heads * from.head_dim)?,
            after_attention: norm(&layer.after_attention)?,
            before_feed_forward: norm(&layer.before_feed_forward)?,
            feed_forward: FeedForward::build(builder, layer, hidden)?,
            after_feed_forward: norm(&layer.after_feed_forward)?,
            parallel: layer.parallel,
            residual_multiplier: layer.residual_multiplier,
            hidden,
        })
    }

    pub(super) fn attention(&self) -> &Attention {
        &self.attention
    }

    /// Adds what this layer finds to each row of `scratch.x`, and puts the rows' keys and values into the cache.
    pub(super) fn forward(
        &self,
        cpu: &Cpu,
        cache: &mut KvLayer,
        rotary: &[Rotary],
        places: &[Place<'_>],
        scratch: &mut Scratch,
    ) {
        let Scratch { x, normed, qkv, context, branch, other, feed_forward, angles, adapted } = scratch;
        let size = places.len() * self.hidden;
        for buffer in [&mut *normed, &mut *branch, &mut *other] {
            buffer.resize(size);
        }
        normalise(cpu, self.before_attention.as_ref(), x, normed);
        qkv.resize(places.len() * self.projections.matrix.n());
        self.projections.apply(cpu, normed, qkv);
        adapted.add(cpu, &self.projections, normed, qkv);
        self.turn(cpu, rotary, angles, qkv);
        self.remember(cache, places, qkv);
        context.resize(places.len() * self.query_width());
        self.attention.attend(cpu, cache, places, (&qkv[..], self.projections.matrix.n()), context);
        self.output.apply(cpu, context, branch);
        adapted.add(cpu, &self.output, context, branch);
        if let Some(norm) = &self.after_attention {
            norm.apply_in_place(cpu, branch);
        }
        if self.parallel {
            if self.before_feed_forward.is_some() {
                normalise(cpu, self.before_feed_forward.as_ref(), x, normed);
            }
            add_scaled(cpu, x, branch, self.hidden, self.residual_multiplier);
        } else {
            add_scaled(cpu, x, branch, self.hidden, self.residual_multiplier);
            normalise(cpu, self.before_feed_forward.as_ref(), x, normed);
        }
        self.feed_forward.forward(cpu, normed, other, feed_forward, adapted);
        if let Some(norm) = &self.after_feed_forward {
            norm.apply_in_place(cpu, other);
        }
        add_scaled(cpu, x, other, self.hidden, self.residual_multiplier);
    }

    fn query_width(&self) -> usize {
        self.attention.heads * self.attention.head_dim
    }

    /// Bounds, normalises and rotates queries and keys.
    fn turn(&self, cpu: &Cpu, rotary: &[Rotary], angles: &[Aligned<f32>], qkv: &mut [f32]) {
        let queries = self.query_width();
        let keys = self.attention.kv_heads * self.attention.head_dim;
        let rotary = self.rotary.map(|index| (&rotary[index], &angles[index]));
        cpu.for_rows(qkv, queries + 2 * keys, |i, row| {
            if let Some(clip) = self.clip {
                for x in row.iter_mut() {
                    *x = x.clamp(-clip, clip);
                }
            }
            if let Some(norm) = &self.query_norm {
                norm.apply_to_heads(cpu.isa, &mut row[..queries]);
            }
            if let Some(norm) = &self.key_norm {
                norm.apply_to_heads(cpu.isa, &mut row[queries..queries + keys]);
            }
            if let Some((rotary, angles)) = rotary {
                let angles = &angles[i * rotary.width()..(i + 1) * rotary.width()];
                for head in row[..queries + keys].chunks_exact_mut(self.attention.head_dim) {
                    rotary.turn(angles, head);
                }
            }
        });
    }

    fn remember(&self, cache: &mut KvLayer, places: &[Place<'_>], qkv: &[f32]) {
        let queries = self.query_width();
        let keys = self.attention.kv_heads * self.attention.head_dim;
        for (place, row) in places.iter().zip(qkv.chunks_exact(queries + 2 * keys)) {
            let block = place.blocks[place.position / LANES] as usize;
            cache.put(block, place.position % LANES, &row[queries..queries + keys], &row[queries + keys..]);
        }
    }
}

/// `x` normalised into `out`, or copied where there is no norm.
fn normalise(cpu: &Cpu, norm: Option<&Norm>, x: &[f32], out: &mut [f32]) {
    match norm {
        Some(norm) => norm.apply(cpu, x, out),
        None => out.copy_from_slice(x),
    }
}
