//! A model between its loads: not loaded, loading, loaded, unloading.
//!
//! A backend lives from one load to its end: what is unloaded is closed and dropped, and a new one takes its place. A
//! lazy model is loaded by a task of its own, for as long as somebody waits for it; once its memory is reserved the load
//! goes on to its end.

mod loading;
mod occupancy;
mod unloading;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::{sync::watch, task::AbortHandle, time::Instant};

use super::{
    Backend, ModelCard, Readiness,
    memory::{Memory, Share},
    metric::Metric,
    model::Shared,
};

/// After its first failure a lazy model is tried again by the first request after this time; each further failure
/// doubles it, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

pub(super) struct Lifecycle {
    backend: ArcSwap<Box<dyn Backend>>,
    make: Box<dyn Fn() -> Box<dyn Backend> + Send + Sync>,
    state: Mutex<State>,
    /// Tells of every change of the state.
    changed: watch::Sender<()>,
    memory: Arc<Memory>,
    /// What was told of it when it was loaded last.
    card: ArcSwapOption<ModelCard>,
    loads: AtomicU64,
    unloads: AtomicU64,
    failures: AtomicU64,
}

struct State {
    phase: Phase,
    /// Requests that run on it.
    leases: usize,
    /// Requests, and the daemon itself, that wait until it is loaded.
    waiters: usize,
    /// Of the waiters, those that were there when it had loaded: they have it before it may be unloaded again.
    granted: usize,
    /// New requests wait: another model needs the memory.
    held: bool,
    used: Instant,
    /// Loads that failed, one after the other.
    failures: u32,
    idleness: Option<AbortHandle>,
}

enum Phase {
    Unloaded,
    /// Bytes, once it has its memory.
    Loading(Option<u64>),
    Loaded(Share),
    Unloading(u64),
    Failed {
        reason: String,
        /// It may pass by itself, such as a failure of a network.
        temporary: bool,
        at: Instant,
    },
}

impl State {
    fn is_busy(&self) -> bool {
        self.leases > 0 || self.granted > 0 || (self.waiters > 0 && !self.held)
    }

    /// When it may be tried again after it failed.
    fn pause(&self) -> Duration {
        FIRST_PAUSE.saturating_mul(1 << (self.failures.clamp(1, 10) - 1)).min(LONGEST_PAUSE)
    }
}

/// A model that has memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resident {
    pub(super) bytes: u64,
    pub(super) used: Instant,
    /// It is giving it back.
    pub(super) leaves: bool,
}

impl Lifecycle {
    pub(super) fn new(
        first: Box<dyn Backend>,
        make: Box<dyn Fn() -> Box<dyn Backend> + Send + Sync>,
        memory: Arc<Memory>,
    ) -> Self {
        let state = State {
            phase: Phase::Unloaded,
            leases: 0,
            waiters: 0,
            granted: 0,
            held: false,
            used: Instant::now(),
            failures: 0,
            idleness: None,
        };
        Self {
            backend: ArcSwap::from_pointee(first),
            make,
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
            memory,
            card: ArcSwapOption::empty(),
            loads: AtomicU64::new(0),
            unloads: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    pub(super) fn is_loaded_from_the_start(&self) {
        self.state().phase = Phase::Loaded(self.memory.nothing());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.send_replace(());
    }

    pub(super) fn backend(&self) -> Shared {
        self.backend.load_full()
    }

    /// Puts a backend in its place that is not loaded, and returns it.
    fn renew(&self) -> Shared {
        self.backend.swap(Arc::new((self.make)()))
    }

    pub(super) fn card(&self) -> ModelCard {
        let known = self.card.load_full().filter(|_| !self.is_loaded());
        known.map_or_else(|| self.backend().card().clone(), |card| (*card).clone())
    }

    pub(super) fn is_loaded(&self) -> bool {
        matches!(self.state().phase, Phase::Loaded(_))
    }

    pub(super) fn is_in_motion(&self) -> bool {
        matches!(self.state().phase, Phase::Loading(_) | Phase::Unloading(_))
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.state().phase, Phase::Failed { .. })
    }

    /// When it may be tried again, where it failed of what may pass by itself.
    fn pause_of_a_temporary_failure(&self) -> Option<Duration> {
        let state = self.state();
        matches!(state.phase, Phase::Failed { temporary: true, .. }).then(|| state.pause())
    }

    /// Lets the next one try who asks.
    fn forget_failure(&self) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Failed { .. }) {
            state.phase = Phase::Unloaded;
        }
    }

    /// Whether it failed of what may pass by itself.
    pub(super) fn may_load_later(&self) -> bool {
        self.pause_of_a_temporary_failure().is_some()
    }

    pub(super) fn readiness(&self, lazy: bool) -> Readiness {
        let state = self.state();
        match &state.phase {
            Phase::Failed { at, .. } if lazy && at.elapsed() >= state.pause() => Readiness::Ready,
            Phase::Failed { reason, .. } => Readiness::NotReady(reason.clone()),
            _ if lazy => Readiness::Ready,
            Phase::Loaded(_) => self.backend().readiness(),
            Phase::Unloaded | Phase::Loading(_) | Phase::Unloading(_) => match self.backend().readiness() {
                Readiness::Ready => Readiness::NotReady("warming up".to_owned()),
                not_ready => not_ready,
            },
        }
    }

    /// What goes on, for people.
    pub(super) fn state_in_words(&self, lazy: bool) -> String {
        match &self.state().phase {
            Phase::Unloaded if lazy => "not loaded".to_owned(),
            Phase::Unloaded | Phase::Loading(_) => match self.backend().readiness() {
                Readiness::Ready => "warming up".to_owned(),
                Readiness::NotReady(how_far) => how_far,
            },
            Phase::Loaded(_) => match self.backend().readiness() {
                Readiness::Ready => "ready".to_owned(),
                Readiness::NotReady(reason) => reason,
            },
            Phase::Unloading(_) => "unloading".to_owned(),
            Phase::Failed { reason, .. } => reason.clone(),
        }
    }

    pub(super) fn metrics(&self) -> Vec<Metric> {
        let bytes = match &self.state().phase {
            Phase::Loading(Some(bytes)) | Phase::Unloading(bytes) => *bytes,
            Phase::Loaded(share) => share.bytes(),
            Phase::Unloaded | Phase::Loading(None) | Phase::Failed { .. } => 0,
        };
        let metric = Metric::number;
        vec![
            metric("sconce_model_loaded", "1 while the model is loaded.", self.is_loaded().into()),
            metric("sconce_model_memory_bytes", "Memory that is reserved for the model.", bytes),
            metric("sconce_model_loads_total", "Times that it was loaded.", self.loads.load(Relaxed)),
            metric("sconce_model_unloads_total", "Times that it was unloaded.", self.unloads.load(Relaxed)),
            metric(
                "sconce_model_load_failures_total",
                "Times that it could not be loaded.",
                self.failures.load(Relaxed),
            ),
        ]
    }
}

#[cfg(test)]
mod tests;
