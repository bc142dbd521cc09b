pub mod api;
pub mod backend;
pub mod cli;
pub mod config;
pub mod generation;
pub mod http;
pub mod telemetry;
pub mod units;

use std::io;

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be put into effect: a certificate that is none, a keys file that is not there.
    #[error("{0}")]
    Configuration(String),
    /// The system refused something: an address to listen on, a descriptor.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// Serves until told to stop. `reload` reads the configuration again, for SIGHUP.
///
/// # Errors
/// Returns an error when serving cannot begin or cannot go on.
pub async fn run(
    loaded: config::Loaded,
    reload: impl Fn() -> Result<config::Loaded, config::Errors> + Send + 'static,
) -> Result<(), Error> {
    // STUB: crate::server
    drop((loaded, reload));
    Ok(())
}
