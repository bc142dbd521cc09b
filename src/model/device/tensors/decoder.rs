//! The forward pass on a device: one decoder for every architecture, driven by its description.

use candle_core::{DType, Result, Tensor};

use super::{
    attention::Cache,
    layer::Layer,
    ops::soft_cap,
    pack::{Kept, Linear, Norm, Packer, normalise},
    step::{POSITIONS, Rows, SCORES, Step},
};
use crate::{
    kernels::rotary::Rotary,
    model::{
        BLOCK, Chunk, Device, Forward, ForwardError, Memory, Shape,
        builder::Builder,
        decoder::{check, check_block},
        description::{self, Description},
        error::LoadError,
        loader::{Progress, row_bytes},
        tensors::Tensors,
    },
};

/// A model on a device, with its KV cache.
pub(in crate::model) struct Decoder {
    packer: Packer,
    shape: Shape,
    embedding: Embedding,
    rotary: Vec<Rotary>,
    layers: Vec<Layer>,
    /// Those that the layers have, each once.
    windows: Vec<Option<usize>>,
    /// Some layer has ALiBi's slopes.
    with_distances: bool,
    /// The most that a layer has.
    heads: usize,
    norm: Option<Norm>,
    head: Linear,
    logit_multiplier: f64,
    logit_soft_cap: Option<f32>,
    cache: Vec<Cache>,
    blocks: usize,
}

struct Embedding {
    /// None: the head's matrix is the table.
    tokens: Option<Tensor>,
    multiplier: f64,
    /// Rows of positions, and the row of position 0.
    positions: Option<(Tensor, usize)>,
    norm: Option<Norm>,
}

impl Decoder {
    pub(in crate::model) fn build(
        packer: Packer,
        description: &Description,
        tensors: &dyn Tensors,
        progress: &Progress,
    ) -> std::result::Result<Self, LoadError> {
        let Description { vocabulary, hidden, context_length, .. } = *description;
        let builder = Builder::new(&packer, tensors, &[], description.prefix, description.transposed);
        let table = format!("{}.weight", description.embedding.tokens);
        let table = builder.pack(&builder.tensor(&table, &[vocabulary, hidden])?, vocabulary, hidden)?;
        let (tokens, head) = match &description.head {
            Some(head) => (Some(table), packer.linear(builder.head(head, vocabulary, hidden)?)?),
            None => (None, Linear { matrix: table, bias: None }),
        };
        let position_rows = |(name, first): &(String, usize)| {
            let rows = context_length + first;
            let table = builder.table(&format!("{name}.weight"), rows, hidden)?;
            Ok::<_, LoadError>((builder.pack(&table, rows, hidden)?, *first))
        };
        let norm = |norm: &Option<description::Norm>| {
            Ok::<_, LoadError>(packer.optional_norm(builder.optional_norm(norm.as_ref(), hidden)?)?)
        };
        let embedding = Embedding {
            tokens,
            multiplier: f64::from(description.embedding.multiplier),
            positions: description.embedding.positions.as_ref().map(position_rows).transpose()?,
            norm: norm(&description.embedding.norm)?,
        };
        let count = description.layers.len();
        let mut layers = Vec::with_capacity(count);
        for layer in &description.layers {
            progress(layers.len(), count);
            layers.push(Layer::build(&builder, &packer, layer, hidden)?);
        }
        progress(count, count);
        let norm = norm(&description.norm)?;
        let unused: &[&str] = if description.head.is_none() { &["lm_head"] } else { &[] };
        builder.finish(unused)?;
        let mut windows: Vec<_> = description.layers.iter().map(|layer| layer.attention.window).collect();
        windows.sort_unstable();
        windows.dedup();
        Ok(Self {
            shape: Shape { vocabulary, context_length, block_bytes: block_bytes(description, packer.kept) },
            packer,
            embedding,
            rotary: description.rotary.clone(),
            layers,
            windows,
            with_distances: description.layers.iter().any(|layer| layer.attention.slopes.is_some()),
            heads: most_heads(description),
            norm,
            head,
            logit_multiplier: f64::from(description.logit_multiplier),
            logit_soft_cap: description.logit_soft_cap,
            cache: Vec::new(),
            blocks: 0,
        })
    }

