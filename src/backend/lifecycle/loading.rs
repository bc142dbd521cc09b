//! How a model is loaded.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use tokio::time::Instant;

use super::{Phase, occupancy::Waiter};
use crate::backend::{memory::Share, model::Model};

struct Failure {
    reason: String,
    /// It may pass by itself.
    temporary: bool,
}

/// How an attempt to load ended.
enum Attempt {
    Loaded(Share),
    Failed(Failure),
    /// Nobody waits any more.
    Abandoned,
}

impl Model {
    /// Loads once, however many ask for it.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    pub(in crate::backend) async fn load(self: &Arc<Self>) -> Result<(), String> {
        let _waiter = Waiter::new(self);
        let mut changed = self.lifecycle.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let begins = {
                let mut state = self.lifecycle.state();
                match &state.phase {
                    Phase::Loaded(_) => return Ok(()),
                    Phase::Failed { reason, .. } => return Err(reason.clone()),
                    Phase::Unloaded => {
                        state.phase = Phase::Loading(None);
                        true
                    }
                    Phase::Loading(_) | Phase::Unloading(_) => false,
                }
            };
            if begins {
                // In this task: what needs no time is loaded before anything else happens.
                self.bring_up().await;
            } else {
                let _ = changed.changed().await;
            }
        }
    }

    /// From `Loading` to what comes of it.
    pub(super) async fn bring_up(self: &Arc<Self>) {
        let unfinished = Unfinished(self);
        let begun = Instant::now();
        let attempt = tokio::select! {
            biased;
            room = self.find_room() => match room {
                Ok(share) => match self.fill().await {
                    Ok(()) => Attempt::Loaded(share),
                    Err(reason) => {
                        let old = self.lifecycle.renew();
                        old.close().await;
                        drop(share);
                        Attempt::Failed(Failure { reason, temporary: old.may_load_later() })
                    }
                },
                Err(reason) => {
                    let temporary = self.lifecycle.renew().may_load_later();
                    Attempt::Failed(Failure { reason, temporary })
                }
            },
            () = self.abandoned() => {
                self.lifecycle.renew();
                Attempt::Abandoned
            }
        };
        std::mem::forget(unfinished);
        self.settle(attempt, begun);
    }

    async fn find_room(self: &Arc<Self>) -> Result<Share, String> {
        let memory = &self.lifecycle.memory;
        let footprint = self.backend().footprint(memory.limit()).await?;
        let share = memory.reserve(self, &footprint).await?;
        self.lifecycle.state().phase = Phase::Loading(Some(share.bytes()));
        Ok(share)
    }

    async fn fill(&self) -> Result<(), String> {
        let backend = self.backend();
        backend.load().await?;
        backend.warm_up().await.map_err(|error| format!("it does not answer: {error}"))
    }

    /// Waits until nobody waits for it any more.
    async fn abandoned(&self) {
        let mut changed = self.lifecycle.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if self.lifecycle.state().waiters == 0 {
                return;
            }
            let _ = changed.changed().await;
        }
    }

    fn settle(self: &Arc<Self>, attempt: Attempt, begun: Instant) {
        let id = &**self.id();
        let mut state = self.lifecycle.state();
        state.used = Instant::now();
        match attempt {
            Attempt::Loaded(share) => {
                let (seconds, mib) = (begun.elapsed().as_secs_f64(), share.bytes() >> 20);
                tracing::info!(model = id, seconds, mib, "loaded {id}, {mib} MiB, in {seconds:.1} s");
                state.phase = Phase::Loaded(share);
                state.granted = state.waiters;
                state.failures = 0;
                self.lifecycle.loads.fetch_add(1, Relaxed);
                self.lifecycle.card.store(Some(Arc::new(self.backend().card().clone())));
            }
            Attempt::Failed(Failure { reason, temporary }) => {
                state.failures = state.failures.saturating_add(1);
                self.lifecycle.failures.fetch_add(1, Relaxed);
                if self.is_lazy() {
                    let pause = state.pause();
                    tracing::error!(
                        model = id,
                        error = reason,
                        "{id} cannot be loaded: {reason}; not tried again for {pause:?}"
                    );
                }
                state.phase = Phase::Failed { reason, temporary, at: Instant::now() };
            }
            Attempt::Abandoned => {
                tracing::debug!(model = id, "{id} is not loaded: nobody waits for it any more");
                state.phase = Phase::Unloaded;
            }
        }
        drop(state);
        self.lifecycle.tell();
        self.watch_idleness();
    }
}

/// A load under way. Dropped, the load was cut short: by a panic, or with the task that it ran in.
struct Unfinished<'a>(&'a Arc<Model>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.lifecycle.renew();
        self.0.settle(
            if std::thread::panicking() {
                let reason = "loading it panicked".to_owned();
                Attempt::Failed(Failure { reason, temporary: false })
            } else {
                Attempt::Abandoned
            },
            Instant::now(),
        );
    }
}
