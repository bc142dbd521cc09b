//! How a model is loaded.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

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

    /// Loads it, and tries again as long as it fails of what may pass by itself and is still served.
    pub(in crate::backend) async fn load_in_time(self: Arc<Self>) {
        let (id, mut model) = (Arc::clone(self.id()), self);
        while let Err(error) = model.load().await {
            let Some(pause) = model.lifecycle.pause_of_a_temporary_failure() else {
                tracing::error!(model = &*id, %error, "the model {id} cannot be served: {error}");
                return;
            };
            tracing::warn!(model = &*id, %error, "the model {id} cannot be loaded: {error}; tried again in {pause:?}");
            let weak = Arc::downgrade(&model);
            drop(model);
            sleep(pause).await;
            let Some(still_served) = weak.upgrade() else { return };
            model = still_served;
            model.lifecycle.forget_failure();
        }
    }

    /// From `Loading` to what comes of it.
    pub(super) async fn bring_up(self: &Arc<Self>) {
        let mut unfinished = Unfinished { model: self, share: None };
        let begun = Instant::now();
        let outcome = match self.backend().footprint(self.lifecycle.memory.limit()).await {
            // Waiting for memory is given up with its last waiter; what was begun before and after goes on.
            Ok(footprint) => tokio::select! {
                biased;
                share = self.lifecycle.memory.reserve(self, &footprint) => match share {
                    Ok(share) => {
                        self.lifecycle.state().phase = Phase::Loading(Some(share.bytes()));
                        unfinished.share = Some(share);
                        self.fill().await.map_err(Some)
                    }
                    Err(reason) => Err(Some(reason)),
                },
                () = self.abandoned() => Err(None),
            },
            Err(reason) => Err(Some(reason)),
        };
        let attempt = match (outcome, unfinished.share.take()) {
            (Ok(()), Some(share)) => Attempt::Loaded(share),
            (outcome, share) => {
                unfinished.share = share;
                let old = self.lifecycle.renew();
                old.close().await;
                unfinished.share = None;
                match outcome.err().flatten() {
                    Some(reason) => Attempt::Failed(Failure { reason, temporary: old.may_load_later() }),
                    None => Attempt::Abandoned,
                }
            }
        };
        std::mem::forget(unfinished);
        self.settle(attempt, begun);
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
struct Unfinished<'a> {
    model: &'a Arc<Model>,
    share: Option<Share>,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let old = self.model.lifecycle.renew();
        let share = self.share.take();
        if let Ok(runtime) = Handle::try_current() {
            // What was begun may go on for a while, and has its memory until it ends.
            runtime.spawn(async move {
                old.close().await;
                drop(old);
                drop(share);
            });
        }
        self.model.settle(
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
