//! From a sequence's rows to a score for each label.

use std::ops::Range;

use super::description;
use crate::{
    kernels::{Cpu, activation::Activation, norm::Norm, vector::Sigmoid},
    model::{
        builder::{Builder, Linear},
        error::LoadError,
        pooling::Mode,
    },
};

pub(super) struct Classifier {
    mode: Mode,
    dense: Linear,
    activation: Activation,
    norm: Option<Norm>,
    output: Linear,
    sigmoid: bool,
}

impl Classifier {
    pub(super) fn build(
        builder: &Builder<'_>,
        classifier: &description::Classifier,
        hidden: usize,
    ) -> Result<Self, LoadError> {
        let description::Classifier { mode, dense, activation, norm, output, labels, sigmoid } = classifier;
        Ok(Self {
            mode: *mode,
            dense: builder.linear(&[(dense, hidden)], hidden)?,
            activation: *activation,
            norm: builder.optional_norm(norm.as_ref(), hidden)?,
            output: builder.linear(&[(output, *labels)], hidden)?,
            sigmoid: *sigmoid,
        })
    }

    pub(super) fn labels(&self) -> usize {
        self.output.matrix.n()
    }

    /// Scores of each sequence, whose `rows` of `x` are given.
    pub(super) fn scores(&self, cpu: &Cpu, x: &[f32], rows: &[Range<usize>]) -> Vec<Vec<f32>> {
        let hidden = self.output.matrix.k();
        let mut pooled = vec![0.0; rows.len() * hidden];
        for (out, rows) in pooled.chunks_exact_mut(hidden).zip(rows) {
            self.mode.pool(&x[rows.start * hidden..rows.end * hidden], 0, out);
        }
        let mut dense = vec![0.0; pooled.len()];
        self.dense.apply(cpu, &pooled, &mut dense);
        self.activation.apply(cpu, &dense, hidden, &mut pooled);
        if let Some(norm) = &self.norm {
            norm.apply_in_place(cpu, &mut pooled);
        }
        let mut scores = vec![0.0; rows.len() * self.labels()];
        self.output.apply(cpu, &pooled, &mut scores);
        if self.sigmoid {
            cpu.isa.run(Sigmoid(&mut scores));
        }
        scores.chunks_exact(self.labels()).map(<[f32]>::to_vec).collect()
    }
}
