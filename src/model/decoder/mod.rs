//! The forward pass: one decoder for every architecture, driven by its description.
//!
//! It runs on the CPU, on [`crate::kernels`] over plain slices. Weights are packed once in their own dtype, activations are
//! f32, buffers are reused. Everything it asks of a device goes through the types of that room ([`Cpu`],
//! [`crate::kernels::Matrix`], `Norm`, `Attention`, `Activation`, `Rotary`). On candle's devices `device` runs the same description.

pub(super) mod embedder;
pub(super) mod experts;
mod feed_forward;
mod layer;

use super::{
    BLOCK, Chunk, Forward, ForwardError, Rows, Shape,
    adapter::{Adapted, Adapter},
    builder::{Builder, Linear},
    description::Description,
    error::LoadError,
    loader::Progress,
    tensors::{Tensor, Tensors},
};
use crate::kernels::{
    Aligned, Cpu,
    attention::{KvLayer, KvType, Place},
    norm::Norm,
    rotary::Rotary,
    softmax::SoftCap,
};
use layer::Layer;

/// A loaded model with its KV cache.
pub(super) struct Decoder {
    cpu: Cpu,
    shape: Shape,
    hidden: usize,
    embedding: Embedding,
    rotary: Vec<Rotary>,
    layers: Vec<Layer>,
    norm: Option<Norm>,
    logit_multiplier: f32,
    logit_soft_cap: Option<f32>,
    adapters: usize,
    kv: KvType,
    cache: Vec<KvLayer>,
    blocks: usize,
    scratch: Scratch,
}

struct Embedding {
    tokens: Words,
    multiplier: f32,
    /// Rows of positions, and the row of position 0.
    positions: Option<(Tensor, usize)>,
    norm: Option<Norm>,
}

/// The table of embeddings, and the head that makes logits.
enum Words {
    /// One matrix is both.
    Tied(Linear),
    Apart {
        table: Tensor,
        head: Linear,
    },
    /// Hidden states are all that is wanted.
    Headless(Tensor),
}

impl Words {
    fn build(builder: &Builder<'_>, description: &Description, headless: bool) -> Result<Self, LoadError> {
        let Description { vocabulary, hidden, .. } = *description;
        let table = format!("{}.weight", description.embedding.tokens);
        let table = builder.tensor(&table, &[vocabulary, hidden])?;
        Ok(match &description.head {
            _ if headless => Self::Headless(table),
            Some(head) => Self::Apart { table, head: builder.head(head, vocabulary, hidden)? },
            None => Self::Tied(Linear::new(builder.pack(&table, vocabulary, hidden)?, None)),
        })
    }

    fn row(&self, token: usize, out: &mut [f32]) {
        match self {
            Self::Tied(head) => head.matrix.row(token, out),
            Self::Apart { table, .. } | Self::Headless(table) => table.row(token, out),
        }
    }

    fn head(&self) -> Option<&Linear> {
        match self {
            Self::Tied(head) | Self::Apart { head, .. } => Some(head),
            Self::Headless(_) => None,
        }
    }
}

/// Buffers that keep their memory from step to step.
#[derive(Default)]
struct Scratch {
    /// The residual stream [rows, hidden].
    x: Aligned<f32>,
    normed: Aligned<f32>,
    /// Queries, keys and values of each row.
    qkv: Aligned<f32>,
    context: Aligned<f32>,
    /// What attention adds, and what feed-forward adds.
    branch: Aligned<f32>,
    other: Aligned<f32>,
    feed_forward: feed_forward::Scratch,
    /// For each rotary table, cosines and sines of each row.
    angles: Vec<Aligned<f32>>,
    adapted: Adapted,
}

