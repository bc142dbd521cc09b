//! The forward pass of encoders: one for every architecture, driven by its description. Sequences stand one after the
//! other, without padding, and each row's bits depend on its own sequence alone.

mod bias;
mod classifier;
pub(super) mod description;
mod layer;
mod parts;

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

use super::{
    Encode, EncodeShape, ForwardError, Sequence,
    builder::Builder,
    error::LoadError,
    loader::Progress,
    mlp::MlpScratch,
    pooling::{self, Pooler},
    tensors::{Tensor, Tensors},
};
use crate::kernels::{Aligned, Cpu, attention::DistanceBias, norm::Norm, rotary::Rotary};
use classifier::Classifier;
use description::Description;
use layer::Layer;

/// Tensors that checkpoints carry for other uses of the encoder, by the beginning of their names.
pub(super) const UNUSED: [&str; 10] = [
    "pooler.",
    "classifier.",
    "pre_classifier.",
    "embeddings.position_ids",
    "encoder.relative_attention_bias_ids",
    "cls.",
    "lm_head.",
    "head.",
    "decoder.",
    "vocab_",
];

/// A loaded encoder.
pub(super) struct Encoder {
    cpu: Cpu,
    shape: EncodeShape,
    network: Network,
    scratch: Scratch,
    /// One for each thread.
    parts: Vec<Mutex<Part>>,
}

/// What does not change.
struct Network {
    embedding: Embedding,
    rotary: Vec<Rotary>,
    bias: Option<DistanceBias>,
    layers: Vec<Layer>,
    norm: Option<Norm>,
    output: Output,
}

/// Where a thread runs a part of a batch on its own.
struct Part {
    cpu: Cpu,
    scratch: Scratch,
}

struct Embedding {
    hidden: usize,
    tokens: Tensor,
    /// Rows of positions, and the row of position 0.
    positions: Option<(Tensor, usize)>,
    types: Option<Tensor>,
    norm: Option<Norm>,
}

/// What is made of a sequence's rows.
enum Output {
    Pooled(Pooler),
    Classified(Classifier),
}

/// Buffers that keep their memory from batch to batch.
#[derive(Default)]
struct Scratch {
    /// The residual stream [rows, hidden].
    x: Aligned<f32>,
    normed: Aligned<f32>,
    /// Queries, keys and values of each row.
    qkv: Aligned<f32>,
    context: Aligned<f32>,
    branch: Aligned<f32>,
    mlp: MlpScratch,
    /// For each rotary table, cosines and sines of each row.
    angles: Vec<Aligned<f32>>,
}

impl Encoder {
    /// `pooling` makes vectors of rows where there is no classifier.
    pub(super) fn build(
        cpu: Cpu,
        description: &Description,
        tensors: &dyn Tensors,
        pooling: &pooling::Description,
        progress: &Progress,
    ) -> Result<Self, LoadError> {
        let Description { vocabulary, hidden, heads, context_length, .. } = *description;
        let builder = Builder::new(&cpu, tensors, &[], description.prefix, false);
        let embedding = Embedding::build(&builder, description)?;
        let bias = description.bias.as_ref();
        let bias = bias.map(|bias| bias::build(&builder, bias, heads, context_length)).transpose()?;
        let count = description.layers.len();
        let mut layers = Vec::with_capacity(count);
        for layer in &description.layers {
            progress(layers.len(), count);
            layers.push(Layer::build(&builder, layer, heads, hidden)?);
        }
        progress(count, count);
        let norm = builder.optional_norm(description.norm.as_ref(), hidden)?;
        let output = match &description.classifier {
            Some(classifier) => Output::Classified(Classifier::build(&builder, classifier, hidden)?),
            None => Output::Pooled(Pooler::build(&cpu, pooling, hidden)?),
        };
        builder.finish(&UNUSED)?;
        let (width, normalised) = match &output {
            Output::Pooled(pooler) => (pooler.width(), pooler.normalises()),
            Output::Classified(classifier) => (classifier.labels(), false),
        };
        let shape = EncodeShape { vocabulary, context_length, width, normalised };
        let network = Network { embedding, rotary: description.rotary.clone(), bias, layers, norm, output };
        let part = |_| Mutex::new(Part { cpu: Cpu::new(cpu.isa, 1), scratch: Scratch::default() });
        let parts = (0..cpu.pool.threads()).map(part).collect();
        Ok(Self { cpu, shape, network, scratch: Scratch::default(), parts })
    }

