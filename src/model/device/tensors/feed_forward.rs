//! Feed-forward: two products with an activation between, or a choice of such experts.

use candle_core::{Result, Tensor};

use super::{
    ops::{activate, gate, sigmoid},
    pack::{Linear, Packer},
};
use crate::{
    kernels::{Cpu, activation::Activation},
    model::{
        builder::Builder,
        decoder::experts::choose,
        description::{self, ExpertWeights, Up},
        error::LoadError,
    },
};

pub(super) enum FeedForward {
    Dense(Mlp),
    Experts(Experts),
}

impl FeedForward {
    pub(super) fn build(
        builder: &Builder<'_, Packer>,
        packer: &Packer,
        layer: &description::Layer,
        hidden: usize,
    ) -> std::result::Result<Self, LoadError> {
        let mlp = |mlp: &description::Mlp| Mlp::build(builder, packer, mlp, layer.activation, hidden);
        let from = match &layer.feed_forward {
            description::FeedForward::Dense(dense) => return Ok(Self::Dense(mlp(dense)?)),
            description::FeedForward::Experts(experts) => experts,
        };
        let experts: Vec<Mlp> = match &from.weights {
            ExpertWeights::Each(experts) => experts.iter().map(mlp).collect::<std::result::Result<_, _>>()?,
            ExpertWeights::Stacked { name, count, inner, outputs_first } => {
                let stacked = builder.stacked_experts(name, [*count, hidden, *inner], *outputs_first)?;
                let expert = |[up, down]: [_; 2]| {
                    let (up, down) = (packer.linear(up)?, packer.linear(down)?);
                    Ok(Mlp { gated: true, up, down, activation: layer.activation })
                };
                stacked.into_iter().map(expert).collect::<Result<_>>()?
            }
        };
        let shared = match &from.shared {
            None => None,
            Some((shared, gate)) => {
                Some((mlp(shared)?, packer.linear(builder.linear(&[(gate, 1)], hidden)?)?))
            }
        };
        let router = packer.linear(builder.linear(&[(&from.router, experts.len())], hidden)?)?;
        let top_k = from.top_k.min(experts.len());
        Ok(Self::Experts(Experts { router, experts, top_k, renormalise: from.renormalise, shared }))
    }

    /// `x` [rows, hidden] to the same shape. `cpu` chooses experts.
    pub(super) fn forward(&self, cpu: &Cpu, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense(mlp) => mlp.forward(x),
            Self::Experts(experts) => experts.forward(cpu, x),
        }
    }
}

/// `down(activation(gate(x)) · up(x))`, or `down(activation(up(x)))`.
pub(super) struct Mlp {
    gated: bool,
    /// The gate's outputs, then up's.
    up: Linear,
    down: Linear,
    activation: Activation,
}

impl Mlp {
    fn build(
        builder: &Builder<'_, Packer>,
        packer: &Packer,
        mlp: &description::Mlp,
        activation: Activation,
        hidden: usize,
    ) -> std::result::Result<Self, LoadError> {
        let inner = mlp.inner;
        let (gated, up) = match &mlp.up {
            Up::Plain(up) => (false, builder.linear(&[(up, inner)], hidden)?),
            Up::Gated { gate, up } => (true, builder.linear(&[(gate, inner), (up, inner)], hidden)?),
            Up::FusedGated(both) => (true, builder.linear(&[(both, 2 * inner)], hidden)?),
        };
        let down = builder.linear(&[(&mlp.down, hidden)], inner)?;
        Ok(Self { gated, up: packer.linear(up)?, down: packer.linear(down)?, activation })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let up = self.up.apply(x)?;
        let inner = if self.gated { gate(self.activation, &up)? } else { activate(self.activation, &up)? };
        self.down.apply(&inner)
    }
}

/// A mixture of experts. The router's logits go to the host, which sends each expert its rows.
pub(super) struct Experts {
    router: Linear,
    experts: Vec<Mlp>,
    top_k: usize,
    renormalise: bool,
    /// An expert of all rows, and its gate.
    shared: Option<(Mlp, Linear)>,
}

impl Experts {
    fn forward(&self, cpu: &Cpu, x: &Tensor) -> Result<Tensor> {
        let count = self.experts.len();
        let mut weights = self.router.apply(x)?.flatten_all()?.to_vec1::<f32>()?;
        cpu.for_rows(&mut weights, count, |_, row| choose(cpu, row, self.top_k, self.renormalise));
        let mut out = x.zeros_like()?;
        for (number, expert) in self.experts.iter().enumerate() {
            let weights = weights.chunks_exact(count).map(|row| row[number]);
            let mine = (0u32..).zip(weights).filter(|(_, weight)| *weight != 0.0);
            let (rows, weights): (Vec<u32>, Vec<f32>) = mine.unzip();
            if rows.is_empty() {
                continue;
            }
            let weights = Tensor::new(weights, x.device())?.unsqueeze(1)?;
            let rows = Tensor::new(rows, x.device())?;
            let part = expert.forward(&x.index_select(&rows, 0)?)?.broadcast_mul(&weights)?;
            out = out.index_add(&rows, &part, 0)?;
        }
        if let Some((shared, gate)) = &self.shared {
            out = (out + shared.forward(x)?.broadcast_mul(&sigmoid(&gate.apply(x)?)?)?)?;
        }
        Ok(out)
    }
}
