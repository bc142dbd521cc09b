//! Models against Hugging Face transformers, and against themselves.

#![cfg(feature = "candle")]

mod cases;
#[cfg(feature = "tensors")]
mod device;
mod encoders;
mod files;
mod gguf;
mod golden;
mod invariance;
mod lora;
mod page;
mod refusals;
mod weights;
