//! Models against Hugging Face transformers, and against themselves.

#![cfg(feature = "candle")]

mod cases;
mod encoders;
mod files;
mod gguf;
mod golden;
mod invariance;
mod refusals;
mod weights;
