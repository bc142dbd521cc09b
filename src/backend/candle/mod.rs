//! The candle backend: local inference. The one place where [`crate::text`] and [`crate::engine`] meet.
//!
//! A request becomes token ids ([`prepare`]), the engine continues them, and its tokens become text ([`answer`]). A model
//! loads on a thread of its own; until then it is not ready, and says so.

mod adapted;
mod answer;
mod builtin;
mod choice;
mod defaults;
mod fingerprint;
mod gguf;
pub mod inspect;
mod loading;
mod metrics;
mod opened;
mod prepare;
mod source;
mod vectors;
mod words;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use futures_util::future::{BoxFuture, FutureExt};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{
    defaults::Defaults,
    loading::{GiveBack, Measured},
    source::{Absent, Source},
    vectors::Encoder,
};
use super::{Backend, Footprint, Heartbeat, ModelCard, Readiness, Tokenizer, first_token, metric::Metric};
use crate::{
    engine::{self, Engine, Stop},
    generation::{
        Chat, EmbeddingRequest, Embeddings, Error, Events, GenerationRequest, PromptText, RerankRequest,
        Scores,
    },
    model::{self, Device, Task},
    text::{self, ChatTemplate, channels::Format},
    units::ByteSize,
};

/// Settings of the candle backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Config {
    /// Where the model is: a directory in Hugging Face's layout (`config.json`, `tokenizer.json`, `*.safetensors`), or a
    /// GGUF file, which needs nothing beside it; or its id on the Hugging Face hub: `org/name`, `org/name@revision`,
    /// `org/name:file.gguf`. `builtin:demo` is the small model inside the program. Unset: the model's own id.
    #[garde(custom(builtin::known))]
    pub source: Option<PathBuf>,
    /// Where a LoRA adapter is: a directory in PEFT's layout (`adapter_config.json`, `adapter_model.safetensors`). The model
    /// is then `base` with this adapter, and shares its memory and its batches.
    pub adapter: Option<PathBuf>,
    /// Id of the model that the adapter is for. Of its own an adapter has `max_tokens`, `temperature` and `top_p`; all else
    /// is the base's.
    pub base: Option<String>,
    /// What the model is for: `generate` (it continues texts), `embed` (it makes vectors of texts) or `rerank` (it scores
    /// documents). Unset: what its files say.
    pub task: Option<Task>,
    /// Where it runs: `cpu`; `cuda`, an NVIDIA GPU (`cuda:1` the second); `metal`, Apple's. A GPU needs a build with the
    /// cargo feature of its name, and its answers may depend on what else runs. A model must fit into its free memory,
    /// with `kv_cache`.
    #[garde(custom(known_device))]
    pub device: String,
    /// Threads that compute. Unset: one for each core. The answers do not depend on it.
    #[garde(inner(range(min = 1, max = 1024)))]
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u32>,
    /// The instructions that compute: `scalar`; on x86 `avx2`, `avx-vnni`, `avx512`, `avx512-vnni` or `amx`; on Arm `neon` or
    /// `neon-dotprod`. Unset: the fastest that the CPU has. The answers do not depend on it.
    pub instructions: Option<String>,
    /// Tokens of prompt and completion together, where fewer than the model takes are wanted.
    #[garde(inner(range(min = 1)))]
    #[schemars(range(min = 1))]
    pub context_length: Option<u32>,
    /// Memory of the KV cache, shared by all sequences. Unset: 512MiB, or less where that is more than an eighth of
    /// `memory_budget`, or than `max_sequences` sequences of the full context take.
    pub kv_cache: Option<ByteSize>,
    /// Tokens in one step: a long prompt runs in pieces of this size, between which others go on.
    #[garde(range(min = 1, max = 65_536))]
    #[schemars(range(min = 1, max = 65_536))]
    pub max_batch_tokens: u32,
    /// Sequences in one step.
    #[garde(range(min = 1, max = 65_536))]
    #[schemars(range(min = 1, max = 65_536))]
    pub max_sequences: u32,
    /// Requests that may wait for their first step; one more gets 429.
    #[garde(range(min = 1, max = 1_000_000))]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_waiting: u32,
    /// Keep what was computed for prompts that begin alike. The answers do not depend on it.
    pub prefix_cache: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            source: None,
            adapter: None,
            base: None,
            task: None,
            device: Device::Cpu.to_string(),
            threads: None,
            instructions: None,
            context_length: None,
            kv_cache: None,
            max_batch_tokens: 512,
            max_sequences: 64,
            max_waiting: 1024,
            prefix_cache: true,
        }
    }
}

