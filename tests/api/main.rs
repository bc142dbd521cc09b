//! The API from outside, on the echo backend.

#[path = "../common/mod.rs"]
mod common;

mod auth;
mod bounds;
mod chat;
mod completions;
mod cors;
mod embeddings;
mod errors;
mod health;
mod limits;
mod models;
mod rerank;
mod tokens;
mod tools;
