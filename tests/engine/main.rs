//! The engine, on a model that is a hash of the sequence's tokens.
#![cfg(feature = "candle")]

mod answers;
mod batcher;
mod dice;
mod ends;
mod fake;
mod faults;
mod flow;
mod kv_cache;
mod math;
mod plain_sampler;
mod random;
mod replay;
mod sampler;
mod scheduler;
mod scheduler_random;
mod submit;
