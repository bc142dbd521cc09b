//! The forward pass on candle's tensors, for the devices that candle has, from the same description and by the same builder as
//! that of the CPU's kernels ([`decoder`](crate::model::decoder)):
//!
//! - `pack`: weights on the device, in the element type that the file has (f32 on candle's CPU device; quantized weights
//!   are widened to bfloat16). Activations between products are f32.
//! - `step`: a ragged batch as the device gets it: rows in an order that lets sequences of one row attend together.
//! - `attention`: queries against keys and values that are gathered from the blocks of the cache.
//! - `layer`, `feed_forward`, `ops`: the rest. `decoder`: all of it together.
//!
//! What a row's bits depend on is the library's choice: its kernels, and those of cuBLAS, take other paths for other
//! shapes. The promise of [`Forward`](crate::model::Forward) about bits is not kept here.

mod attention;
mod decoder;
mod feed_forward;
mod layer;
mod ops;
mod pack;
mod step;
#[cfg(test)]
mod tests;

pub(in crate::model) use decoder::{Decoder, memory};
pub(in crate::model) use pack::Packer;
