//! What answers requests: the trait that every backend fulfils, their configuration, and the registry that finds
//! one by the model id that it serves.
//!
//! A request finds its [`Model`] in the [`Registry`] and takes a [`Lease`] of it, which loads a model that is loaded on
//! demand and keeps it as long as the request runs. What loaded models take is kept within one budget ([`memory`]).

#[cfg(feature = "candle")]
pub mod candle;
pub mod echo;
pub(crate) mod gate;
mod lifecycle;
pub mod memory;
pub mod metric;
mod model;
pub mod passthrough;
pub mod proxy;
mod registry;

use futures_util::{StreamExt, future::BoxFuture};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    memory::Footprint,
    model::{Lease, Model, Named},
    registry::{Models, Registry},
};

use self::{metric::Metric, passthrough::Passthrough};
use crate::{
    generation::{
        Chat, EmbeddingRequest, Embeddings, Error, Events, GenerationRequest, Input, Prompt, PromptText,
        RerankRequest, SamplingParams, Scores,
    },
    units::Duration,
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
    /// When it is loaded: `start`, with the daemon, to stay; or `lazy`, at its first request, to stay until it is idle
    /// (`idle_unload`) or another needs its memory (`memory_budget`). A proxied model takes no memory and has no such
    /// choice.
    pub load: Load,
    /// The daemon is ready only when this model has answered a first token, and ends when it cannot be loaded. A model
    /// that is not required joins the others when it is loaded. Nobody waits for a lazy one.
    pub required: bool,
    /// A lazy model is unloaded when nobody has asked for it for so long. Unset: only when another needs its memory.
    pub idle_unload: Option<Duration>,
    /// How many requests this model takes at one time.
    #[garde(dive)]
    pub requests: Requests,
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
            load: Load::Start,
            required: true,
            idle_unload: None,
            requests: Requests::default(),
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
    /// Id of the model that this one is an adapter of.
    #[must_use]
    pub fn base(&self) -> Option<&str> {
        #[cfg(feature = "candle")]
        if self.backend == Kind::Candle {
            return self.candle.base.as_deref();
        }
        None
    }

    /// The adapters of the model of this id among `served`, by theirs: what a backend is made of.
    #[must_use]
    pub fn adapters_of(id: &str, served: &IndexMap<String, Self>) -> IndexMap<String, Self> {
        let of_it = served.iter().filter(|(_, other)| other.base() == Some(id));
        of_it.map(|(id, config)| (id.clone(), config.of_the_backend())).collect()
    }

    /// What the backend is made of: without what a model that is loaded can take up from a reload.
    fn of_the_backend(&self) -> Self {
        let Self { load, required, idle_unload, requests, .. } = Self::default();
        Self { load, required, idle_unload, requests, ..self.clone() }
    }
}

/// When a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// With the daemon. It stays.
    Start,
    /// At its first request. It goes when it is idle or another needs its memory.
    Lazy,
}

/// A model's own limits, within those of `limits`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Requests {
    /// Requests of this model that run at one time. Unset: as many as `limits.max_concurrent_requests`.
    #[garde(inner(range(min = 1, max = 1_000_000)))]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_running: Option<u32>,
    /// Requests that may wait for their turn at this model, or until it is loaded; one more gets 429. Unset: as many as
    /// `limits.max_queued_requests`.
    #[garde(inner(range(max = 1_000_000)))]
    #[schemars(range(max = 1_000_000))]
    pub max_waiting: Option<u32>,
    /// How long a request waits for that; then it gets 503. A load that was begun goes on.
    #[garde(custom(some_time))]
    pub wait_timeout: Duration,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "garde hands fields over like this")]
fn some_time(time: &Duration, (): &()) -> garde::Result {
    if time.0.is_zero() { Err(garde::Error::new("must be longer than nothing")) } else { Ok(()) }
}

impl Default for Requests {
    fn default() -> Self {
        Self { max_running: None, max_waiting: None, wait_timeout: Duration::secs(600) }
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

    /// What it will take once it is loaded, as far as that can be told before. Called once, before `load`. `budget` is
    /// what all models may take together, in bytes.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    fn footprint(&self, _budget: Option<u64>) -> BoxFuture<'_, Result<Footprint, String>> {
        Box::pin(std::future::ready(Ok(Footprint::default())))
    }

    /// Makes ready to serve. Called once; the model is not ready before.
    ///
    /// # Errors
    /// Why it can never serve.
    fn load(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Ends what computes, and waits until its memory is given back. Called last, when no request runs.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Whether a failure of `footprint` or `load` was one that may pass by itself, such as of a network.
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

    /// The backend that answers through the adapter of this id, once this one is loaded. It lives as long as this one.
    fn adapted(&self, _id: &str) -> Option<Box<dyn Backend>> {
        None
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
