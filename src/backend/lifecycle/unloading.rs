//! How a model is unloaded: for another, or when it has been idle.

use std::{
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{runtime::Handle, time::sleep};

use super::{Phase, Resident, State};
use crate::backend::model::Model;

impl Model {
    /// What it has of the memory; `None` where that is nothing.
    pub(in crate::backend) fn resident(&self) -> Option<Resident> {
        let state = self.lifecycle.state();
        let (bytes, leaves) = match &state.phase {
            Phase::Loading(Some(bytes)) => (*bytes, false),
            Phase::Loaded(share) => (share.bytes(), false),
            Phase::Unloading(bytes) => (*bytes, true),
            Phase::Unloaded | Phase::Loading(None) | Phase::Failed { .. } => return None,
        };
        (bytes > 0).then_some(Resident { bytes, used: state.used, leaves })
    }

    /// Takes no new request for as long as it is held.
    pub(in crate::backend) fn hold(&self, held: bool) {
        self.lifecycle.state().held = held;
        self.lifecycle.tell();
    }

    /// `false` where it is not loaded or busy.
    pub(in crate::backend) fn unload_if_idle(self: &Arc<Self>, why: &str) -> bool {
        let mut state = self.lifecycle.state();
        let idle = matches!(state.phase, Phase::Loaded(_)) && !state.is_busy() && self.may_go();
        if idle {
            self.unload(&mut state, why);
        }
        idle
    }

    pub(super) fn unload(self: &Arc<Self>, state: &mut State, why: &str) {
        let Phase::Loaded(share) = std::mem::replace(&mut state.phase, Phase::Unloading(0)) else { return };
        state.phase = Phase::Unloading(share.bytes());
        let id = &**self.id();
        tracing::info!(model = id, why, "unloading {id}: {why}");
        self.lifecycle.unloads.fetch_add(1, Relaxed);
        let old = self.lifecycle.renew();
        let this = Arc::clone(self);
        tokio::spawn(async move {
            old.close().await;
            drop(old);
            this.lifecycle.state().phase = Phase::Unloaded;
            drop(share);
            this.lifecycle.tell();
        });
    }

    /// Unloads it when it has been idle for as long as its configuration says.
    pub(in crate::backend) fn watch_idleness(self: &Arc<Self>) {
        let mut state = self.lifecycle.state();
        if let Some(before) = state.idleness.take() {
            before.abort();
        }
        if matches!(state.phase, Phase::Loaded(_)) && self.is_lazy() && self.policy().idle_unload.is_some() {
            state.idleness = Some(tokio::spawn(watch_idleness(Arc::downgrade(self))).abort_handle());
        }
    }
}

async fn watch_idleness(model: Weak<Model>) {
    loop {
        let left = {
            let Some(model) = model.upgrade() else { return };
            let Some(limit) = model.policy().idle_unload else { return };
            let (busy, used) = {
                let state = model.lifecycle.state();
                (state.is_busy(), state.used)
            };
            let left = if busy { limit.0 } else { limit.0.saturating_sub(used.elapsed()) };
            if left.is_zero() && model.unload_if_idle(&format!("idle for {limit}")) {
                return;
            }
            left
        };
        // Somebody may have come in between; a limit of nothing must not spin.
        sleep(left.max(Duration::from_millis(10))).await;
    }
}

impl Drop for Model {
    /// What a reload replaced goes with its last request, and its share of the memory when it is really free.
    fn drop(&mut self) {
        let phase = std::mem::replace(&mut self.lifecycle.state().phase, Phase::Unloaded);
        let Phase::Loaded(share) = phase else { return };
        let backend = self.backend();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                backend.close().await;
                drop(backend);
                drop(share);
            });
        }
    }
}
