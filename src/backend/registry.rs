//! The models that are served, by their ids.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use futures_util::future::try_join_all;
use indexmap::IndexMap;

use super::{
    Config, Heartbeat, Load, ModelCard, Readiness,
    memory::Memory,
    metric::Metric,
    model::{Model, Named, Policy},
};
use crate::units::ByteSize;

/// The models that are served, in the configuration's order. Clones share them.
#[derive(Clone)]
pub struct Registry {
    rows: Arc<ArcSwap<Rows>>,
    /// What each of them is to follow once they serve.
    policies: Arc<IndexMap<Arc<str>, Policy>>,
    /// Bytes that they may take together.
    budget: Option<u64>,
    memory: Arc<Memory>,
}

/// Rows of the registry by model id.
pub type Models = IndexMap<Arc<str>, Arc<Model>>;

#[derive(Default)]
struct Rows {
    models: Arc<Models>,
    /// Models that are adapters, and those that they adapt.
    adapters: IndexMap<Arc<str>, Arc<Model>>,
}

impl From<Models> for Rows {
    fn from(models: Models) -> Self {
        let of = |model: &Arc<Model>| {
            let ids: Vec<Arc<str>> = model.adapters().map(Arc::from).collect();
            ids.into_iter().map(|id| (id, Arc::clone(model))).collect::<Vec<_>>()
        };
        Self { adapters: models.values().flat_map(of).collect(), models: Arc::new(models) }
    }
}

impl FromIterator<Model> for Registry {
    fn from_iter<I: IntoIterator<Item = Model>>(models: I) -> Self {
        let models = models.into_iter().map(|model| (Arc::clone(model.id()), Arc::new(model)));
        Self::of(models.collect(), Arc::default(), None, Arc::default())
    }
}

impl Registry {
    fn of(
        models: Models,
        policies: Arc<IndexMap<Arc<str>, Policy>>,
        budget: Option<u64>,
        memory: Arc<Memory>,
    ) -> Self {
        Self { rows: Arc::new(ArcSwap::from_pointee(models.into())), policies, budget, memory }
    }

    /// Builds every model of `served`, which maps model ids to their settings. `budget` is what they may take together.
    #[must_use]
    pub fn new(served: &IndexMap<String, Config>, budget: Option<ByteSize>) -> Self {
        Self::of(IndexMap::new(), Arc::default(), None, Arc::default()).with(served, budget)
    }

    /// A registry for `served`: models that are here already and whose settings are the same are shared, the others
    /// and those that have failed are built anew and not loaded.
    #[must_use]
    pub fn with(&self, served: &IndexMap<String, Config>, budget: Option<ByteSize>) -> Self {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let known = self.models();
        let row = |(id, config): (&String, &Config)| {
            let adapters = Config::adapters_of(id, served);
            let before = known.get(id.as_str());
            let stays = |it: &&Arc<Model>| {
                it.is_made_of(config, &adapters)
                    && !it.lifecycle.has_failed()
                    && !it.backend().reads_files_again()
            };
            let same = before.filter(stays);
            let id: Arc<str> = Arc::from(id.as_str());
            let model = same.cloned().unwrap_or_else(|| {
                Arc::new(Model::new(&id, config, &adapters, created, before, &self.memory))
            });
            (id, model)
        };
        let policies = served.iter().map(|(id, config)| (Arc::from(id.as_str()), Policy::of(config)));
        let models = served.iter().filter(|(_, config)| config.base().is_none()).map(row).collect();
        let budget = budget.map(|ByteSize(bytes)| bytes);
        Self::of(models, Arc::new(policies.collect()), budget, Arc::clone(&self.memory))
    }

    /// Serves the models of `other` from now on. What runs finishes on the models that it began with.
    pub fn adopt(&self, other: &Self) {
        let rows = other.rows.load_full();
        for (id, policy) in &*other.policies {
            if let Some(model) = rows.models.get(id) {
                model.follow(policy);
            }
        }
        self.rows.store(rows);
        let memory = Arc::clone(&self.memory);
        tokio::spawn(async move { memory.shrink().await });
    }

