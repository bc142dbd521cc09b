//! Feed-forward: one for all rows, or a choice of experts.

use super::experts::{self, Experts};
use crate::{
    kernels::Cpu,
    model::{
        adapter::Adapted,
        builder::Builder,
        description,
        error::LoadError,
        mlp::{Mlp, MlpScratch},
    },
};

pub(super) enum FeedForward {
    Dense(Mlp),
    Experts(Box<Experts>),
}

#[derive(Default)]
pub(super) struct Scratch {
    pub(super) mlp: MlpScratch,
    pub(super) experts: experts::Scratch,
}

impl FeedForward {
    pub(super) fn build(
        builder: &Builder<'_>,
        layer: &description::Layer,
        hidden: usize,
    ) -> Result<Self, LoadError> {
        Ok(match &layer.feed_forward {
            description::FeedForward::Dense(mlp) => {
                Self::Dense(Mlp::build(builder, mlp, layer.activation, hidden)?)
            }
            description::FeedForward::Experts(experts) => {
                let build = || Experts::build(builder, experts, layer.activation, hidden);
                Self::Experts(Box::new(builder.unadapted(build)?))
            }
        })
    }

    /// `x` [rows, hidden] into `out` of the same shape.
    pub(super) fn forward(
        &self,
        cpu: &Cpu,
        x: &[f32],
        out: &mut [f32],
        scratch: &mut Scratch,
        adapted: &mut Adapted,
    ) {
        match self {
            Self::Dense(mlp) => mlp.forward(cpu, x, out, &mut scratch.mlp, Some(adapted)),
            Self::Experts(experts) => experts.forward(cpu, x, out, &mut scratch.mlp, &mut scratch.experts),
        }
    }
}
