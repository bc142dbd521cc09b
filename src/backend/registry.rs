//! The models that are served, by their ids.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use futures_util::future::try_join_all;
use indexmap::IndexMap;

use super::{
    Config, Heartbeat, Load, Metric, ModelCard, Readiness,
    memory::Memory,
    model::{Model, Policy},
};
use crate::units::ByteSize;

/// The models that are served, in the configuration's order. Clones share them.
#[derive(Clone)]
pub struct Registry {
    models: Arc<ArcSwap<Models>>,
    /// What each of them is to follow once they serve.
    policies: Arc<IndexMap<Arc<str>, Policy>>,
    /// Bytes that they may take together.
    budget: Option<u64>,
    memory: Arc<Memory>,
}

/// Rows of the registry by model id.
pub type Models = IndexMap<Arc<str>, Arc<Model>>;

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
        Self { models: Arc::new(ArcSwap::from_pointee(models)), policies, budget, memory }
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
        let known = self.models.load();
        let row = |(id, config): (&String, &Config)| {
            let before = known.get(id.as_str());
            let same =
                before.filter(|model| model.is_made_of(config) && !model.lifecycle.has_failed()).cloned();
            let id: Arc<str> = Arc::from(id.as_str());
            let model =
                same.unwrap_or_else(|| Arc::new(Model::new(&id, config, created, before, &self.memory)));
            (id, model)
        };
        let policies = served.iter().map(|(id, config)| (Arc::from(id.as_str()), Policy::of(config)));
        let models = served.iter().map(row).collect();
        let budget = budget.map(|ByteSize(bytes)| bytes);
        Self::of(models, Arc::new(policies.collect()), budget, Arc::clone(&self.memory))
    }

    /// Serves the models of `other` from now on. What runs finishes on the models that it began with.
    pub fn adopt(&self, other: &Self) {
        let models = other.models.load_full();
        for (id, policy) in &*other.policies {
            if let Some(model) = models.get(id) {
                model.follow(policy);
            }
        }
        self.models.store(models);
        let memory = Arc::clone(&self.memory);
        tokio::spawn(async move { memory.shrink().await });
    }

    /// A model, and its id as it is owned here.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<(Arc<str>, Arc<Model>)> {
        let models = self.models.load();
        let (id, model) = models.get_key_value(id)?;
        model.discovered().is_none().then(|| (Arc::clone(id), Arc::clone(model)))
    }

    /// The model whose backend has a [`Passthrough`](super::passthrough::Passthrough) that requests for `id` are handed
    /// to unparsed.
    #[must_use]
    pub fn passthrough(&self, id: &str) -> Option<Arc<Model>> {
        let through = |model: &Arc<Model>| model.backend().passthrough().is_some();
        match self.find(id) {
            Some((_, model)) => Some(model).filter(through),
            None => self.models.load().values().find(|model| model.lists(id)).cloned(),
        }
    }

    /// What is told of each model that is served.
    #[must_use]
    pub fn cards(&self) -> IndexMap<Arc<str>, ModelCard> {
        let mut cards = IndexMap::new();
        for (id, model) in self.models.load().iter() {
            match model.discovered() {
                None => drop(cards.insert(Arc::clone(id), model.card())),
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
        self.models.load().values().any(|model| model.backend().passthrough().is_some())
    }

    /// Every model by its id, as they are now.
    #[must_use]
    pub fn models(&self) -> Arc<Models> {
        self.models.load_full()
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
        for (id, model) in open(false) {
            let (id, model) = (Arc::clone(id), Arc::clone(model));
            tokio::spawn(async move {
                if let Err(error) = model.load().await {
                    tracing::error!(model = &*id, %error, "the model {id} cannot be served: {error}");
                }
            });
        }
        let required = open(true).map(async |(id, model)| {
            model.load().await.map_err(|error| format!("the model '{id}' cannot be served: {error}"))
        });
        let loaded = try_join_all(required).await;
        if loaded.is_err() {
            self.memory.set_limit(before);
            models.values().for_each(|model| model.pin(false));
        }
        loaded.map(drop)
    }

    /// `NotReady`, with every reason, until each required model can serve.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let models = self.models.load();
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
        let metric = |name, help, value| Metric { name, help, value };
        let reserved = "Memory that models have, those that are loading or unloading included.";
        let mut metrics = vec![metric("sconce_memory_reserved_bytes", reserved, self.memory.reserved())];
        let budget = self.memory.limit();
        metrics
            .extend(budget.map(|budget| metric("sconce_memory_budget_bytes", "What they may have.", budget)));
        metrics
    }

    /// The sign of life of each model that gives one.
    #[must_use]
    pub fn heartbeats(&self) -> Vec<(Arc<str>, Heartbeat)> {
        let models = self.models.load();
        models.iter().filter_map(|(id, model)| Some((Arc::clone(id), model.heartbeat()?))).collect()
    }
}