/// One model under one id.
pub struct Candle {
    model: String,
    config: Config,
    settings: Settings,
    adapters: Vec<adapted::Wanted>,
    /// What is told of the model until it is loaded.
    unloaded: ModelCard,
    /// Between `footprint` and `load`.
    measured: Mutex<Option<Measured>>,
    served: OnceLock<Served>,
    progress: Progress,
    /// It could not be downloaded, and may be later.
    later: AtomicBool,
    /// Held while it loads, also by a load that nobody waits for any more.
    loading: Arc<tokio::sync::Mutex<()>>,
}

/// How far the loading is, in words.
type Progress = Arc<ArcSwap<String>>;

/// What the configuration says for requests that do not say.
#[derive(Debug, Clone)]
struct Settings {
    max_tokens: u32,
    temperature: Option<f64>,
    top_p: Option<f64>,
}

impl Settings {
    fn of(config: &super::Config) -> Self {
        Self { max_tokens: config.max_tokens, temperature: config.temperature, top_p: config.top_p }
    }
}

/// A model that is loaded, by what it does.
enum Served {
    Generator(Arc<Loaded>),
    Encoder(Arc<Encoder>),
}

impl Served {
    fn tokenizer(&self) -> &text::Tokenizer {
        match self {
            Self::Generator(loaded) => &loaded.tokenizer,
            Self::Encoder(encoder) => &encoder.tokenizer,
        }
    }
}

/// A model that continues texts.
struct Loaded {
    tokenizer: text::Tokenizer,
    template: ChatTemplate,
    format: Format,
    defaults: Defaults,
    engine: Engine,
    card: ModelCard,
    adapters: Vec<adapted::Served>,
    /// The last field, to be dropped when the others have been.
    _heap: GiveBack,
}

impl Candle {
    /// `adapters` are those that are served with it, by their ids.
    #[must_use]
    pub fn new(
        model: &str,
        config: &super::Config,
        adapters: &IndexMap<String, super::Config>,
        created: u64,
    ) -> Self {
        let settings = Settings::of(config);
        let fingerprint = "loading".to_owned();
        let unloaded = ModelCard { created, owner: "sconce".to_owned(), fingerprint, context_length: 0 };
        Self {
            model: model.to_owned(),
            config: config.candle.clone(),
            settings,
            adapters: adapters.iter().map(|(id, config)| adapted::Wanted::new(id, config)).collect(),
            unloaded,
            measured: Mutex::default(),
            served: OnceLock::new(),
            progress: Arc::new(ArcSwap::from_pointee("loading".to_owned())),
            later: AtomicBool::new(false),
            loading: Arc::default(),
        }
    }

    fn served(&self) -> Result<&Served, Error> {
        self.served.get().ok_or_else(|| Error::Unavailable(format!("The model '{}' is loading.", self.model)))
    }

    /// As a model that continues texts.
    fn loaded(&self) -> Result<&Arc<Loaded>, Error> {
        match self.served()? {
            Served::Generator(loaded) => Ok(loaded),
            Served::Encoder(encoder) => {
                let (does, path) = match encoder.task {
                    Task::Rerank => ("scores documents", "/rerank"),
                    Task::Embed | Task::Generate => ("makes embeddings", "/embeddings"),
                };
                let message = format!(
                    "The model '{}' {does}: ask it at '{path}'. It does not continue texts.",
                    self.model
                );
                Err(Error::unsupported("model", message))
            }
        }
    }

