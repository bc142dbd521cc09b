//! Accepting connections: a place first, then whoever waits; patience when the machine is at its limits.

use std::{future::poll_fn, io, sync::Arc, time::Duration};

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};

use super::{bind::Listeners, connection::Peer, socket::Transport};

/// How often to look for connections at rest while every place is taken.
const PRESSURE: Duration = Duration::from_millis(50);
const BACK_OFF: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
const WARN_EVERY: Duration = Duration::from_secs(1);

/// A connection and its place among `max_connections`.
pub(super) type Accepted = (Transport, Peer, OwnedSemaphorePermit);

pub(super) struct Acceptor {
    listeners: Listeners,
    places: Arc<Semaphore>,
    back_off: Duration,
    warned: Option<Instant>,
}

impl Acceptor {
    pub(super) fn new(listeners: Listeners, max_connections: u32) -> Self {
        let places = usize::try_from(max_connections).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { listeners, places: Arc::new(Semaphore::new(places)), back_off: BACK_OFF, warned: None }
    }

    /// The next connection. Cancelling this loses none.
    pub(super) async fn next(&mut self) -> Accepted {
        let permit = self.place().await;
        loop {
            match poll_fn(|cx| self.listeners.poll_accept(cx)).await {
                Ok((transport, peer)) => {
                    self.back_off = BACK_OFF;
                    return (transport, peer, permit);
                }
                Err(error) if is_the_peers(&error) => {
                    tracing::debug!(%error, "connection lost before accept")
                }
                Err(error) => self.rest(&error).await,
            }
        }
    }

    async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            tokio::select! {
                biased;
                permit = Arc::clone(&self.places).acquire_owned() => {
                    // The semaphore is never closed; were it, no place would ever be free.
                    if let Ok(permit) = permit {
                        return permit;
                    }
                    std::future::pending::<()>().await;
                }
                () = sleep(PRESSURE) => {
                    if self.listeners.has_waiting() {
                        self.listeners.registry().relieve();
                    }
                }
            }
        }
    }

    async fn rest(&mut self, error: &io::Error) {
        self.listeners.registry().relieve();
        let now = Instant::now();
        if self.warned.is_none_or(|warned| now - warned >= WARN_EVERY) {
            self.warned = Some(now);
            tracing::warn!(%error, "cannot accept connections, trying again: {error}");
        }
        sleep(self.back_off).await;
        self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
    }
}

/// Whether an accept failed for this one connection only. All else is the machine's trouble and would fail again.
fn is_the_peers(error: &io::Error) -> bool {
    let Some(errno) = Errno::from_io_error(error) else { return false };
    matches!(
        errno,
        Errno::CONNABORTED
            | Errno::CONNRESET
            | Errno::PROTO
            | Errno::INTR
            | Errno::PERM
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NOPROTOOPT
            | Errno::TIMEDOUT
    )
}

/// Raises the limit of open files to what the system allows this process, and returns it (`None`: there is none).
/// Each connection takes one.
pub fn raise_file_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files: {error}");
            current
        }
    }
}
