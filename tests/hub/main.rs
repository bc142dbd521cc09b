//! Models of the Hugging Face hub, from a server of our own that answers as it does: the hub on one port, where its large
//! files lie on another.
#![cfg(feature = "hub")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/tiny.rs"]
#[expect(dead_code, reason = "the replay uses all of it")]
mod tiny;

mod commands;
mod daemon;
mod errors;
mod fetch;
mod killed;
mod place;
mod python;
mod server;
mod tls;
mod trouble;
