//! What the daemon is asked to do from outside.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

pub(super) enum Asked {
    Reload,
    Stop,
}

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// A signal to stop; a reload is too late by now.
    pub(super) async fn stop(&mut self) {
        while !matches!(self.next().await, Asked::Stop) {}
    }
}