    /// Each part on a thread of its own.
    fn apart(
        &self,
        sequences: &[Sequence<'_>],
        parts: &[Vec<usize>],
        alive: &(dyn Fn() + Sync),
    ) -> Result<Vec<Vec<f32>>, ForwardError> {
        let made: Vec<_> = parts.iter().map(|_| Mutex::new(Ok(Vec::new()))).collect();
        self.cpu.pool.run(parts.len(), &|index| {
            let own: Vec<Sequence<'_>> = parts[index].iter().map(|sequence| sequences[*sequence]).collect();
            let Part { cpu, scratch } =
                &mut *self.parts[index].lock().unwrap_or_else(PoisonError::into_inner);
            let vectors =
                self.shape.rows(&own).map(|rows| self.network.run(cpu, scratch, &own, &rows, alive));
            *made[index].lock().unwrap_or_else(PoisonError::into_inner) = vectors;
        });
        let mut vectors = vec![Vec::new(); sequences.len()];
        for (part, made) in parts.iter().zip(made) {
            for (sequence, vector) in
                part.iter().zip(made.into_inner().unwrap_or_else(PoisonError::into_inner)?)
            {
                vectors[*sequence] = vector;
            }
        }
        Ok(vectors)
    }
}

impl Network {
    /// A vector for each sequence.
    fn run(
        &self,
        cpu: &Cpu,
        scratch: &mut Scratch,
        sequences: &[Sequence<'_>],
        rows: &[Range<usize>],
        alive: &(dyn Fn() + Sync),
    ) -> Vec<Vec<f32>> {
        self.forward(cpu, scratch, sequences, rows, alive);
        match &self.output {
            Output::Pooled(pooler) => pooler.vectors(cpu, &scratch.x, rows, sequences),
            Output::Classified(classifier) => classifier.scores(cpu, &scratch.x, rows),
        }
    }

    /// Final rows of all sequences in `scratch.x`.
    fn forward(
        &self,
        cpu: &Cpu,
        scratch: &mut Scratch,
        sequences: &[Sequence<'_>],
        rows: &[Range<usize>],
        alive: &(dyn Fn() + Sync),
    ) {
        let count = rows.last().map_or(0, |last| last.end);
        let Self { embedding, rotary, .. } = self;
        scratch.x.resize(count * embedding.hidden);
        let places: Vec<(usize, usize)> =
            (0..).zip(sequences).flat_map(|(s, own)| (0..own.tokens.len()).map(move |i| (s, i))).collect();
        cpu.for_rows(&mut scratch.x, embedding.hidden, |row, x| {
            let (sequence, position) = places[row];
            embedding.row(&sequences[sequence], position, x);
        });
        if let Some(norm) = &embedding.norm {
            norm.apply_in_place(cpu, &mut scratch.x);
        }
        scratch.angles.resize_with(rotary.len(), Aligned::default);
        for (rotary, angles) in rotary.iter().zip(&mut scratch.angles) {
            angles.resize(count * rotary.width());
            cpu.for_rows(angles, rotary.width(), |row, out| rotary.angles(places[row].1, out));
        }
        for layer in &self.layers {
            layer.forward(cpu, rows, rotary, self.bias.as_ref(), scratch);
            alive();
        }
        if let Some(norm) = &self.norm {
            norm.apply_in_place(cpu, &mut scratch.x);
        }
    }
}

impl Embedding {
    fn build(builder: &Builder<'_>, description: &Description) -> Result<Self, LoadError> {
        let Description { vocabulary, hidden, context_length, .. } = *description;
        let description::Embedding { tokens, positions, types, norm } = &description.embedding;
        let table = |name: &str, rows: usize| builder.table(&format!("{name}.weight"), rows, hidden);
        let positions = match positions {
            Some((name, first)) => Some((table(name, context_length + first)?, *first)),
            None => None,
        };
        Ok(Self {
            hidden,
            tokens: table(tokens, vocabulary)?,
            positions,
            types: types.as_ref().map(|(name, rows)| table(name, *rows)).transpose()?,
            norm: builder.optional_norm(norm.as_ref(), hidden)?,
        })
    }

    fn row(&self, sequence: &Sequence<'_>, position: usize, x: &mut [f32]) {
        self.tokens.row(sequence.tokens[position] as usize, x);
        if let Some((table, first)) = &self.positions {
            table.add_row(position + first, x);
        }
        if let Some(types) = &self.types {
            // Where there is one type, all tokens are of it, whatever the tokenizer calls them.
            let kind = sequence.types.get(position).map_or(0, |kind| *kind as usize);
            types.add_row(if types.shape[0] == 1 { 0 } else { kind }, x);
        }
    }
}

impl Encode for Encoder {
    fn shape(&self) -> &EncodeShape {
        &self.shape
    }

    fn encode(
        &mut self,
        sequences: &[Sequence<'_>],
        alive: &(dyn Fn() + Sync),
    ) -> Result<Vec<Vec<f32>>, ForwardError> {
        let rows = self.shape.rows(sequences)?;
        let types = self.network.embedding.types.as_ref().map_or(1, |types| types.shape[0]);
        let known = |kind: &&u32| types > 1 && **kind as usize >= types;
        if let Some(kind) = sequences.iter().flat_map(|sequence| sequence.types).find(known) {
            return Err(ForwardError(format!("token type {kind} of {types}")));
        }
        let lengths: Vec<usize> = rows.iter().map(Range::len).collect();
        match parts::divide(&lengths, self.network.embedding.hidden, self.parts.len()) {
            Some(parts) => self.apart(sequences, &parts, alive),
            None => Ok(self.network.run(&self.cpu, &mut self.scratch, sequences, &rows, alive)),
        }
    }
}
