//! Two products with an activation between.

use super::{
    adapter::Adapted,
    builder::{Builder, Linear},
    description::{self, Up},
    error::LoadError,
};
use crate::kernels::{Aligned, Cpu, activation::Activation};

/// `down(activation(gate(x)) · up(x))`, or `down(activation(up(x)))`.
pub(super) struct Mlp {
    pub(super) gated: bool,
    pub(super) inner: usize,
    /// The gate's outputs, then up's.
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) activation: Activation,
}

#[derive(Default)]
pub(super) struct MlpScratch {
    up: Aligned<f32>,
    inner: Aligned<f32>,
}

impl Mlp {
    pub(super) fn build(
        builder: &Builder<'_>,
        mlp: &description::Mlp,
        activation: Activation,
        hidden: usize,
    ) -> Result<Self, LoadError> {
        let inner = mlp.inner;
        let (gated, up) = match &mlp.up {
            Up::Plain(up) => (false, builder.linear(&[(up, inner)], hidden)?),
            Up::Gated { gate, up } => (true, builder.linear(&[(gate, inner), (up, inner)], hidden)?),
            Up::FusedGated(both) => (true, builder.linear(&[(both, 2 * inner)], hidden)?),
        };
        let down = builder.linear(&[(&mlp.down, hidden)], inner)?;
        Ok(Self { gated, inner, up, down, activation })
    }

    /// `adapted` knows the rows that have an adapter, where the feed-forward may have any.
    pub(super) fn forward(
        &self,
        cpu: &Cpu,
        x: &[f32],
        out: &mut [f32],
        scratch: &mut MlpScratch,
        mut adapted: Option<&mut Adapted>,
    ) {
        let rows = x.len() / self.up.matrix.k();
        let bare = |linear: &Linear| linear.bias.is_none() && linear.adapters.is_empty();
        let (up, down) = (&self.up, &self.down);
        if self.gated && bare(up) && bare(down) && up.matrix.gated(cpu, self.activation, &down.matrix, x, out)
        {
            return;
        }
        scratch.up.resize(rows * self.up.matrix.n());
        scratch.inner.resize(rows * self.inner);
        self.up.apply(cpu, x, &mut scratch.up);
        if let Some(adapted) = &mut adapted {
            adapted.add(cpu, &self.up, x, &mut scratch.up);
        }
        if self.gated {
            self.activation.gate(cpu, &scratch.up, self.inner, &mut scratch.inner);
        } else {
            self.activation.apply(cpu, &scratch.up, self.inner, &mut scratch.inner);
        }
        self.down.apply(cpu, &scratch.inner, out);
        if let Some(adapted) = adapted {
            adapted.add(cpu, &self.down, &scratch.inner, out);
        }
    }
}
