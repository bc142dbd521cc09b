//! From a sequence's hidden states to its vector, as the model's sentence-transformers files say.

pub(super) mod modules;

use std::{fmt, ops::Range};

use super::{
    Sequence,
    builder::{Builder, Linear},
    description,
    error::LoadError,
    safetensors::Directory,
};
use crate::kernels::{Cpu, activation::Activation, vector::UnitLength};

/// How a sequence's rows become one (sentence-transformers' `Pooling`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The first token.
    Cls,
    Mean,
    /// The largest of each element.
    Max,
    /// The sum over the square root of the count.
    MeanSqrtLength,
    /// Row `i`, counted from 1, weighs `i`.
    WeightedMean,
    LastToken,
}

/// What follows the hidden states.
#[derive(Debug)]
pub(super) struct Description {
    /// Their results stand one after the other.
    pub(super) modes: Vec<Mode>,
    /// Tokens of the prompt take part.
    pub(super) include_prompt: bool,
    pub(super) dense: Vec<Dense>,
    /// Vectors have length 1.
    pub(super) normalise: bool,
}

/// A linear layer in a file of its own.
pub(super) struct Dense {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) bias: bool,
    pub(super) activation: Option<Activation>,
    pub(super) tensors: Directory,
}

impl fmt::Debug for Dense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dense({}, {})", self.inputs, self.outputs)
    }
}

impl Description {
    /// What is done where the model's files say nothing: sentence-transformers' mode, and vectors of length 1.
    pub(super) fn plain(mode: Mode) -> Self {
        let (modes, dense) = (vec![mode], Vec::new());
        Self { modes, include_prompt: true, dense, normalise: true }
    }
}

/// For people: `mean, 384 → 128, length 1`.
impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let modes: Vec<&str> = self.modes.iter().map(|mode| mode.name()).collect();
        f.write_str(&modes.join(" and "))?;
        for Dense { inputs, outputs, .. } in &self.dense {
            write!(f, ", {inputs} → {outputs}")?;
        }
        f.write_str(if self.normalise { ", length 1" } else { "" })
    }
}

/// [`Description`] with its weights.
pub(super) struct Pooler {
    hidden: usize,
    modes: Vec<Mode>,
    include_prompt: bool,
    dense: Vec<(Linear, Option<Activation>)>,
    normalise: bool,
}

impl Pooler {
    pub(super) fn build(cpu: &Cpu, pooling: &Description, hidden: usize) -> Result<Self, LoadError> {
        let mut width = hidden * pooling.modes.len();
        let mut dense = Vec::new();
        for layer in &pooling.dense {
            if layer.inputs != width {
                let (name, found, expected) = ("linear.weight".to_owned(), vec![layer.inputs], vec![width]);
                return Err(LoadError::Shape { name, found, expected });
            }
            let builder = Builder::new(cpu, &layer.tensors, &[], "", false);
            let linear = description::Linear::new("linear", layer.bias);
            let built = builder.linear(&[(&linear, layer.outputs)], layer.inputs)?;
            builder.finish(&[])?;
            dense.push((built, layer.activation));
            width = layer.outputs;
        }
        let Description { modes, include_prompt, normalise, .. } = pooling;
        let (include_prompt, normalise) = (*include_prompt, *normalise);
        Ok(Self { hidden, modes: modes.clone(), include_prompt, dense, normalise })
    }

    /// Values in a vector.
    pub(super) fn width(&self) -> usize {
        self.dense.last().map_or(self.hidden * self.modes.len(), |(linear, _)| linear.matrix.n())
    }

    pub(super) fn normalises(&self) -> bool {
        self.normalise
    }

    /// A vector for each sequence, whose `rows` of `x` [rows, hidden] are given.
    pub(super) fn vectors(
        &self,
        cpu: &Cpu,
        x: &[f32],
        rows: &[Range<usize>],
        sequences: &[Sequence<'_>],
    ) -> Vec<Vec<f32>> {
        let mut vectors = vec![0.0; rows.len() * self.modes.len() * self.hidden];
        cpu.for_rows(&mut vectors, self.modes.len() * self.hidden, |i, out| {
            let x = &x[rows[i].start * self.hidden..rows[i].end * self.hidden];
            let skipped = if self.include_prompt { 0 } else { sequences[i].prompt };
            // A prompt without a text after it is all that there is.
            let skipped = if skipped < rows[i].len() { skipped } else { 0 };
            for (mode, out) in self.modes.iter().zip(out.chunks_exact_mut(self.hidden)) {
                mode.pool(x, skipped, out);
            }
        });
        for (linear, activation) in &self.dense {
            let mut made = vec![0.0; rows.len() * linear.matrix.n()];
            linear.apply(cpu, &vectors, &mut made);
            vectors = match activation {
                None => made,
                Some(activation) => {
                    let mut activated = vec![0.0; made.len()];
                    activation.apply(cpu, &made, linear.matrix.n(), &mut activated);
                    activated
                }
            };
        }
        let finish = |(vector, sequence): (&[f32], &Sequence<'_>)| {
            let mut vector = vector[..sequence.dimensions.unwrap_or(vector.len()).min(vector.len())].to_vec();
            if self.normalise {
                cpu.isa.run(UnitLength(&mut vector));
            }
            vector
        };
        vectors.chunks_exact(self.width()).zip(sequences).map(finish).collect()
    }
}

impl Mode {
    /// As the API and sentence-transformers' files call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cls => "cls",
            Self::Mean => "mean",
            Self::Max => "max",
            Self::MeanSqrtLength => "mean_sqrt_len_tokens",
            Self::WeightedMean => "weightedmean",
            Self::LastToken => "lasttoken",
        }
    }

    /// One row of the rows of `x` from `skipped` on, which are at least one. Sums run over the rows in their order.
    pub(super) fn pool(self, x: &[f32], skipped: usize, out: &mut [f32]) {
        let rows = x.chunks_exact(out.len()).enumerate().skip(skipped);
        let count = rows.len();
        #[expect(clippy::cast_precision_loss, reason = "positions below 2^24")]
        let weight = |i: usize| if self == Self::WeightedMean { (i + 1) as f32 } else { 1.0 };
        let mut total = 0.0;
        match self {
            Self::Cls => return out.copy_from_slice(&x[skipped * out.len()..][..out.len()]),
            Self::LastToken => return out.copy_from_slice(&x[x.len() - out.len()..]),
            Self::Max => {
                out.fill(f32::NEG_INFINITY);
                for (_, row) in rows {
                    out.iter_mut().zip(row).for_each(|(out, x)| *out = out.max(*x));
                }
                return;
            }
            Self::Mean | Self::MeanSqrtLength | Self::WeightedMean => {
                out.fill(0.0);
                for (i, row) in rows {
                    total += weight(i);
                    out.iter_mut().zip(row).for_each(|(out, x)| *out += weight(i) * x);
                }
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "positions below 2^24")]
        let divisor = if self == Self::MeanSqrtLength { (count as f32).sqrt() } else { total };
        out.iter_mut().for_each(|out| *out /= divisor);
    }
}
