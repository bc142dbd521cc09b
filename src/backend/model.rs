//! One model that is served: who may use it now, and what is told of it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use arc_swap::ArcSwap;
use indexmap::IndexMap;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

#[cfg(feature = "candle")]
use super::candle;
use super::{
    Backend, Config, Heartbeat, Kind, Load, ModelCard, Readiness, Requests, echo, gate::Gate,
    lifecycle::Lifecycle, memory::Memory, metric::Metric, proxy,
};
use crate::{generation::Error, units::Duration};

/// What of a model's configuration holds from a reload on without loading it again.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Policy {
    pub(super) load: Load,
    pub(super) required: bool,
    pub(super) idle_unload: Option<Duration>,
    pub(super) requests: Requests,
}

impl Policy {
    pub(super) fn of(config: &Config) -> Self {
        let Config { load, required, idle_unload, requests, .. } = config.clone();
        // Another server's models are not loaded here.
        let load = if config.backend == Kind::Proxy { Load::Start } else { load };
        Self { load, required, idle_unload, requests }
    }

    /// Readiness waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        self.load == Load::Start && self.required
    }
}

/// Permits of a model without a limit of its own.
const UNLIMITED: u32 = u32::MAX >> 3;

/// One row of the registry.
pub struct Model {
    id: Arc<str>,
    pub kind: Kind,
    /// What its backend is made of, and the adapters that it has.
    config: Config,
    adapters: IndexMap<String, Config>,
    policy: ArcSwap<Policy>,
    /// It stays although it is lazy: a reload that is under way makes it one that is not.
    pinned: AtomicBool,
    pub(super) lifecycle: Lifecycle,
    turns: Gate,
    waiting: AtomicU64,
}

/// A backend that has loaded, or is about to.
pub(super) type Shared = Arc<Box<dyn Backend>>;

impl Model {
    /// `adapters` are those of this model, by their ids. `before` is what was served under this id until now.
    pub(super) fn new(
        id: &Arc<str>,
        config: &Config,
        adapters: &IndexMap<String, Config>,
        created: u64,
        before: Option<&Arc<Self>>,
        memory: &Arc<Memory>,
    ) -> Self {
        let before = before.filter(|before| before.kind == config.backend);
        let successor = before.and_then(|before| before.backend().successor(config, created));
        let (name, of_the_backend) = (Arc::clone(id), config.of_the_backend());
        #[cfg(feature = "candle")]
        let adapters_ = adapters.clone();
        let make = move || -> Box<dyn Backend> {
            let config = &of_the_backend;
            match config.backend {
                Kind::Echo => Box::new(echo::Echo::new(&name, config, created)),
                #[cfg(feature = "candle")]
                Kind::Candle => Box::new(candle::Candle::new(&name, config, &adapters_, created)),
                Kind::Proxy => Box::new(proxy::Proxy::new(config, created)),
            }
        };
        let mut model = Self::made_by(id, config, memory, successor, make);
        model.adapters.clone_from(adapters);
        model
    }

    /// `make` makes its backend, not yet loaded, each time that it is to be loaded; `first` is the first one.
    pub(super) fn made_by(
        id: &Arc<str>,
        config: &Config,
        memory: &Arc<Memory>,
        first: Option<Box<dyn Backend>>,
        make: impl Fn() -> Box<dyn Backend> + Send + Sync + 'static,
    ) -> Self {
        let policy = Policy::of(config);
        let turns = Gate::new(policy.requests.max_running.unwrap_or(UNLIMITED) as usize);
        let first = first.unwrap_or_else(&make);
        Self {
            id: Arc::clone(id),
            kind: config.backend,
            config: config.of_the_backend(),
            adapters: IndexMap::new(),
            policy: ArcSwap::from_pointee(policy),
            pinned: AtomicBool::new(false),
            lifecycle: Lifecycle::new(first, Box::new(make), Arc::clone(memory)),
            turns,
            waiting: AtomicU64::new(0),
        }
    }

    /// A model that needs no loading.
    #[must_use]
    pub fn loaded(id: &str, kind: Kind, backend: Box<dyn Backend>) -> Self {
        let config = Config { backend: kind, ..Config::default() };
        let make = || -> Box<dyn Backend> { Box::new(echo::Echo::new("", &Config::default(), 0)) };
        let model = Self::made_by(&Arc::from(id), &config, &Arc::default(), Some(backend), make);
        model.lifecycle.is_loaded_from_the_start();
        model
    }

    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Whether a backend made of `config` is the one that it has.
    pub(super) fn is_made_of(&self, config: &Config, adapters: &IndexMap<String, Config>) -> bool {
        self.config == config.of_the_backend() && self.adapters == *adapters
    }

    /// The adapters that it has, by their ids.
    pub(super) fn adapters(&self) -> impl Iterator<Item = &str> {
        self.adapters.keys().map(String::as_str)
    }

    /// What is told of one of its adapters: of the model itself, where it is not loaded.
    #[must_use]
    pub(super) fn card_of(&self, adapter: &str) -> ModelCard {
        let adapted = self.backend().adapted(adapter);
        adapted.map_or_else(|| self.card(), |adapted| adapted.card().clone())
    }

    pub(super) fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Goes on under these rules.
    pub(super) fn follow(self: &Arc<Self>, policy: &Policy) {
        if *self.policy() != *policy {
            self.turns.resize(policy.requests.max_running.unwrap_or(UNLIMITED) as usize);
            self.policy.store(Arc::new(policy.clone()));
            self.watch_idleness();
        }
        // Not before the policy: in between it might be unloaded.
        self.pin(false);
    }

