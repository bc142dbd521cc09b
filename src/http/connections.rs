//! All open connections: counted, asked for their places, told to end.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::Instant,
};

use super::phase::{Order, Rest, State};

/// How long a connection may rest while others wait for a place.
pub(super) const REST: Duration = Duration::from_millis(250);
/// The same for one that is at least sending a head.
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// The open connections and the loop that accepts them, seen from outside.
#[derive(Debug, Clone)]
pub struct Connections(pub(super) Arc<Registry>);

impl Connections {
    /// Connections that there were, those that are open included.
    #[must_use]
    pub fn so_far(&self) -> u64 {
        self.0.next.load(Ordering::Relaxed)
    }

    /// Asks the accept loop for a sign of life, which [`answers`](Self::answers) then counts.
    pub fn probe(&self) {
        self.0.probe.notify_one();
    }

    /// How many probes the accept loop has answered. It answers none before it serves and after the drain has begun.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.0.answers.load(Ordering::Relaxed)
    }

    /// Connections open now, those at rest and those still shaking hands included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.open().len()
    }
}

#[derive(Debug)]
pub(super) struct Registry {
    base: Instant,
    open: Mutex<HashMap<u64, Arc<State>>>,
    next: AtomicU64,
    /// Tasks beside the connections' own: HTTP/2 streams.
    tasks: AtomicUsize,
    left: Notify,
    /// Somebody wants to know whether the accept loop goes round.
    pub(super) probe: Notify,
    pub(super) answers: AtomicU64,
}

impl Registry {
    pub(super) fn new() -> Self {
        Self {
            base: Instant::now(),
            open: Mutex::default(),
            next: AtomicU64::new(0),
            tasks: AtomicUsize::new(0),
            left: Notify::new(),
            probe: Notify::new(),
            answers: AtomicU64::new(0),
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<State>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        let state = Arc::new(State::new(self.base));
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.open().insert(id, Arc::clone(&state));
        Place { registry: Arc::clone(self), state, id, _permit: permit }
    }

    pub(super) fn task(self: &Arc<Self>) -> Task {
        self.tasks.fetch_add(1, Ordering::Relaxed);
        Task(Arc::clone(self))
    }

    pub(super) fn order(&self, order: Order) {
        for state in self.open().values() {
            state.order(order);
        }
    }

    /// Asks connections at rest for their places: all that never sent a byte; if there are none, those that send a
    /// head at leisure and the eighth that has rested longest between requests.
    pub(super) fn relieve(&self) {
        let now = Instant::now();
        let mut idle = Vec::new();
        let mut slow = Vec::new();
        let mut silent = 0;
        let open = self.open();
        for state in open.values() {
            match state.rest(now) {
                Some(Rest::Silent(age)) if age >= REST => {
                    silent += 1;
                    state.order(Order::Yield);
                }
                Some(Rest::Idle(age)) if age >= REST => idle.push((age, state)),
                Some(Rest::Slow(age)) if age >= SLOW => slow.push(state),
                _ => {}
            }
        }
        if silent > 0 {
            tracing::debug!(connections = silent, "closing connections that sent nothing, others wait");
            return;
        }
        idle.sort_unstable_by_key(|(age, _)| std::cmp::Reverse(*age));
        idle.truncate(open.len().div_ceil(8));
        if !idle.is_empty() || !slow.is_empty() {
            tracing::debug!(idle = idle.len(), slow = slow.len(), "closing connections at rest, others wait");
        }
        for state in idle.into_iter().map(|(_, state)| state).chain(slow) {
            state.order(Order::Yield);
        }
    }

    /// Waits until no connection is open and no stream runs.
    pub(super) async fn empty(&self) {
        loop {
            let left = self.left.notified();
            let mut left = std::pin::pin!(left);
            left.as_mut().enable();
            if self.open().is_empty() && self.tasks.load(Ordering::Acquire) == 0 {
                return;
            }
            left.await;
        }
    }
}

/// An open connection's place; given up when dropped.
#[derive(Debug)]
pub(super) struct Place {
    registry: Arc<Registry>,
    pub(super) state: Arc<State>,
    id: u64,
    /// Goes last, after the connection has left the registry: never are more open than there are places.
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.registry.open().remove(&self.id);
        self.registry.left.notify_waiters();
    }
}

#[derive(Debug)]
pub(super) struct Task(Arc<Registry>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.tasks.fetch_sub(1, Ordering::Release);
        self.0.left.notify_waiters();
    }
}
