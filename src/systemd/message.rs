//! Messages to the service manager.

use std::{
    env, io,
    os::fd::BorrowedFd,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use sd_notify::NotifyState;

use super::sockets;
use crate::http::Listen;

/// How long one step of loading may take, such as a layer or a file, before the service manager gives up waiting.
const STEP: Duration = Duration::from_secs(600);

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub struct Manager {
    present: bool,
    /// What it was told last, so that it is told news only.
    status: Mutex<String>,
    deaf: AtomicBool,
}

impl Manager {
    /// Whoever listens at `$NOTIFY_SOCKET`.
    #[must_use]
    pub fn of_environment() -> Self {
        Self { present: env::var_os("NOTIFY_SOCKET").is_some(), ..Self::default() }
    }

    /// Whether anybody listens.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.present
    }

    /// The service has started, or has reloaded.
    pub fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready], status);
    }

    /// What goes on.
    pub fn status(&self, status: &str) {
        if self.is_news(status) {
            self.tell(&[], status);
        }
    }

    /// How far the start or the reload has come. Each piece of news gives the next one ten minutes to come.
    pub fn loading(&self, status: &str) {
        if self.is_news(status) {
            self.tell(&[extend(STEP)], status);
        }
    }

    /// A reload begins; [`ready`](Self::ready) ends it.
    pub fn reloading(&self) {
        if self.present {
            match NotifyState::monotonic_usec_now() {
                Ok(now) => self.tell(&[NotifyState::Reloading, now], "reloading"),
                Err(error) => self.failed_to_tell(&error),
            }
        }
    }

    /// The service ends, within `most`.
    pub fn stopping(&self, status: &str, most: Duration) {
        self.tell(&[NotifyState::Stopping, extend(most)], status);
    }

    /// The service ends with an error.
    pub fn failed(&self, status: &str, errno: Option<i32>) {
        let errno = errno.and_then(|errno| u32::try_from(errno).ok()).map(NotifyState::Errno);
        self.tell(errno.as_slice(), status);
    }

    /// Whether the service manager keeps descriptors for the next run (systemd 254 says so).
    #[must_use]
    pub fn keeps_sockets(&self) -> bool {
        let most = env::var("FDSTORE").ok().and_then(|most| most.parse::<u64>().ok());
        self.present && most.is_some_and(|most| most > 0)
    }

    /// Gives a socket to keep, open, until [`forget`](Self::forget) or the service's stop.
    pub fn keep(&self, listen: &Listen, socket: BorrowedFd<'_>) {
        let name = sockets::name_of(listen);
        let told = sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(&name)], &[socket]);
        if let Err(error) = told {
            self.failed_to_tell(&error);
        }
    }

    /// The sockets that were kept under this name are not wanted any more.
    pub fn forget(&self, name: &str) {
        self.send(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
    }

    fn is_news(&self, status: &str) -> bool {
        self.present && *self.status.lock().unwrap_or_else(PoisonError::into_inner) != status
    }

    fn tell(&self, states: &[NotifyState<'_>], status: &str) {
        status.clone_into(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
        // A line is a message of its own.
        let status = status.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        let mut all = states.to_vec();
        all.push(NotifyState::Status(&status));
        self.send(&all);
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        if self.present
            && let Err(error) = sd_notify::notify(states)
        {
            self.failed_to_tell(&error);
        }
    }

    fn failed_to_tell(&self, error: &io::Error) {
        if !self.deaf.swap(true, Relaxed) {
            tracing::warn!(%error, "the service manager at $NOTIFY_SOCKET cannot be told anything: {error}");
        }
    }
}

fn extend(by: Duration) -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))
}