    /// As a model that makes vectors.
    fn encoder(&self, wanted: &str) -> Result<Arc<Encoder>, Error> {
        match self.served()? {
            Served::Encoder(encoder) => Ok(Arc::clone(encoder)),
            Served::Generator(_) => {
                let message = format!(
                    "The model '{}' continues texts and {wanted}. One that does is made of an encoder, or of a model with \
                     sentence-transformers' files; 'candle.task' says so where there are none.",
                    self.model
                );
                Err(Error::unsupported("model", message))
            }
        }
    }
}

impl Loaded {
    fn context_length(&self) -> usize {
        self.card.context_length as usize
    }

    fn readiness(&self) -> Readiness {
        if self.engine.is_stopped() { stopped() } else { Readiness::Ready }
    }

    /// Answers through the adapter of that number, where there is one.
    fn generate(
        self: &Arc<Self>,
        request: GenerationRequest,
        settings: &Settings,
        adapter: Option<u32>,
    ) -> Result<Events, Error> {
        let prepared = self.prepare(request, settings)?;
        let request = engine::Request { adapter, ..prepared.request };
        let generation = self.engine.submit(request).map_err(prepare::refusal)?;
        Ok(Box::pin(answer::stream(Arc::clone(self), generation, prepared.plan)))
    }
}

fn stopped() -> Readiness {
    Readiness::NotReady("the engine has stopped".to_owned())
}

/// A rule for the configuration: this build has the device.
fn known_device(name: &str, (): &()) -> garde::Result {
    let lacking = |lacking: model::device::Lacking| garde::Error::new(lacking);
    name.parse::<Device>().map(drop).map_err(lacking)
}

impl Backend for Candle {
    fn card(&self) -> &ModelCard {
        match self.served.get() {
            None => &self.unloaded,
            Some(Served::Generator(loaded)) => &loaded.card,
            Some(Served::Encoder(encoder)) => &encoder.card,
        }
    }

    fn readiness(&self) -> Readiness {
        match self.served.get() {
            None => Readiness::NotReady(self.progress.load().to_string()),
            Some(Served::Generator(loaded)) => loaded.readiness(),
            Some(Served::Encoder(encoder)) if encoder.batcher.is_stopped() => stopped(),
            Some(Served::Encoder(_)) => Readiness::Ready,
        }
    }

