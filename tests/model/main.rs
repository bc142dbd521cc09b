//! Models against Hugging Face transformers, and against themselves.

#![cfg(feature = "candle")]

mod cases;
mod files;
mod gguf;
mod golden;
mod invariance;
mod lora;
mod refusals;
mod weights;
