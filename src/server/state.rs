//! Where the daemon is in its life, and what is said of that to the service manager.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::{
    api::Api,
    backend::{Readiness, Registry},
    http::Connections,
    systemd::{Manager, Sign},
    units,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Loading,
    Serving,
    Reloading,
    Stopping,
}

pub(super) struct State {
    manager: Arc<Manager>,
    api: Api,
    models: Registry,
    connections: Connections,
    stage: Stage,
    /// The models that a reload loads.
    next: Arc<Mutex<Option<Registry>>>,
    /// Why the last reload changed nothing.
    refused: Option<String>,
    idle_limit: Option<units::Duration>,
    /// Connections so far, and since when there are no more and none is open.
    idle: (u64, Instant),
}

impl State {
    pub(super) fn new(
        manager: Arc<Manager>,
        api: Api,
        models: Registry,
        connections: Connections,
        idle_limit: Option<units::Duration>,
    ) -> Self {
        let idle = (0, Instant::now());
        let (stage, next) = (Stage::Loading, Arc::default());
        Self { manager, api, models, connections, stage, next, refused: None, idle_limit, idle }
    }

    pub(super) fn has_loaded(&self) -> bool {
        self.stage != Stage::Loading
    }

    pub(super) fn loaded(&mut self) {
        self.stage = Stage::Serving;
        self.manager.ready(&self.serving());
    }

    pub(super) fn may_reload(&self) -> bool {
        self.stage == Stage::Serving
    }

    pub(super) fn reloads(&mut self) {
        self.stage = Stage::Reloading;
        self.manager.reloading();
    }

    /// Where the reload puts the models that it loads.
    pub(super) fn next_models(&self) -> Arc<Mutex<Option<Registry>>> {
        Arc::clone(&self.next)
    }

    pub(super) fn reloaded(&mut self, outcome: Result<(), String>) {
        self.stage = Stage::Serving;
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.refused = outcome.err();
        self.manager.ready(&self.serving());
    }

    pub(super) fn stopping(&mut self, most: Duration) {
        self.stage = Stage::Stopping;
        self.manager.stopping(&self.draining(), most);
    }

    /// Whether anybody wants to know, or idleness ends the daemon.
    pub(super) fn needs_ticks(&self) -> bool {
        self.manager.is_present() || self.idle_limit.is_some()
    }

    /// Tells the news. `true` when nobody was here for as long as `server.exit_when_idle` says.
    pub(super) fn tick(&mut self) -> bool {
        if self.manager.is_present() {
            match self.stage {
                Stage::Loading => self.manager.loading(&waiting_for(&self.models)),
                Stage::Serving => self.manager.status(&self.serving()),
                Stage::Reloading => {
                    let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(next) = &*next {
                        self.manager.loading(&format!("reloading; {}", waiting_for(next)));
                    }
                }
                Stage::Stopping => self.manager.status(&self.draining()),
            }
        }
        self.stage == Stage::Serving && self.is_idle()
    }

    fn is_idle(&mut self) -> bool {
        let Some(units::Duration(limit)) = self.idle_limit else { return false };
        let so_far = self.connections.so_far();
        if self.connections.count() > 0 || self.idle.0 != so_far {
            self.idle = (so_far, Instant::now());
        }
        self.idle.1.elapsed() >= limit
    }

    fn serving(&self) -> String {
        let models = self.models.models();
        let ready = models.values().filter(|model| model.readiness() == Readiness::Ready).count();
        let of = if ready == models.len() { String::new() } else { format!(" of {}", models.len()) };
        let noun = if models.len() == 1 { "model" } else { "models" };
        let loaded = if models.values().any(|model| model.is_lazy()) {
            format!(", {} loaded", models.values().filter(|model| model.is_loaded()).count())
        } else {
            String::new()
        };
        let load = self.api.load();
        let mut text =
            format!("serving {ready}{of} {noun}{loaded}, {} running, {} waiting", load.running, load.waiting);
        for (id, model) in models.iter().filter(|(_, model)| model.is_lazy() && model.is_in_motion()) {
            text.push_str(&format!("; {id}: {}", model.state()));
        }
        if let Some(refused) = &self.refused {
            text.push_str(&format!("; the last reload was refused: {refused}"));
        }
        text
    }

    fn draining(&self) -> String {
        let load = self.api.load();
        format!("draining, {} running", load.running + load.waiting)
    }

    /// The signs of life of all that a request passes.
    pub(super) fn signs(&self, draining: CancellationToken) -> impl Fn() -> Vec<Sign> + Send + use<> {
        let (connections, models) = (self.connections.clone(), self.models.clone());
        move || {
            let count = connections.answers();
            connections.probe();
            let busy = !draining.is_cancelled();
            let accepts = Sign { of: "the accept loop".to_owned(), count, busy };
            let beats = models.heartbeats().into_iter().map(|(id, beat)| Sign {
                of: format!("the engine of '{id}'"),
                count: beat.steps,
                busy: beat.busy,
            });
            std::iter::once(accepts).chain(beats).collect()
        }
    }
}

fn waiting_for(models: &Registry) -> String {
    match models.readiness() {
        Readiness::Ready => "loading".to_owned(),
        Readiness::NotReady(reasons) => reasons,
    }
}
