//! A mixture of experts (Shazeer et al. 2017): a router picks some feed-forwards for each row.

use crate::{
    kernels::{
        Aligned, Cpu,
        activation::Activation,
        softmax::Softmax,
        vector::{Sigmoid, add_row},
    },
    model::{
        builder::{Builder, Linear},
        description::{self, ExpertWeights},
        error::LoadError,
        mlp::{Mlp, MlpScratch},
    },
};

pub(super) struct Experts {
    router: Linear,
    experts: Vec<Mlp>,
    top_k: usize,
    renormalise: bool,
    /// An expert of all rows, and its gate.
    shared: Option<(Mlp, Linear)>,
    hidden: usize,
}

#[derive(Default)]
pub(super) struct Scratch {
    /// Each row's weight of each expert; 0 where it was not chosen.
    weights: Aligned<f32>,
    input: Aligned<f32>,
    output: Aligned<f32>,
}

impl Experts {
    pub(super) fn build(
        builder: &Builder<'_>,
        from: &description::Experts,
        activation: Activation,
        hidden: usize,
    ) -> Result<Self, LoadError> {
        let experts: Vec<Mlp> = match &from.weights {
            ExpertWeights::Each(experts) => experts
                .iter()
                .map(|expert| Mlp::build(builder, expert, activation, hidden))
                .collect::<Result<_, _>>()?,
            ExpertWeights::Stacked { name, count, inner, outputs_first } => {
                let stacked = builder.stacked_experts(name, [*count, hidden, *inner], *outputs_first)?;
                let expert =
                    |[up, down]: [Linear; 2]| Mlp { gated: true, inner: *inner, up, down, activation };
                stacked.into_iter().map(expert).collect()
            }
        };
        let shared = match &from.shared {
            None => None,
            Some((mlp, gate)) => {
                let gate = builder.linear(&[(gate, 1)], hidden)?;
                Some((Mlp::build(builder, mlp, activation, hidden)?, gate))
            }
        };
        let router = builder.linear(&[(&from.router, experts.len())], hidden)?;
        let top_k = from.top_k.min(experts.len());
        Ok(Self { router, experts, top_k, renormalise: from.renormalise, shared, hidden })
    }

    /// Each row's experts are summed in the order of their numbers, the shared one last, so that a row's sum does not
    /// depend on the others.
    pub(super) fn forward(
        &self,
        cpu: &Cpu,
        x: &[f32],
        out: &mut [f32],
        mlp: &mut MlpScratch,
        scratch: &mut Scratch,
    ) {
        let Scratch { weights, input, output } = scratch;
        let rows = x.len() / self.hidden;
        weights.resize(rows * self.experts.len());
        self.router.apply(cpu, x, weights);
        cpu.for_rows(weights, self.experts.len(), |_, row| choose(cpu, row, self.top_k, self.renormalise));
        out.fill(0.0);
        for (number, expert) in self.experts.iter().enumerate() {
            let weight = |row: usize| weights[row * self.experts.len() + number];
            let mine: Vec<usize> = (0..rows).filter(|row| weight(*row) != 0.0).collect();
            if mine.is_empty() {
                continue;
            }
            input.resize(mine.len() * self.hidden);
            output.resize(mine.len() * self.hidden);
            for (input, row) in input.chunks_exact_mut(self.hidden).zip(&mine) {
                input.copy_from_slice(&x[row * self.hidden..(row + 1) * self.hidden]);
            }
            expert.forward(cpu, input, output, mlp, None);
            for (output, &row) in output.chunks_exact(self.hidden).zip(&mine) {
                add_row(cpu.isa, &mut out[row * self.hidden..(row + 1) * self.hidden], output, weight(row));
            }
        }
        if let Some((shared, gate)) = &self.shared {
            weights.resize(rows);
            gate.apply(cpu, x, weights);
            cpu.isa.run(Sigmoid(weights));
            output.resize(rows * self.hidden);
            shared.forward(cpu, x, output, mlp, None);
            for (row, output) in output.chunks_exact(self.hidden).enumerate() {
                add_row(cpu.isa, &mut out[row * self.hidden..(row + 1) * self.hidden], output, weights[row]);
            }
        }
    }
}

/// Turns a row's logits into weights, all but `top_k` of them 0. Equal logits go to the lower number.
pub(in crate::model) fn choose(cpu: &Cpu, row: &mut [f32], top_k: usize, renormalise: bool) {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
    cpu.isa.run(Softmax(row));
    for &refused in &order[top_k..] {
        row[refused] = 0.0;
    }
    if renormalise {
        let sum: f32 = row.iter().sum();
        for weight in row {
            *weight /= sum;
        }
    }
}
