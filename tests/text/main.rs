//! Words ↔ token ids.
#![cfg(feature = "candle")]

mod chat;
mod templates;
