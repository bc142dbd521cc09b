//! Continuous batching: requests of token ids in, token ids out. Knows no text.

pub mod kv_cache;
pub mod logprobs;
pub mod math;
pub mod random;
pub mod sampler;
mod sampling;
pub mod scheduler;
mod sequence;

pub use sampling::{FinishReason, Logprob, Sampling};
pub use sequence::{Sequence, SequenceId};
