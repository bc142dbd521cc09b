//! The proxy backend: in front of another sconce, and of servers that misbehave.

#[path = "../common/mod.rs"]
mod common;

mod ends;
mod faults;
mod http2;
mod reload;
mod restarts;
mod several;
mod streams;
mod through;
mod tls;
mod told;
mod upstream;
