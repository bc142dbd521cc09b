//! What answers requests: the trait that every backend fulfils, their configuration, and the registry that finds
//! one by the model id that it serves.

#[cfg(feature = "candle")]
pub mod candle;
pub mod echo;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::future::{BoxFuture, TryFutureExt, try_join_all};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
}

impl Kind {
    pub const ALL: &[Self] = &[
        Self::Echo,
        #[cfg(feature = "candle")]
        Self::Candle,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            #[cfg(feature = "candle")]
            Self::Candle => "candle",
        }
    }
}

/// How one model is served. At the top level of the configuration these are every model's settings; a table
/// `[models."id"]` overrides them for one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Config {
    /// What answers: `echo`, or `candle` where the build has it.
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

/// What clients are told about a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCard {
    /// Seconds since 1970 at which the model began to be served.
    pub created: u64,
    /// `owned_by` of the models list.
    pub owner: String,
    /// Names what the bytes of an answer depend on; equal fingerprints give equal answers.
    pub fingerprint: String,
    /// Tokens of prompt and completion together.
    pub context_length: u32,
}

/// A number that a backend tells of itself, for those who watch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// In Prometheus's style: a counter's name ends in `_total`.
    pub name: &'static str,
    pub help: &'static str,
    pub value: u64,
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

    /// What can be counted of it now.
    fn metrics(&self) -> Vec<Metric> {
        Vec::new()
    }

    /// Starts a generation. What can be refused is refused here, before the first event.
    fn generate(&self, request: GenerationRequest) -> BoxFuture<'_, Result<Events, Error>>;

    fn embed(&self, request: EmbeddingRequest) -> BoxFuture<'_, Result<Embeddings, Error>>;

    /// `None` where the backend has no tokenizer of its own.
    fn tokenizer(&self) -> Option<&dyn Tokenizer>;
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
            };
            (id.clone(), Model { kind: config.backend, backend })
        };
        served.iter().map(build).collect()
    }

    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Model> {
        self.models.get(id)
    }

    /// A model, and its id as it is owned here.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<(&str, &Model)> {
        self.models.get_key_value(id).map(|(id, model)| (id.as_str(), model))
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
