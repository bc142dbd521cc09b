//! One layer: attention of each sequence to itself and a feed-forward, each added to the residual stream.

use std::ops::Range;

use super::{Scratch, description};
use crate::{
    kernels::{
        Aligned, Cpu,
        attention::{DistanceBias, Whole},
        norm::Norm,
        rotary::Rotary,
        vector::add_scaled,
    },
    model::{
        builder::{Builder, Linear},
        description::HeadLayout,
        error::LoadError,
        mlp::Mlp,
    },
};

pub(super) struct Layer {
    projections: Linear,
    rotary: Option<usize>,
    attention: Whole,
    output: Linear,
    attention_norm: Place,
    mlp: Mlp,
    mlp_norm: Place,
}

/// Where a norm stands.
enum Place {
    Before(Option<Norm>),
    After(Norm),
}

impl Layer {
    pub(super) fn build(
        builder: &Builder<'_>,
        layer: &description::Layer,
        heads: usize,
        hidden: usize,
    ) -> Result<Self, LoadError> {
        let place = |place: &description::Place| -> Result<Place, LoadError> {
            Ok(match place {
                description::Place::Before(norm) => {
                    Place::Before(builder.optional_norm(norm.as_ref(), hidden)?)
                }
                description::Place::After(norm) => Place::After(builder.norm(norm, hidden)?),
            })
        };
        let head_dim = hidden / heads;
        let layout = HeadLayout { heads, kv_heads: heads, head_dim };
        #[expect(clippy::cast_precision_loss, reason = "a head's dimensions")]
        let scale = 1.0 / (head_dim as f32).sqrt();
        Ok(Self {
            projections: builder.projections(&layer.projections, layout, hidden)?,
            rotary: layer.rotary,
            attention: Whole { heads, head_dim, scale, window: layer.window },
            output: builder.linear(&[(&layer.output, hidden)], hidden)?,
            attention_norm: place(&layer.attention_norm)?,
            mlp: Mlp::build(builder, &layer.mlp, layer.activation, hidden)?,
            mlp_norm: place(&layer.mlp_norm)?,
        })
    }

    /// Adds what this layer finds to each row of `scratch.x`. `rows` are those of each sequence.
    pub(super) fn forward(
        &self,
        cpu: &Cpu,
        rows: &[Range<usize>],
        rotary: &[Rotary],
        bias: Option<&DistanceBias>,
        scratch: &mut Scratch,
    ) {
        let Scratch { x, normed, qkv, context, branch, mlp, angles } = scratch;
        for buffer in [&mut *context, &mut *branch] {
            buffer.resize(x.len());
        }
        qkv.resize(3 * x.len());
        self.projections.apply(cpu, self.attention_norm.before(cpu, x, normed), qkv);
        if let Some(index) = self.rotary {
            self.turn(cpu, &rotary[index], &angles[index], qkv);
        }
        self.attention.attend(cpu, rows, qkv, bias, context);
        self.output.apply(cpu, context, branch);
        self.attention_norm.add(cpu, x, branch, self.hidden());
        self.mlp.forward(cpu, self.mlp_norm.before(cpu, x, normed), branch, mlp, None);
        self.mlp_norm.add(cpu, x, branch, self.hidden());
    }

    fn hidden(&self) -> usize {
        self.attention.heads * self.attention.head_dim
    }

    /// Rotates queries and keys.
    fn turn(&self, cpu: &Cpu, rotary: &Rotary, angles: &[f32], qkv: &mut [f32]) {
        cpu.for_rows(qkv, 3 * self.hidden(), |i, row| {
            let angles = &angles[i * rotary.width()..(i + 1) * rotary.width()];
            for head in row[..2 * self.hidden()].chunks_exact_mut(self.attention.head_dim) {
                rotary.turn(angles, head);
            }
        });
    }
}

impl Place {
    /// What the branch sees; `normed` is room for it.
    fn before<'a>(&self, cpu: &Cpu, x: &'a [f32], normed: &'a mut Aligned<f32>) -> &'a [f32] {
        match self {
            Self::Before(Some(norm)) => {
                normed.resize(x.len());
                norm.apply(cpu, x, normed);
                normed
            }
            Self::Before(None) | Self::After(_) => x,
        }
    }

    /// Adds the branch to `x`, rows of which are `width` long.
    fn add(&self, cpu: &Cpu, x: &mut [f32], branch: &[f32], width: usize) {
        add_scaled(cpu, x, branch, width, 1.0);
        if let Self::After(norm) = self {
            norm.apply_in_place(cpu, x);
        }
    }
}