    fn embed(&self, rows: &Rows<'_>) -> Result<Tensor> {
        let device = &self.packer.device;
        let read = |table: &Tensor, rows: &[u32]| {
            table.index_select(&Tensor::new(rows, device)?, 0)?.to_dtype(DType::F32)
        };
        let table = self.embedding.tokens.as_ref().unwrap_or(&self.head.matrix);
        let mut x = (read(table, &rows.tokens)? * self.embedding.multiplier)?;
        if let Some((table, first)) = &self.embedding.positions {
            let places: Vec<u32> = rows.positions.iter().map(|position| (position + first) as u32).collect();
            x = (x + read(table, &places)?)?;
        }
        normalise(self.embedding.norm.as_ref(), &x)
    }

    fn run(&self, chunks: &[Chunk<'_>]) -> Result<Vec<f32>> {
        let device = &self.packer.device;
        let rows = Rows::new(chunks, self.heads);
        if rows.tokens.is_empty() {
            return Ok(Vec::new());
        }
        let step = Step::new(&rows, &self.rotary, &self.windows, self.with_distances, device)?;
        let mut x = self.embed(&rows)?;
        for (layer, cache) in self.layers.iter().zip(&self.cache) {
            x = layer.forward(&self.packer.cpu, cache, &self.rotary, &step, &x)?;
        }
        if rows.wanted.is_empty() {
            return Ok(Vec::new());
        }
        let x = x.index_select(&Tensor::new(&rows.wanted[..], device)?, 0)?;
        let logits = self.head.apply(&normalise(self.norm.as_ref(), &x)?)?;
        soft_cap(&(logits * self.logit_multiplier)?, self.logit_soft_cap)?.flatten_all()?.to_vec1()
    }
}

impl From<candle_core::Error> for ForwardError {
    fn from(error: candle_core::Error) -> Self {
        Self(error.to_string())
    }
}

impl Forward for Decoder {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn allocate(&mut self, blocks: usize) -> std::result::Result<(), ForwardError> {
        // Gives the memory back before it is asked for anew.
        (self.cache, self.blocks) = (Vec::new(), 0);
        let Packer { device, kept, .. } = &self.packer;
        let cache = |layer: &Layer| layer.attention.cache(blocks, kept.dtype(), device);
        self.cache = self.layers.iter().map(cache).collect::<Result<_>>()?;
        self.blocks = blocks;
        Ok(())
    }

    fn copy_block(&mut self, from: u32, to: u32) -> std::result::Result<(), ForwardError> {
        check_block(from.max(to), self.blocks)?;
        Ok(self.cache.iter().try_for_each(|cache| cache.copy_block(from as usize, to as usize))?)
    }

    fn forward(&mut self, chunks: &[Chunk<'_>]) -> std::result::Result<Vec<f32>, ForwardError> {
        check(&self.shape, self.blocks, 0, chunks)?;
        Ok(self.run(chunks)?)
    }
}

/// Bytes that a block takes in all layers.
fn block_bytes(description: &Description, kept: Kept) -> usize {
    let layer = |layer: &description::Layer| layer.attention.kv_heads * layer.attention.head_dim;
    2 * BLOCK * kept.size() * description.layers.iter().map(layer).sum::<usize>()
}

/// What the model will take there.
pub(in crate::model) fn memory(description: &Description, tensors: &dyn Tensors, device: Device) -> Memory {
    let kept = Kept::of(description, tensors, device.is_host());
    let weights = |name: String| {
        let (_, shape) = tensors.shape(&name)?;
        let size = if shape.len() > 1 { kept.size() } else { size_of::<f32>() };
        Some((shape.iter().product::<usize>() * size) as u64)
    };
    Memory {
        mapped: tensors.bytes(),
        weights: tensors.names().into_iter().filter_map(weights).sum(),
        block: block_bytes(description, kept) as u64,
        // Operations here make new tensors; what a row takes is there twice.
        row: 2 * (row_bytes(description) + (description.vocabulary * size_of::<f32>()) as u64),
        step: group_bytes(description, kept) as u64,
    }
}

/// Bytes of scores and of gathered keys and values that a group of the largest size takes.
fn group_bytes(description: &Description, kept: Kept) -> usize {
    let scores = SCORES.min(most_heads(description) * description.context_length.pow(2));
    let widest = description.layers.iter().map(|layer| layer.attention.kv_heads * layer.attention.head_dim);
    let positions = POSITIONS.max(description.context_length);
    // As they are, bounded, masked, and as exponentials.
    4 * size_of::<f32>() * scores + 2 * kept.size() * positions * widest.max().unwrap_or(0)
}

fn most_heads(description: &Description) -> usize {
    description.layers.iter().map(|layer| layer.attention.heads).max().unwrap_or(1)
}
