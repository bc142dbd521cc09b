//! The engine, on a model that is a hash of the sequence's tokens.
#![cfg(feature = "candle")]

mod dice;
mod kv_cache;
mod math;
mod plain_sampler;
mod random;
mod sampler;
mod scheduler;
mod scheduler_random;