    fn footprint(&self, budget: Option<u64>) -> BoxFuture<'_, Result<Footprint, String>> {
        let (model, config, adapters) = (self.model.clone(), self.config.clone(), self.adapters.clone());
        let progress = Arc::clone(&self.progress);
        async move {
            let obtaining = tokio::task::spawn_blocking(move || {
                let source = Source::of(Some(&model), &config)?.obtain(loading::hears(&model, &progress))?;
                Ok((source, config, progress))
            });
            let (source, config, progress) =
                obtaining.await.map_err(|error| error.to_string())?.map_err(|absent: Absent| {
                    self.later.store(absent.is_temporary(), Relaxed);
                    absent.to_string()
                })?;
            let measuring =
                tokio::task::spawn_blocking(move || Measured::new(source, &config, &adapters, budget));
            let measured = measuring.await.map_err(|error| error.to_string())??;
            let footprint = measured.of_the_host();
            *self.measured.lock().unwrap_or_else(PoisonError::into_inner) = Some(measured);
            progress.store(Arc::new("waiting for memory".to_owned()));
            Ok(footprint)
        }
        .boxed()
    }

    fn load(&self) -> BoxFuture<'_, Result<(), String>> {
        let (config, settings, created) = (self.config.clone(), self.settings.clone(), self.unloaded.created);
        let (progress, adapters) = (Arc::clone(&self.progress), self.adapters.clone());
        let measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner).take();
        let lock = Arc::clone(&self.loading);
        async move {
            let lock = lock.lock_owned().await;
            progress.store(Arc::new("loading".to_owned()));
            let measured = measured.ok_or_else(|| "its headers have not been read".to_owned())?;
            let loading = tokio::task::spawn_blocking(move || {
                // The lock is let go after what was loaded, should nobody take that.
                (Served::load(measured, &config, &settings, &adapters, created, &progress), lock)
            });
            let (served, _lock) = loading.await.map_err(|error| error.to_string())?;
            let served = served?;
            // Loaded once; a second call has nothing to add.
            let _ = self.served.set(served);
            Ok(())
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            let _lock = self.loading.lock().await;
            match self.served.get() {
                None => {}
                Some(Served::Generator(loaded)) => {
                    loaded.engine.stop(Stop::Abort);
                    loaded.engine.stopped().await;
                }
                Some(Served::Encoder(encoder)) => {
                    encoder.batcher.stop();
                    encoder.batcher.stopped().await;
                }
            }
        }
        .boxed()
    }

    fn may_load_later(&self) -> bool {
        self.later.load(Relaxed)
    }

    fn metrics(&self) -> Vec<Metric> {
        match self.served.get() {
            None => Vec::new(),
            Some(Served::Generator(loaded)) => metrics::metrics(&loaded.engine.stats()),
            Some(Served::Encoder(encoder)) => encoder.metrics(),
        }
    }

    fn warm_up(&self) -> BoxFuture<'_, Result<(), String>> {
        match self.served.get() {
            Some(Served::Encoder(encoder)) => {
                async { encoder.warm_up().await.map_err(|error| error.to_string()) }.boxed()
            }
            _ => first_token(|request| self.generate(request)).boxed(),
        }
    }

    fn heartbeat(&self) -> Option<Heartbeat> {
        let engine = match self.served.get()? {
            Served::Generator(loaded) => &loaded.engine,
            Served::Encoder(encoder) => return Some(encoder.heartbeat()),
        };
        let stats = engine.stats();
        // An engine that has ended takes no step any more, which is not what anybody who waits for one wants.
        Some(Heartbeat { steps: stats.steps, busy: stats.is_busy() || engine.is_stopped() })
    }

    fn generate(&self, request: GenerationRequest) -> BoxFuture<'_, Result<Events, Error>> {
        async move { self.loaded()?.generate(request, &self.settings, None) }.boxed()
    }

    fn embed(&self, request: EmbeddingRequest) -> BoxFuture<'_, Result<Embeddings, Error>> {
        async move { self.encoder("makes no embeddings")?.embed(request).await }.boxed()
    }

    fn rerank(&self, request: RerankRequest) -> BoxFuture<'_, Result<Scores, Error>> {
        async move { self.encoder("does not score documents")?.rerank(request).await }.boxed()
    }

    fn adapted(&self, id: &str) -> Option<Box<dyn Backend>> {
        let Some(Served::Generator(loaded)) = self.served.get() else { return None };
        Some(Box::new(adapted::Adapted::new(loaded, id)?))
    }

    fn tokenizer(&self) -> Option<&dyn Tokenizer> {
        Some(self)
    }
}

impl Tokenizer for Candle {
    fn tokenize(&self, prompt: &PromptText) -> Result<Vec<u32>, Error> {
        match self.served()? {
            Served::Generator(loaded) => loaded.tokenize(prompt),
            Served::Encoder(encoder) => encoder.tokens(prompt),
        }
    }

    fn tokenize_chat(&self, chat: &Chat) -> Result<Vec<u32>, Error> {
        self.loaded()?.tokenize_chat(chat)
    }

    fn detokenize(&self, tokens: &[u32]) -> Result<String, Error> {
        self.served()?.tokenizer().decode(tokens, false)
    }
}

impl Tokenizer for Loaded {
    fn tokenize(&self, prompt: &PromptText) -> Result<Vec<u32>, Error> {
        prepare::ids(&self.tokenizer, prompt)
    }

    fn tokenize_chat(&self, chat: &Chat) -> Result<Vec<u32>, Error> {
        Ok(self.chat(chat)?.0)
    }

    fn detokenize(&self, tokens: &[u32]) -> Result<String, Error> {
        self.tokenizer.decode(tokens, false)
    }
}
