//! Who uses a model, and who waits for it.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Phase, State};
use crate::{
    backend::{
        Readiness,
        model::{Model, Shared},
    },
    generation::Error,
};

impl Model {
    /// Takes the backend if that needs no waiting.
    pub(in crate::backend) fn occupy_at_once(&self) -> Option<Shared> {
        let mut state = self.lifecycle.state();
        let loaded = matches!(state.phase, Phase::Loaded(_)) && !state.held;
        let ready = !self.is_lazy() || (loaded && self.backend().readiness() == Readiness::Ready);
        ready.then(|| self.enter(&mut state))
    }

    fn enter(&self, state: &mut State) -> Shared {
        state.leases += 1;
        state.used = Instant::now();
        self.backend()
    }

    /// Takes the backend as soon as it is loaded, and sees to it that it is.
    ///
    /// # Errors
    /// Why it cannot be loaded now.
    pub(in crate::backend) async fn occupy(self: &Arc<Self>) -> Result<Shared, Error> {
        let _waiter = Waiter::new(self);
        let mut changed = self.lifecycle.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(backend) = self.try_occupy()? {
                return Ok(backend);
            }
            // Its sender lives as long as the model.
            let _ = changed.changed().await;
        }
    }

    fn try_occupy(self: &Arc<Self>) -> Result<Option<Shared>, Error> {
        let mut state = self.lifecycle.state();
        if !self.is_lazy() {
            return Ok(Some(self.enter(&mut state)));
        }
        match &state.phase {
            Phase::Loaded(_) => match self.backend().readiness() {
                Readiness::Ready if !state.held || state.granted > 0 => {
                    state.granted = state.granted.saturating_sub(1);
                    Ok(Some(self.enter(&mut state)))
                }
                Readiness::Ready => Ok(None),
                // What computes has ended: whoever is still here will see that too.
                Readiness::NotReady(_) if state.leases == 0 => {
                    self.unload(&mut state, "it has stopped");
                    Ok(None)
                }
                Readiness::NotReady(reason) => Err(self.unavailable(&reason)),
            },
            Phase::Failed { reason, at, .. } if at.elapsed() < state.pause() => Err(self.unavailable(reason)),
            Phase::Unloaded | Phase::Failed { .. } => {
                state.phase = Phase::Loading(None);
                let this = Arc::clone(self);
                tokio::spawn(async move { this.bring_up().await });
                Ok(None)
            }
            Phase::Loading(_) | Phase::Unloading(_) => Ok(None),
        }
    }

    fn unavailable(&self, reason: &str) -> Error {
        Error::Unavailable(format!("The model '{}' cannot be loaded: {reason}.", self.id()))
    }

    /// The end of a lease.
    pub(in crate::backend) fn vacate(&self) {
        let mut state = self.lifecycle.state();
        state.leases -= 1;
        state.used = Instant::now();
        let idle = state.leases == 0;
        drop(state);
        if idle {
            self.lifecycle.memory.moved();
        }
    }
}

/// Somebody who waits until a model is loaded.
pub(super) struct Waiter<'a>(&'a Model);

impl<'a> Waiter<'a> {
    pub(super) fn new(model: &'a Model) -> Self {
        model.lifecycle.state().waiters += 1;
        Self(model)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lifecycle.state();
        state.waiters -= 1;
        state.granted = state.granted.min(state.waiters);
        let last = state.waiters == 0;
        drop(state);
        if last {
            self.0.lifecycle.tell();
            self.0.lifecycle.memory.moved();
        }
    }
}
