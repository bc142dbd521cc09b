//! Where the daemon is in its life, and what is said of that to the service manager.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::{
    api::Api,
    backend::{Readiness, Registry},
    heap,
    http::Connections,
    systemd::{Manager, Sign},
    units,
};

/// How long nothing was asked when free memory is given back: longer than most pauses between two requests.
const QUIET: Duration = Duration::from_secs(2);

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
    /// Since no connection is open.
    alone: Quiet,
    /// Since no request is here.
    unasked: Quiet,
    /// What requests had used and freed since then has gone back to the system. The allocator would keep it: 100 MB after 5,000
    /// streams.
    trimmed: bool,
}

/// A rest that anything going on begins anew.
struct Quiet {
    connections: u64,
    since: Instant,
}

impl Quiet {
    fn new() -> Self {
        Self { connections: 0, since: Instant::now() }
    }

    /// How long it has been. Connections so far tell of those that came and went since the last time.
    fn time(&mut self, connections: u64, busy: bool) -> Duration {
        if busy || self.connections != connections {
            *self = Self { connections, since: Instant::now() };
        }
        self.since.elapsed()
    }
}

impl State {
    pub(super) fn new(
        manager: Arc<Manager>,
        api: Api,
        models: Registry,
        connections: Connections,
        idle_limit: Option<units::Duration>,
    ) -> Self {
        Self {
            manager,
            api,
            models,
            connections,
            stage: Stage::Loading,
            next: Arc::default(),
            refused: None,
            idle_limit,
            alone: Quiet::new(),
            unasked: Quiet::new(),
            trimmed: false,
        }
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

    /// Tells the news, and gives back what memory is left over. `true` when nobody was here for as long as
    /// `server.exit_when_idle` says.
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
        self.trim();
        self.stage == Stage::Serving && self.is_idle()
    }

    fn trim(&mut self) {
        let load = self.api.load();
        let busy = load.running + load.waiting > 0;
        let quiet = self.unasked.time(self.connections.so_far(), busy) >= QUIET;
        if quiet && !self.trimmed {
            heap::trim();
        }
        self.trimmed = quiet;
    }

    fn is_idle(&mut self) -> bool {
        let Some(units::Duration(limit)) = self.idle_limit else { return false };
        self.alone.time(self.connections.so_far(), self.connections.count() > 0) >= limit
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
