//! A decoder that makes vectors of texts: its last hidden states, pooled.

use std::ops::Range;

use super::Decoder;
use crate::{
    kernels::{
        Cpu,
        attention::{KvLayer, KvType},
    },
    model::{
        BLOCK, Chunk, Encode, EncodeShape, ForwardError, Rows, Sequence,
        description::Description,
        error::LoadError,
        loader::Progress,
        pooling::{self, Pooler},
        tensors::Tensors,
    },
};

pub(in crate::model) struct Embedder {
    decoder: Decoder,
    shape: EncodeShape,
    pooler: Pooler,
    /// Keys and values of one layer at a time, which each layer fills anew.
    cache: Option<KvLayer>,
    blocks: usize,
}

impl Embedder {
    pub(in crate::model) fn build(
        cpu: Cpu,
        description: &Description,
        tensors: &dyn Tensors,
        pooling: &pooling::Description,
        progress: &Progress,
    ) -> Result<Self, LoadError> {
        let pooler = Pooler::build(&cpu, pooling, description.hidden)?;
        let decoder = Decoder::build(cpu, description, tensors, &[], KvType::F32, true, progress)?;
        let shape = EncodeShape {
            vocabulary: description.vocabulary,
            context_length: description.context_length,
            width: pooler.width(),
            normalised: pooler.normalises(),
        };
        Ok(Self { decoder, shape, pooler, cache: None, blocks: 0 })
    }

    /// Final states of all rows in `scratch.x`.
    fn run(&mut self, chunks: &[Chunk<'_>], alive: &(dyn Fn() + Sync)) {
        let Self { decoder, cache, blocks, .. } = self;
        let needed = chunks.iter().map(|chunk| chunk.blocks.len()).sum::<usize>();
        if needed > *blocks {
            (*cache, *blocks) = (None, needed);
        }
        let places = super::places(chunks);
        decoder.embed(chunks, &places);
        for layer in &decoder.layers {
            let attention = layer.attention();
            let (heads, dim) = (attention.kv_heads, attention.head_dim);
            let fitting = cache.take().filter(|cache| cache.fits(heads, dim));
            let cache =
                cache.insert(fitting.unwrap_or_else(|| KvLayer::new(KvType::F32, *blocks, heads, dim)));
            layer.forward(&decoder.cpu, cache, &decoder.rotary, &places, &mut decoder.scratch);
            alive();
        }
        if let Some(norm) = &decoder.norm {
            norm.apply_in_place(&decoder.cpu, &mut decoder.scratch.x);
        }
    }
}

impl Encode for Embedder {
    fn shape(&self) -> &EncodeShape {
        &self.shape
    }

    fn encode(
        &mut self,
        sequences: &[Sequence<'_>],
        alive: &(dyn Fn() + Sync),
    ) -> Result<Vec<Vec<f32>>, ForwardError> {
        let rows = self.shape.rows(sequences)?;
        let mut next = 0;
        let blocks: Vec<Vec<u32>> = rows
            .iter()
            .map(|rows: &Range<usize>| {
                let first = next;
                next += u32::try_from(rows.len().div_ceil(BLOCK)).unwrap_or(u32::MAX);
                (first..next).collect()
            })
            .collect();
        let chunks: Vec<Chunk<'_>> = sequences
            .iter()
            .zip(&blocks)
            .map(|(sequence, blocks)| Chunk {
                tokens: sequence.tokens,
                start: 0,
                blocks,
                rows: Rows::None,
                adapter: None,
            })
            .collect();
        self.run(&chunks, alive);
        Ok(self.pooler.vectors(&self.decoder.cpu, &self.decoder.scratch.x, &rows, sequences))
    }
}
