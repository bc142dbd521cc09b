//! Models: from a directory or a file to the logits of the next token.
//!
//! The engine knows a model by [`Forward`] or [`Encode`] alone. A directory or a GGUF file becomes one like this:
//!
//! `model::open(path)?` reads headers; `.memory(&options)?` tells what it will take; `.load(&options)?` packs the weights.
//!
//! - [`config`]: `config.json`, in the styles of transformers 4 and 5.
//! - `architectures`: one small file an architecture, which makes of it a `description`: a decoder as data.
//! - `rope`: rotary frequencies.
//! - `tensors`, `safetensors`, `gguf`: named tensors and where they come from.
//! - `summary`: what the headers tell.
//! - `builder`: from named tensors to packed weights.
//! - `decoder`: the forward pass, one for all that continue texts; [`adapter`]: what a LoRA adapter adds to it;
//!   [`device`]: the same on candle's devices. `encoder`: that of those that see a text whole.
//! - `pooling`: from hidden states to one vector, as sentence-transformers' files say. `encode`: what the engine must know
//!   of models that make one.
//! - [`loader`]: all of it together.

pub mod adapter;
mod architectures;
mod builder;
pub mod config;
mod decoder;
mod description;
pub mod device;
mod encode;
mod encoder;
mod error;
mod gguf;
pub mod loader;
mod mlp;
mod pooled;
mod pooling;
mod rope;
mod safetensors;
mod summary;
mod tensors;

pub use crate::kernels::{Isa, attention::KvType, pool::cores};
pub use adapter::Adapter;
pub use architectures::{supported, supported_encoders};
pub use device::Device;
pub use encode::{Encode, EncodeShape, Sequence, Task};
pub use error::LoadError;
pub use gguf::{TextMetadata, WrongKind, supported_gguf, supported_types};
pub use loader::{Memory, Model, Options, open, open_embedded};
pub use summary::{Elements, Summary};

/// Tokens in one block of the KV cache.
pub const BLOCK: usize = 16;

/// What the engine must know of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    pub vocabulary: usize,
    /// Tokens of prompt and completion together.
    pub context_length: usize,
    /// Bytes that one block of [`BLOCK`] tokens takes in all layers of the KV cache.
    pub block_bytes: usize,
}

/// Which rows of a chunk the engine wants logits of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    None,
    Last,
    All,
}

/// Some tokens of one sequence, to be run through the model together with those of others.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    pub tokens: &'a [u32],
    /// Position of the first of them in the sequence.
    pub start: usize,
    /// The sequence's blocks in order; they cover at least `start + tokens.len()` tokens. Their first `start` places
    /// hold what earlier chunks put there.
    pub blocks: &'a [u32],
    pub rows: Rows,
    /// The number of the adapter that its rows go through, where they have one.
    pub adapter: Option<u32>,
}

/// Why a forward pass failed. The model stays usable.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ForwardError(pub String);

/// A model that is loaded, with its KV cache.
pub trait Forward: Send {
    fn shape(&self) -> &Shape;

    /// Makes room for `blocks` blocks, numbered from 0; what the cache held is lost.
    fn allocate(&mut self, blocks: usize) -> Result<(), ForwardError>;

    /// Makes block `to` hold what block `from` does.
    fn copy_block(&mut self, from: u32, to: u32) -> Result<(), ForwardError>;

    /// Runs a ragged batch. Returns the logits of the wanted rows, `vocabulary` values each, in the chunks' order and
    /// within a chunk in the tokens' order. Each row's bits depend on its own sequence alone: not on the rest of the
    /// batch, the chunking, the blocks' numbers or the number of threads. (Not so on another [`Device`] than the CPU.)
    fn forward(&mut self, chunks: &[Chunk<'_>]) -> Result<Vec<f32>, ForwardError>;
}
