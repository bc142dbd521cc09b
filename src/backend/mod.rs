//! What answers requests: the trait that every backend fulfils, their configuration, and the registry that finds
//! one by the model id that it serves.

#[cfg(feature = "candle")]
pub mod candle;
pub mod echo;
pub mod metric;
pub mod passthrough;
pub mod proxy;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use futures_util::{
    StreamExt,
    future::{BoxFuture, try_join_all},
};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use self::{metric::Metric, passthrough::Passthrough};
use crate::generation::{
    Chat, EmbeddingRequest, Embeddings, Error, Events, GenerationRequest, Input, Prompt, PromptText,
    RerankRequest, SamplingParams, Scores,
};

/// The kinds of backend that this build has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Deterministic answers without a model: a stand-in for client test suites.
    #[default]
    Echo,
    /// Local inference.
    #[cfg(feature = "candle")]
    #[serde(alias = "transformers")]
    Candle,
    /// Other OpenAI-compatible servers, such as vLLM.
    #[serde(alias = "vllm_proxy")]
    Proxy,
}

impl Kind {
    pub const ALL: &[Self] = &[
        Self::Echo,
        #[cfg(feature = "candle")]
        Self::Candle,
        Self::Proxy,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            #[cfg(feature = "candle")]
            Self::Candle => "candle",
            Self::Proxy => "proxy",
        }
    }
}

/// How one model is served. At the top level of the configuration these are every model's settings; a table
/// `[models."id"]` overrides them for one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Config {
    /// What answers: `echo`, `proxy`, or `candle` where the build has it.
    pub backend: Kind,
    /// The daemon is ready only when this model has answered a first token, and ends when it cannot be loaded. A model
    /// that is not required joins the others when it is loaded.
    pub required: bool,
    /// Tokens that an answer may have when the request does not say. The echo backend answers whole.
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub max_tokens: u32,
    /// Sampling temperature when the request does not say. Unset: the model's own default, else 0.7.
    #[garde(inner(range(min = 0.0, max = 2.0)))]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: Option<f64>,
    /// Nucleus sampling mass when the request does not say. Unset: the model's own default, else 1.0.
    #[garde(inner(range(min = 0.0, max = 1.0)))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top_p: Option<f64>,
    /// The echo backend's own settings.
    #[garde(dive)]
    pub echo: echo::Config,
    /// Local inference's own settings.
    #[cfg(feature = "candle")]
    #[garde(dive)]
    pub candle: candle::Config,
    /// The proxy backend's own settings. A reload puts new ones into effect.
    #[garde(dive)]
    pub proxy: proxy::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            backend: Kind::Echo,
            required: true,
            max_tokens: 512,
            temperature: None,
            top_p: None,
            echo: echo::Config::default(),
            #[cfg(feature = "candle")]
            candle: candle::Config::default(),
            proxy: proxy::Config::default(),
        }
    }
}

/// Whether a model can serve now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Not yet, and why: for people and for `/health/ready`.
    NotReady(String),
}

/// A sign of life of what computes a backend's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Grows with each step.
    pub steps: u64,
    /// There is work that the next step would do. It may only stand still while there is none.
    pub busy: bool,
}

/// What clients are told about a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCard {
    /// Seconds since 1970 at which the model began to be served.
    pub created: u64,
    /// `owned_by` of the models list.
    pub owner: String,
    /// Names what the bytes of an answer depend on; equal fingerprints give equal answers.
    pub fingerprint: String,
    /// Tokens of prompt and completion together; 0 where that is not known.
    pub context_length: u32,
}

/// Serves one model.
pub trait Backend: Send + Sync {
    fn card(&self) -> &ModelCard;

    fn readiness(&self) -> Readiness;

    /// Makes ready to serve. Called once, when the daemon starts; the model is not ready before.
    ///
    /// # Errors
    /// Why it can never serve.
    fn load(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Whether a failure of `load` was one that may pass by itself, such as of a network.
    fn may_load_later(&self) -> bool {
        false
    }

    /// What can be counted of it now.
    fn metrics(&self) -> Vec<Metric> {
        Vec::new()
    }

    /// Answers one token, after `load` and before the first request.
    ///
    /// # Errors
    /// Why it cannot.
    fn warm_up(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(first_token(|request| self.generate(request)))
    }

    /// `None` where nothing is computed here.
    fn heartbeat(&self) -> Option<Heartbeat> {
        None
    }

    /// Whether the configuration names files that a reload reads again, though it says the same.
    fn reads_files_again(&self) -> bool {
        false
    }

    /// What takes this one's place under a changed configuration and goes on with what it has, such as connections.
    /// `None`: it is built anew.
    fn successor(&self, _config: &Config, _created: u64) -> Option<Box<dyn Backend>> {
        None
    }

    /// Starts a generation. What can be refused is refused here, before the first event.
    fn generate(&self, _request: GenerationRequest) -> BoxFuture<'_, Result<Events, Error>> {
        Box::pin(std::future::ready(Err(Error::unsupported("model", "This model does not continue texts."))))
    }

