//! Connections to one upstream that wait for their next request.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    connection::{Connection, Http1},
    http2::Http2,
};

/// Connections kept at most; more than this were busy at one time, and seldom are again.
const MOST: usize = 512;

pub(super) struct Pool {
    keep_alive: Duration,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The one that rests for the shortest time is last, and goes first.
    http1: Vec<(Instant, Box<Http1>)>,
    /// The first ones are filled first, so that the others become idle.
    http2: Vec<Http2>,
}

impl Pool {
    pub(super) fn new(keep_alive: Duration) -> Self {
        Self { keep_alive, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that is still open.
    pub(super) async fn take(&self) -> Option<Connection> {
        loop {
            let mut connection = {
                let mut kept = self.kept();
                kept.http2.retain(|connection| !connection.is_closed());
                if let Some(stream) = kept.http2.iter().find_map(Http2::stream) {
                    return Some(Connection::Http2(stream));
                }
                let (since, connection) = kept.http1.pop()?;
                if since.elapsed() >= self.keep_alive {
                    // Those below it rest for longer still.
                    kept.http1.clear();
                    return None;
                }
                connection
            };
            if connection.is_open().await {
                return Some(Connection::Http1(connection));
            }
        }
    }

    pub(super) fn put(&self, connection: Box<Http1>) {
        let mut kept = self.kept();
        if kept.http1.len() < MOST {
            kept.http1.push((Instant::now(), connection));
        }
    }

    /// An HTTP/2 connection that later requests share.
    pub(super) fn share(&self, connection: &Http2) {
        self.kept().http2.push(connection.clone());
    }

    /// It gets no more requests.
    pub(super) fn unshare(&self, connection: &Http2) {
        self.kept().http2.retain(|kept| !kept.is(connection));
    }

    /// Closes what has rested for too long, or everything when the upstream is not well.
    pub(super) fn sweep(&self, everything: bool) {
        let mut kept = self.kept();
        kept.http1.retain(|(since, _)| !everything && since.elapsed() < self.keep_alive);
        let mut is_first = true;
        kept.http2.retain(|connection| {
            let stays = !connection.is_closed() && (mem::take(&mut is_first) || !connection.is_idle());
            stays && !everything
        });
    }
}
