//! What answers requests: the trait that every backend fulfils, their configuration, and the registry that finds
//! one by the model id that it serves.

#[cfg(feature = "candle")]
pub mod candle;
pub mod echo;
pub mod passthrough;
pub mod proxy;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::future::{BoxFuture, TryFutureExt, try_join_all};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::passthrough::Passthrough;
use crate::generation::{Chat, EmbeddingRequest, Embeddings, Error, Events, GenerationRequest, PromptText};

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

impl Config {
    /// The same, with what a reload puts into effect as `other` has it.
    #[must_use]
    pub fn with_reloadable_of(self, other: &Self) -> Self {
        match (self.backend, other.backend) {
            (Kind::Proxy, Kind::Proxy) => Self { proxy: other.proxy.clone(), ..self },
            _ => self,
        }
    }
}

/// A change of the configuration that is ready to be put into effect.
pub type Change = Box<dyn FnOnce() + Send>;

/// Whether a model can serve now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Not yet, and why: for people and for `/health/ready`.
    NotReady(String),
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

    /// Gets ready for a new configuration without changing anything yet. `None` where nothing of it can change while the
    /// daemon runs.
    ///
    /// # Errors
    /// Why the new configuration cannot be put into effect.
    fn prepare(&self, _config: &Config) -> Result<Option<Change>, String> {
        Ok(None)
    }

    /// Starts a generation. What can be refused is refused here, before the first event.
    fn generate(&self, _request: GenerationRequest) -> BoxFuture<'_, Result<Events, Error>> {
        Box::pin(std::future::ready(Err(Error::unsupported("model", "This model does not continue texts."))))
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

/// Text ↔ token ids, as the model sees them.
pub trait Tokenizer: Send + Sync {
    fn tokenize(&self, prompt: &PromptText) -> Result<Vec<u32>, Error>;

    /// The ids of the conversation as the chat template renders it.
    fn tokenize_chat(&self, chat: &Chat) -> Result<Vec<u32>, Error>;

    fn detokenize(&self, tokens: &[u32]) -> Result<String, Error>;
}

/// The models that are served, in the configuration's order.
#[derive(Clone)]
pub struct Registry {
    models: Arc<IndexMap<String, Model>>,
}

/// One row of the registry.
pub struct Model {
    pub kind: Kind,
    pub backend: Box<dyn Backend>,
}

impl Model {
    fn discovered(&self) -> Option<IndexMap<String, ModelCard>> {
        self.backend.passthrough()?.discovered()
    }
}

impl FromIterator<(String, Model)> for Registry {
    fn from_iter<I: IntoIterator<Item = (String, Model)>>(models: I) -> Self {
        Self { models: Arc::new(models.into_iter().collect()) }
    }
}

impl Registry {
    /// Builds every model of `served`, which maps model ids to their settings.
    #[must_use]
    pub fn new(served: &IndexMap<String, Config>) -> Self {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let build = |(id, config): (&String, &Config)| {
            let backend: Box<dyn Backend> = match config.backend {
                Kind::Echo => Box::new(echo::Echo::new(id, config, created)),
                #[cfg(feature = "candle")]
                Kind::Candle => Box::new(candle::Candle::new(id, config, created)),
                Kind::Proxy => Box::new(proxy::Proxy::new(config, created)),
            };
            (id.clone(), Model { kind: config.backend, backend })
        };
        served.iter().map(build).collect()
    }

    /// A model, and its id as it is owned here.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<(&str, &Model)> {
        let (id, model) = self.models.get_key_value(id)?;
        model.discovered().is_none().then_some((id.as_str(), model))
    }

    /// What requests for a model are handed to unparsed.
    #[must_use]
    pub fn passthrough(&self, id: &str) -> Option<&dyn Passthrough> {
        match self.find(id) {
            Some((_, model)) => model.backend.passthrough(),
            None => {
                self.models.values().find_map(|model| model.backend.passthrough().filter(|it| it.lists(id)))
            }
        }
    }

    /// What is told of each model that is served.
    #[must_use]
    pub fn cards(&self) -> IndexMap<String, ModelCard> {
        let mut cards = IndexMap::new();
        for (id, model) in self.iter() {
            match model.discovered() {
                None => drop(cards.insert(id.to_owned(), model.backend.card().clone())),
                Some(discovered) => {
                    for (id, card) in discovered {
                        cards.entry(id).or_insert(card);
                    }
                }
            }
        }
        cards
    }

    /// Whether some of the models are answered by other servers.
    #[must_use]
    pub fn has_passthrough(&self) -> bool {
        self.models.values().any(|model| model.backend.passthrough().is_some())
    }

    /// Gets ready for a new configuration, as far as models can change while they are served.
    ///
    /// # Errors
    /// Which of them cannot, and why.
    pub fn prepare(&self, served: &IndexMap<String, Config>) -> Result<Vec<Change>, String> {
        let mut changes = Vec::new();
        for (id, model) in self.iter() {
            let Some(config) = served.get(id).filter(|config| config.backend == model.kind) else { continue };
            let told = |error| format!("the model '{id}': {error}");
            changes.extend(model.backend.prepare(config).map_err(told)?);
        }
        Ok(changes)
    }

    /// Every model with its id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Model)> {
        self.models.iter().map(|(id, model)| (id.as_str(), model))
    }

    /// Loads every model.
    ///
    /// # Errors
    /// Which of them can never serve, and why.
    pub async fn load(&self) -> Result<(), String> {
        let loading = self.iter().map(|(id, model)| {
            let told = move |error| format!("the model '{id}' cannot be served: {error}");
            model.backend.load().map_err(told)
        });
        try_join_all(loading).await.map(drop)
    }

    /// `NotReady`, with every reason, until each model can serve.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let reasons: Vec<String> = self
            .iter()
            .filter_map(|(id, model)| match model.backend.readiness() {
                Readiness::Ready => None,
                Readiness::NotReady(reason) => Some(format!("{id}: {reason}")),
            })
            .collect();
        if reasons.is_empty() { Readiness::Ready } else { Readiness::NotReady(reasons.join("; ")) }
    }
}
