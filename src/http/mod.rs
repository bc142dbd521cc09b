//! The accept loop: listeners, connections, timeouts, TLS, drain. Knows HTTP and nothing of OpenAI.
//!
//! A connection is one task. Three see what happens on it and leave notes in its `phase::State`: the socket
//! (`socket`: writes that stall), the byte stream (`stream`: heads that begin, peers that leave) and the hook before
//! the application (`connection`: requests that begin and end). One `clock` reads the notes and closes what is late.

mod accept;
mod bind;
mod body;
mod clock;
mod connection;
mod connections;
mod listen;
mod patience;
mod phase;
mod serve;
mod socket;
mod stream;
pub mod tls;
mod unix;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use accept::raise_file_limit;
pub use bind::{Address, Error, Inherited, Kept, Listeners};
pub use body::{Body, BoxError};
pub use connection::Peer;
pub use connections::Connections;
pub use listen::Listen;
pub use serve::{Shutdown, serve};

use crate::units::Duration;

/// Where and how connections are taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Config {
    /// Addresses to listen on: `host:port` or `unix:/path`. Port 0 takes a free one and prints it.
    #[garde(length(min = 1))]
    #[schemars(length(min = 1))]
    pub listen: Vec<Listen>,
    /// Permissions of Unix sockets, in octal.
    #[garde(custom(octal_digits))]
    #[schemars(regex(pattern = "^0?[0-7]{3}$"))]
    pub unix_socket_mode: String,
    /// PEM file with the certificate and its chain. With `tls_key`, TCP listeners speak TLS.
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    pub tls_key: Option<PathBuf>,
    /// Connections open at one time; more wait in the kernel's queue.
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub max_connections: u32,
    /// How long a new connection may take to send its first byte (with TLS: to finish the handshake).
    #[garde(custom(not_at_once))]
    pub first_byte_timeout: Duration,
    /// How long a request's headers may take from their first byte to their last.
    #[garde(custom(not_at_once))]
    pub header_timeout: Duration,
    /// How long a request's body may take to arrive whole.
    #[garde(custom(not_at_once))]
    pub body_timeout: Duration,
    /// How long a connection may rest between requests, or refuse to take what is written to it.
    #[garde(custom(not_at_once))]
    pub idle_timeout: Duration,
    /// How long running requests may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// With sockets from systemd: end after this long without a connection; the next one starts the daemon again.
    /// Unset: never.
    #[garde(inner(custom(not_at_once)))]
    pub exit_when_idle: Option<Duration>,
}

/// A timeout of nothing would close every connection before it said anything.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "garde hands fields over like this")]
fn not_at_once(timeout: &Duration, (): &()) -> garde::Result {
    if timeout.0 < std::time::Duration::from_millis(1) {
        return Err(garde::Error::new("shorter than 1ms"));
    }
    Ok(())
}

/// The pattern that the schema tells. As a regular expression it would be compiled at each start, for this key alone.
fn octal_digits(mode: &str, (): &()) -> garde::Result {
    let digits = if mode.len() == 4 { mode.strip_prefix('0') } else { Some(mode) };
    match digits {
        Some(digits) if digits.len() == 3 && digits.bytes().all(|b| (b'0'..=b'7').contains(&b)) => Ok(()),
        _ => Err(garde::Error::new("must be three octal digits such as `660`")),
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![Listen::Tcp("127.0.0.1:8000".to_owned())],
            unix_socket_mode: "0660".to_owned(),
            tls_certificate: None,
            tls_key: None,
            max_connections: 8192,
            first_byte_timeout: Duration::secs(10),
            header_timeout: Duration::secs(10),
            body_timeout: Duration::secs(60),
            idle_timeout: Duration::secs(75),
            drain_timeout: Duration::secs(30),
            exit_when_idle: None,
        }
    }
}