    fn rerank(&self, _request: RerankRequest) -> BoxFuture<'_, Result<Scores, Error>> {
        Box::pin(std::future::ready(Err(Error::unsupported("model", "This model does not score documents."))))
    }

    fn embed(&self, _request: EmbeddingRequest) -> BoxFuture<'_, Result<Embeddings, Error>> {
        Box::pin(std::future::ready(Err(Error::unsupported("model", "This model does not make embeddings."))))
    }

    /// `None` where the backend has no tokenizer of its own.
    fn tokenizer(&self) -> Option<&dyn Tokenizer>;

    /// What requests are handed to unparsed; `None` where the backend answers them itself.
    fn passthrough(&self) -> Option<&dyn Passthrough> {
        None
    }
}

/// Asks for one token, and waits for it.
async fn first_token<'a>(
    generate: impl FnOnce(GenerationRequest) -> BoxFuture<'a, Result<Events, Error>>,
) -> Result<(), String> {
    let prompt = Prompt { text: PromptText::Tokens(vec![0]), suffix: None, echo: false };
    let sampling =
        SamplingParams { temperature: Some(0.0), max_tokens: Some(1), ..SamplingParams::default() };
    let input = Input::Prompt(prompt);
    let request =
        GenerationRequest { input, sampling, choices: 1, best_of: 1, stream: false, logprobs: None };
    let mut events = generate(request).await.map_err(|error| error.to_string())?;
    while let Some(event) = events.next().await {
        event.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Text ↔ token ids, as the model sees them.
pub trait Tokenizer: Send + Sync {
    fn tokenize(&self, prompt: &PromptText) -> Result<Vec<u32>, Error>;

    /// The ids of the conversation as the chat template renders it.
    fn tokenize_chat(&self, chat: &Chat) -> Result<Vec<u32>, Error>;

    fn detokenize(&self, tokens: &[u32]) -> Result<String, Error>;
}

/// The models that are served, in the configuration's order. Clones share them.
#[derive(Clone)]
pub struct Registry {
    models: Arc<ArcSwap<Models>>,
}

/// Rows of the registry by model id.
pub type Models = IndexMap<Arc<str>, Arc<Model>>;

/// One row of the registry.
pub struct Model {
    pub kind: Kind,
    pub backend: Box<dyn Backend>,
    /// What it was made of.
    config: Config,
    /// Whether it has loaded and answered, or why it cannot. Empty as long as that is open.
    outcome: OnceCell<Result<(), String>>,
}

impl Model {
    /// `before` is what was served under this id until now.
    fn new(id: &str, config: &Config, created: u64, before: Option<&Arc<Self>>) -> Self {
        let before = before.filter(|before| before.kind == config.backend);
        let backend = before.and_then(|before| before.backend.successor(config, created));
        let backend = backend.unwrap_or_else(|| match config.backend {
            Kind::Echo => Box::new(echo::Echo::new(id, config, created)),
            #[cfg(feature = "candle")]
            Kind::Candle => Box::new(candle::Candle::new(id, config, created)),
            Kind::Proxy => Box::new(proxy::Proxy::new(config, created)),
        });
        Self { kind: config.backend, backend, config: config.clone(), outcome: OnceCell::new() }
    }

    /// A model that needs no loading.
    #[must_use]
    pub fn loaded(kind: Kind, backend: Box<dyn Backend>) -> Self {
        let config = Config { backend: kind, ..Config::default() };
        Self { kind, backend, config, outcome: OnceCell::new_with(Some(Ok(()))) }
    }

    /// Whether it can serve now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        match (self.outcome.get(), self.backend.readiness()) {
            (Some(Err(reason)), _) => Readiness::NotReady(reason.clone()),
            (None, Readiness::Ready) => Readiness::NotReady("warming up".to_owned()),
            (_, readiness) => readiness,
        }
    }

    /// Loads once, however many ask for it.
    async fn load(&self) -> Result<(), String> {
        let outcome = self.outcome.get_or_init(async || {
            self.backend.load().await?;
            self.backend.warm_up().await.map_err(|error| format!("it does not answer: {error}"))
        });
        outcome.await.clone()
    }

    fn has_failed(&self) -> bool {
        matches!(self.outcome.get(), Some(Err(_)))
    }
}

impl Model {
    fn discovered(&self) -> Option<IndexMap<String, ModelCard>> {
        self.backend.passthrough()?.discovered()
    }
}