impl Decoder {
    pub(super) fn build(
        cpu: Cpu,
        description: &Description,
        tensors: &dyn Tensors,
        adapters: &[Adapter],
        kv: KvType,
        headless: bool,
        progress: &Progress,
    ) -> Result<Self, LoadError> {
        let Description { vocabulary, hidden, context_length, .. } = *description;
        let builder = Builder::new(&cpu, tensors, adapters, description.prefix, description.transposed);
        let position_rows = |(name, first): &(String, usize)| {
            let rows = builder.table(&format!("{name}.weight"), context_length + first, hidden)?;
            Ok::<_, LoadError>((rows, *first))
        };
        let embedding = Embedding {
            tokens: Words::build(&builder, description, headless)?,
            multiplier: description.embedding.multiplier,
            positions: description.embedding.positions.as_ref().map(position_rows).transpose()?,
            norm: builder.optional_norm(description.embedding.norm.as_ref(), hidden)?,
        };
        let count = description.layers.len();
        let mut layers = Vec::with_capacity(count);
        for layer in &description.layers {
            progress(layers.len(), count);
            layers.push(Layer::build(&builder, layer, hidden)?);
        }
        progress(count, count);
        let norm = builder.optional_norm(description.norm.as_ref(), hidden)?;
        let unused = description.head.as_ref().map_or("lm_head", |head| &head.name);
        let unused: &[&str] = if headless || description.head.is_none() { &[unused] } else { &[] };
        builder.finish(unused)?;
        let shape = Shape { vocabulary, context_length, block_bytes: block_bytes(description, kv) };
        Ok(Self {
            cpu,
            shape,
            hidden,
            embedding,
            rotary: description.rotary.clone(),
            layers,
            norm,
            logit_multiplier: description.logit_multiplier,
            logit_soft_cap: description.logit_soft_cap,
            adapters: adapters.len(),
            kv,
            cache: Vec::new(),
            blocks: 0,
            scratch: Scratch::default(),
        })
    }

    /// Rows of the residual stream, and the rotary angles of their positions.
    fn embed(&mut self, chunks: &[Chunk<'_>], places: &[Place<'_>]) {
        let Scratch { x, angles, .. } = &mut self.scratch;
        x.resize(places.len() * self.hidden);
        let tokens = chunks.iter().flat_map(|chunk| chunk.tokens);
        for ((row, &token), place) in x.chunks_exact_mut(self.hidden).zip(tokens).zip(places) {
            self.embedding.tokens.row(token as usize, row);
            for x in row.iter_mut() {
                *x *= self.embedding.multiplier;
            }
            if let Some((table, first)) = &self.embedding.positions {
                table.add_row(place.position + first, row);
            }
        }
        if let Some(norm) = &self.embedding.norm {
            norm.apply_in_place(&self.cpu, x);
        }
        angles.resize_with(self.rotary.len(), Aligned::default);
        for (rotary, angles) in self.rotary.iter().zip(angles) {
            angles.resize(places.len() * rotary.width());
            self.cpu.for_rows(angles, rotary.width(), |row, out| rotary.angles(places[row].position, out));
        }
    }

    /// Logits of the wanted rows.
    fn logits(&mut self, chunks: &[Chunk<'_>]) -> Result<Vec<f32>, ForwardError> {
        let Some(head) = self.embedding.tokens.head() else {
            return Err(ForwardError("the model was loaded without its head".to_owned()));
        };
        let Scratch { x, normed, .. } = &mut self.scratch;
        let wanted = wanted(chunks);
        normed.resize(wanted.len() * self.hidden);
        for (out, row) in normed.chunks_exact_mut(self.hidden).zip(&wanted) {
            out.copy_from_slice(&x[row * self.hidden..(row + 1) * self.hidden]);
        }
        if let Some(norm) = &self.norm {
            norm.apply_in_place(&self.cpu, normed);
        }
        let mut logits = vec![0.0; wanted.len() * self.shape.vocabulary];
        head.apply(&self.cpu, normed, &mut logits);
        self.cpu.for_rows(&mut logits, self.shape.vocabulary, |_, logits| {
            for logit in logits.iter_mut() {
                *logit *= self.logit_multiplier;
            }
            if let Some(cap) = self.logit_soft_cap {
                self.cpu.isa.run(SoftCap { x: logits, cap });
            }
        });
        Ok(logits)
    }
}

impl Forward for Decoder {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn allocate(&mut self, blocks: usize) -> Result<(), ForwardError> {
        self.cache.clear();
        self.cache.extend(self.layers.iter().map(|layer| {
            let attention = layer.attention();
            KvLayer::new(self.kv, blocks, attention.kv_heads, attention.head_dim)
        }));
        self.blocks = blocks;
        Ok(())
    }