    pub(super) fn pin(&self, pinned: bool) {
        self.pinned.store(pinned, Relaxed);
    }

    /// It may be unloaded when it is idle.
    pub(super) fn may_go(&self) -> bool {
        self.is_lazy() && !self.pinned.load(Relaxed)
    }

    /// It is loaded when somebody asks for it.
    #[must_use]
    pub fn is_lazy(&self) -> bool {
        self.policy.load().load == Load::Lazy
    }

    /// The backend as it is now, loaded or not. Who wants it to stay takes a [`Lease`].
    #[must_use]
    pub fn backend(&self) -> Shared {
        self.lifecycle.backend()
    }

    /// What is told of it: what the last load found, where it is not loaded.
    #[must_use]
    pub fn card(&self) -> ModelCard {
        self.lifecycle.card()
    }

    /// Whether it takes requests now. A lazy model does, unless it could not be loaded a moment ago.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.lifecycle.readiness(self.is_lazy())
    }

    /// What goes on with it, for people.
    #[must_use]
    pub fn state(&self) -> String {
        self.lifecycle.state_in_words(self.is_lazy())
    }

    /// Whether it can answer without being loaded first.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.lifecycle.is_loaded() && self.backend().readiness() == Readiness::Ready
    }

    /// Whether it is being loaded or unloaded.
    #[must_use]
    pub fn is_in_motion(&self) -> bool {
        self.lifecycle.is_in_motion()
    }

    /// Waits for a turn of this model, and until it is loaded. Dropping the future leaves the queue.
    ///
    /// # Errors
    /// Why it cannot be used: the queue is full, loading failed, or it took too long.
    pub async fn lease(self: &Arc<Self>) -> Result<Lease, Error> {
        let turn = self.turns.permits().try_acquire_owned().ok();
        if turn.is_some()
            && let Some(backend) = self.occupy_at_once()
        {
            return Ok(Lease::new(self, backend, turn));
        }
        let Requests { max_waiting, wait_timeout, .. } = self.policy.load().requests;
        let _waiting = Waiting::new(&self.waiting, max_waiting).ok_or_else(|| {
            Error::Overloaded(format!(
                "The model '{}' has as many requests waiting as it takes. Please try again later.",
                self.id
            ))
        })?;
        let wait = async {
            let turn = match turn {
                Some(turn) => Some(turn),
                None => self.turns.permits().acquire_owned().await.ok(),
            };
            Ok(Lease::new(self, self.occupy().await?, turn))
        };
        timeout(wait_timeout.0, wait).await.unwrap_or_else(|_| {
            Err(Error::Unavailable(format!(
                "The model '{}' had no turn within {wait_timeout}: {}. Please try again later.",
                self.id,
                self.state()
            )))
        })
    }

    /// The sign of life of what computes.
    #[must_use]
    pub fn heartbeat(&self) -> Option<Heartbeat> {
        self.backend().heartbeat()
    }

    /// What can be counted of it now.
    #[must_use]
    pub fn metrics(&self) -> Vec<Metric> {
        let waiting = Metric::number(
            "sconce_model_requests_waiting",
            "Requests that wait for their turn at the model, or until it is loaded.",
            self.waiting.load(Relaxed),
        );
        let mut metrics = self.lifecycle.metrics();
        metrics.push(waiting);
        metrics.extend(self.backend().metrics());
        metrics
    }

    pub(super) fn discovered(&self) -> Option<IndexMap<String, ModelCard>> {
        self.backend().passthrough()?.discovered()
    }

    pub(super) fn lists(&self, id: &str) -> bool {
        self.backend().passthrough().is_some_and(|it| it.lists(id))
    }
}

/// The right to use a model. As long as it lasts the model stays loaded.
pub struct Lease {
    backend: Shared,
    _turn: Option<OwnedSemaphorePermit>,
    /// The last field: by then the lease holds nothing of the model.
    _occupied: Occupied,
}

struct Occupied(Arc<Model>);

impl Lease {
    fn new(model: &Arc<Model>, backend: Shared, turn: Option<OwnedSemaphorePermit>) -> Self {
        Self { backend, _turn: turn, _occupied: Occupied(Arc::clone(model)) }
    }

    #[must_use]
    pub fn backend(&self) -> &dyn Backend {
        &**self.backend
    }
}

/// What a request asks for by its id: a model, or an adapter of one.
pub struct Named {
    pub id: Arc<str>,
    pub model: Arc<Model>,
    pub(super) is_adapter: bool,
}

impl Named {
    /// As [`Model::lease`]; of an adapter, the lease of its base.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub async fn lease(&self) -> Result<Lease, Error> {
        let lease = self.model.lease().await?;
        if !self.is_adapter {
            return Ok(lease);
        }
        let adapted = lease.backend.adapted(&self.id);
        let adapted =
            adapted.ok_or_else(|| Error::Unavailable(format!("The adapter '{}' is not loaded.", self.id)))?;
        Ok(Lease { backend: Arc::new(adapted), ..lease })
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.vacate();
    }
}

/// One request that waits.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    /// `None` where as many wait already as may.
    fn new(count: &'a AtomicU64, most: Option<u32>) -> Option<Self> {
        let one_more = |count| most.is_none_or(|most| count < u64::from(most)).then_some(count + 1);
        count.fetch_update(Relaxed, Relaxed, one_more).ok().map(|_| Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
