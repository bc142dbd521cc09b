//! Continuous batching: requests of token ids in, token ids out. Knows no text.

pub mod math;
pub mod random;