    fn copy_block(&mut self, from: u32, to: u32) -> Result<(), ForwardError> {
        check_block(from.max(to), self.blocks)?;
        for cache in &mut self.cache {
            cache.copy_block(from as usize, to as usize);
        }
        Ok(())
    }

    fn forward(&mut self, chunks: &[Chunk<'_>]) -> Result<Vec<f32>, ForwardError> {
        check(&self.shape, self.blocks, self.adapters, chunks)?;
        let places = places(chunks);
        if places.is_empty() {
            return Ok(Vec::new());
        }
        self.embed(chunks, &places);
        let adapters = chunks.iter().flat_map(|chunk| chunk.tokens.iter().map(|_| chunk.adapter));
        self.scratch.adapted.group(adapters);
        for (layer, cache) in self.layers.iter().zip(&mut self.cache) {
            layer.forward(&self.cpu, cache, &self.rotary, &places, &mut self.scratch);
        }
        self.logits(chunks)
    }
}

/// Refuses what does not fit the model with so many adapters, or a cache of so many blocks.
pub(super) fn check(
    shape: &Shape,
    blocks: usize,
    adapters: usize,
    chunks: &[Chunk<'_>],
) -> Result<(), ForwardError> {
    for chunk in chunks {
        let end = chunk.start + chunk.tokens.len();
        if end > shape.context_length {
            return Err(ForwardError(format!(
                "{end} tokens, more than the context's {}",
                shape.context_length
            )));
        }
        if chunk.blocks.len() * BLOCK < end {
            return Err(ForwardError(format!("{} blocks do not cover {end} tokens", chunk.blocks.len())));
        }
        chunk.blocks.iter().try_for_each(|block| check_block(*block, blocks))?;
        if let Some(adapter) = chunk.adapter.filter(|adapter| *adapter as usize >= adapters) {
            return Err(ForwardError(format!("adapter {adapter} of {adapters}")));
        }
        if let Some(token) = chunk.tokens.iter().find(|token| **token as usize >= shape.vocabulary) {
            return Err(ForwardError(format!("token {token} of {}", shape.vocabulary)));
        }
    }
    Ok(())
}

/// Refuses a block that a cache of so many does not have.
pub(super) fn check_block(block: u32, blocks: usize) -> Result<(), ForwardError> {
    if (block as usize) < blocks { Ok(()) } else { Err(ForwardError(format!("block {block} of {blocks}"))) }
}

/// The rows that logits are wanted of, by their numbers in the batch.
pub(super) fn wanted(chunks: &[Chunk<'_>]) -> Vec<usize> {
    let mut wanted = Vec::new();
    let mut first = 0;
    for chunk in chunks {
        let end = first + chunk.tokens.len();
        match chunk.rows {
            Rows::None => {}
            Rows::Last => wanted.extend((first..end).last()),
            Rows::All => wanted.extend(first..end),
        }
        first = end;
    }
    wanted
}

/// Bytes that a block takes in all layers.
pub(super) fn block_bytes(description: &Description, kv: KvType) -> usize {
    let layer = |layer: &super::description::Layer| {
        KvLayer::block_bytes(kv, layer.attention.kv_heads, layer.attention.head_dim)
    };
    description.layers.iter().map(layer).sum()
}

/// Each row's place.
fn places<'a>(chunks: &[Chunk<'a>]) -> Vec<Place<'a>> {
    let rows = |chunk: &Chunk<'a>| {
        let (start, blocks) = (chunk.start, chunk.blocks);
        (0..chunk.tokens.len()).map(move |i| Place { position: start + i, blocks })
    };
    chunks.iter().flat_map(rows).collect()
}