    /// A model or an adapter of one, and its id as it is owned here.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Named> {
        let rows = self.rows.load();
        let named = |rows: &IndexMap<Arc<str>, Arc<Model>>, is_adapter| {
            let (id, model) = rows.get_key_value(id)?;
            Some(Named { id: Arc::clone(id), model: Arc::clone(model), is_adapter })
        };
        let found = named(&rows.models, false).or_else(|| named(&rows.adapters, true))?;
        found.model.discovered().is_none().then_some(found)
    }

    /// The model whose backend has a [`Passthrough`](super::passthrough::Passthrough) that requests for `id` are handed
    /// to unparsed.
    #[must_use]
    pub fn passthrough(&self, id: &str) -> Option<Arc<Model>> {
        let through = |model: &Arc<Model>| model.backend().passthrough().is_some();
        match self.find(id) {
            Some(named) => Some(named.model).filter(through),
            None => self.models().values().find(|model| model.lists(id)).cloned(),
        }
    }

    /// What is told of each model that is served, adapters after those that they adapt.
    #[must_use]
    pub fn cards(&self) -> IndexMap<Arc<str>, ModelCard> {
        let mut cards = IndexMap::new();
        for (id, model) in self.models().iter() {
            match model.discovered() {
                None => {
                    cards.insert(Arc::clone(id), model.card());
                    cards.extend(model.adapters().map(|id| (Arc::from(id), model.card_of(id))));
                }
                Some(discovered) => {
                    for (id, card) in discovered {
                        cards.entry(Arc::from(id)).or_insert(card);
                    }
                }
            }
        }
        cards
    }

    /// Whether some of the models are answered by other servers.
    #[must_use]
    pub fn has_passthrough(&self) -> bool {
        self.models().values().any(|model| model.backend().passthrough().is_some())
    }

    /// Every model by its id, as they are now. Adapters are parts of those that they adapt.
    #[must_use]
    pub fn models(&self) -> Arc<Models> {
        Arc::clone(&self.rows.load().models)
    }

    /// Loads every model that is not loaded and is not lazy, and lets it answer a first token. Those that are not
    /// required go on in the background.
    ///
    /// # Errors
    /// Which of the required ones can never serve, and why.
    pub async fn load(&self) -> Result<(), String> {
        let before = self.memory.set_limit(self.budget);
        let models = self.models();
        let wanted = |required: bool| {
            let wanted = move |policy: &Policy| policy.load == Load::Start && policy.required == required;
            models.iter().filter(move |(id, _)| self.policies.get(*id).is_some_and(wanted))
        };
        for (_, model) in wanted(true).chain(wanted(false)) {
            model.pin(true);
        }
        let open = |required| wanted(required).filter(|(_, model)| !model.lifecycle.is_loaded());
        let optional: Vec<_> =
            open(false).map(|(_, model)| tokio::spawn(Arc::clone(model).load_in_time())).collect();
        let required = open(true).map(async |(id, model)| {
            model.load().await.map_err(|error| format!("the model '{id}' cannot be served: {error}"))
        });
        let loaded = try_join_all(required).await;
        if loaded.is_err() {
            self.memory.set_limit(before);
            models.values().for_each(|model| model.pin(false));
            optional.iter().for_each(tokio::task::JoinHandle::abort);
        }
        loaded.map(drop)
    }

    /// Whether a required model that failed to load may load when the daemon is started again.
    #[must_use]
    pub fn may_load_later(&self) -> bool {
        self.models().values().any(|model| model.policy().is_awaited() && model.lifecycle.may_load_later())
    }

    /// `NotReady`, with every reason, until each required model can serve.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let models = self.models();
        let reasons: Vec<String> = models
            .iter()
            .filter(|(_, model)| model.policy().is_awaited())
            .filter_map(|(id, model)| match model.readiness() {
                Readiness::Ready => None,
                Readiness::NotReady(reason) => Some(format!("{id}: {reason}")),
            })
            .collect();
        if reasons.is_empty() { Readiness::Ready } else { Readiness::NotReady(reasons.join("; ")) }
    }

    /// What can be counted of all of them together.
    #[must_use]
    pub fn metrics(&self) -> Vec<Metric> {
        let metric = Metric::number;
        let reserved = "Memory that models have, those that are loading or unloading included.";
        let mut metrics = vec![metric("sconce_memory_reserved_bytes", reserved, self.memory.reserved())];
        let budget = self.memory.limit();
        metrics
            .extend(budget.map(|budget| metric("sconce_memory_budget_bytes", "What they may have.", budget)));
        metrics
    }

    /// The sign of life of each model that gives one. What computes a lazy one's answers may end: it is loaded anew when
    /// somebody asks for it.
    #[must_use]
    pub fn heartbeats(&self) -> Vec<(Arc<str>, Heartbeat)> {
        let models = self.models();
        let counts = |model: &Model| !model.is_lazy() || model.backend().readiness() == Readiness::Ready;
        models
            .iter()
            .filter(|(_, model)| counts(model))
            .filter_map(|(id, model)| Some((Arc::clone(id), model.heartbeat()?)))
            .collect()
    }
}