impl FromIterator<(String, Model)> for Registry {
    fn from_iter<I: IntoIterator<Item = (String, Model)>>(models: I) -> Self {
        Self::of(models.into_iter().map(|(id, model)| (id.into(), Arc::new(model))).collect())
    }
}

impl Registry {
    fn of(models: Models) -> Self {
        Self { models: Arc::new(ArcSwap::from_pointee(models)) }
    }

    /// Builds every model of `served`, which maps model ids to their settings.
    #[must_use]
    pub fn new(served: &IndexMap<String, Config>) -> Self {
        Self::of(IndexMap::new()).with(served)
    }

    /// A registry for `served`: models that are here already and whose settings are the same are shared, the others
    /// and those that have failed are built anew and not loaded.
    #[must_use]
    pub fn with(&self, served: &IndexMap<String, Config>) -> Self {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let known = self.models.load();
        let row = |(id, config): (&String, &Config)| {
            let stays = |model: &&Arc<Model>| {
                model.config == *config && !model.has_failed() && !model.backend.reads_files_again()
            };
            let same = known.get(id.as_str()).filter(stays);
            let model = same.map_or_else(
                || Arc::new(Model::new(id, config, created, known.get(id.as_str()))),
                Arc::clone,
            );
            (Arc::from(id.as_str()), model)
        };
        Self::of(served.iter().map(row).collect())
    }

    /// Serves the models of `other` from now on. What runs finishes on the models that it began with.
    pub fn adopt(&self, other: &Self) {
        self.models.store(other.models.load_full());
    }

    /// A model, and its id as it is owned here.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<(Arc<str>, Arc<Model>)> {
        let models = self.models.load();
        let (id, model) = models.get_key_value(id)?;
        model.discovered().is_none().then(|| (Arc::clone(id), Arc::clone(model)))
    }

    /// The model whose backend has a [`Passthrough`] that requests for `id` are handed to unparsed.
    #[must_use]
    pub fn passthrough(&self, id: &str) -> Option<Arc<Model>> {
        let through = |model: &Arc<Model>| model.backend.passthrough().is_some();
        match self.find(id) {
            Some((_, model)) => Some(model).filter(through),
            None => {
                let models = self.models.load();
                let lists = |model: &&Arc<Model>| model.backend.passthrough().is_some_and(|it| it.lists(id));
                models.values().find(lists).cloned()
            }
        }
    }

    /// What is told of each model that is served.
    #[must_use]
    pub fn cards(&self) -> IndexMap<Arc<str>, ModelCard> {
        let mut cards = IndexMap::new();
        for (id, model) in self.models.load().iter() {
            match model.discovered() {
                None => drop(cards.insert(Arc::clone(id), model.backend.card().clone())),
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
        self.models.load().values().any(|model| model.backend.passthrough().is_some())
    }

    /// Every model by its id, as they are now.
    #[must_use]
    pub fn models(&self) -> Arc<Models> {
        self.models.load_full()
    }

    /// Loads every model that is not loaded, and lets it answer a first token. Those that are not required go on in
    /// the background.
    ///
    /// # Errors
    /// Which of the required ones can never serve, and why.
    pub async fn load(&self) -> Result<(), String> {
        let models = self.models();
        let open = || models.iter().filter(|(_, model)| model.outcome.get().is_none());
        for (id, model) in open().filter(|(_, model)| !model.config.required) {
            let (id, model) = (Arc::clone(id), Arc::clone(model));
            tokio::spawn(async move {
                if let Err(error) = model.load().await {
                    tracing::error!(model = &*id, %error, "the model {id} cannot be served: {error}");
                }
            });
        }
        let required = open().filter(|(_, model)| model.config.required).map(async |(id, model)| {
            model.load().await.map_err(|error| format!("the model '{id}' cannot be served: {error}"))
        });
        try_join_all(required).await.map(drop)
    }

    /// Whether a model that failed to load may load when the daemon is started again.
    #[must_use]
    pub fn may_load_later(&self) -> bool {
        self.models.load().values().any(|model| model.has_failed() && model.backend.may_load_later())
    }

    /// `NotReady`, with every reason, until each required model can serve.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let models = self.models.load();
        let reasons: Vec<String> = models
            .iter()
            .filter(|(_, model)| model.config.required)
            .filter_map(|(id, model)| match model.readiness() {
                Readiness::Ready => None,
                Readiness::NotReady(reason) => Some(format!("{id}: {reason}")),
            })
            .collect();
        if reasons.is_empty() { Readiness::Ready } else { Readiness::NotReady(reasons.join("; ")) }
    }

    /// The sign of life of each model that gives one.
    #[must_use]
    pub fn heartbeats(&self) -> Vec<(Arc<str>, Heartbeat)> {
        let models = self.models.load();
        models.iter().filter_map(|(id, model)| Some((Arc::clone(id), model.backend.heartbeat()?))).collect()
    }
}
