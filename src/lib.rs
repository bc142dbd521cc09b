//! sconce: an OpenAI-compatible API from one machine.
//!
//! The map of the house. A request travels
//! bytes → [`http`] → [`api`] (wire types) → [`generation`] (the domain's words) → [`backend`] → events → [`api`] → bytes.
//!
//! - [`cli`]: arguments, subcommands, exit statuses.
//! - [`config`]: every room's own `Config`, the layers it is read from, its reference.
//! - [`server`]: the daemon's life: bind, serve, reload, drain.
//! - [`systemd`]: what the service manager is told, its sockets, its watchdog.
//! - [`telemetry`]: the log.
//! - [`http`]: the accept loop. Knows nothing of OpenAI.
//! - [`api`]: the only room that knows poem and OpenAI's wire shape.
//! - [`generation`]: what is asked for and what comes back. Uses nothing of ours.
//! - [`backend`]: what answers.
//! - [`units`]: values with a unit, and secrets. [`heap`]: memory that was freed.
//!
//! With the feature `candle`, local inference:
//!
//! - `text`: words to token ids and back. `backend::candle` joins it with
//! - `engine`: continuous batching, token ids only, on
//! - `model`: from a directory or a file to the logits of the next token, with
//! - `kernels`: the CPU's arithmetic. `unsafe` lives there, and for one call in [`heap`].
//! - `hub`: models of the Hugging Face hub, from its cache or, with the feature `hub`, from the network.
//! - `bench`: how fast a model runs here.

#![warn(clippy::unwrap_used)]

pub mod api;
pub mod backend;
#[cfg(feature = "candle")]
pub mod bench;
pub mod cli;
pub mod config;
#[cfg(feature = "candle")]
pub mod engine;
pub mod generation;
pub mod heap;
pub mod http;
#[cfg(feature = "candle")]
pub mod hub;
#[cfg(feature = "candle")]
pub mod kernels;
#[cfg(feature = "candle")]
pub mod model;
pub mod server;
pub mod systemd;
pub mod telemetry;
#[cfg(feature = "candle")]
pub mod text;
pub mod units;
