//! The candle backend: local inference. The one place where [`crate::text`] and [`crate::engine`] meet.
//!
//! A request becomes token ids ([`prepare`]), the engine continues them, and its tokens become text ([`answer`]). A model
//! loads on a thread of its own; until then it is not ready, and says so.

mod adapted;
mod answer;
mod builtin;
mod defaults;
mod fingerprint;
mod gguf;
pub mod inspect;
mod metrics;
mod opened;
mod prepare;
mod words;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread,
    time::Instant,
};

use arc_swap::ArcSwap;
use futures_util::future::{BoxFuture, FutureExt};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{defaults::Defaults, fingerprint::Fingerprint, opened::Opened, words::Words};
use super::{Backend, Footprint, Heartbeat, Metric, ModelCard, Readiness, Tokenizer};
use crate::{
    engine::{self, Engine, Memory, Stop},
    generation::{Chat, EmbeddingRequest, Embeddings, Error, Events, GenerationRequest, PromptText},
    model::{self, BLOCK, Isa, KvType},
    text::{self, ChatTemplate},
    units::ByteSize,
};

/// Tokens of a choice that may wait for their reader before it pauses.
const BUFFERED_TOKENS: usize = 256;

/// Settings of the candle backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Config {
    /// Where the model is: a directory in Hugging Face's layout (`config.json`, `tokenizer.json`, `*.safetensors`), or a
    /// GGUF file, which needs nothing beside it. `builtin:demo` is the small model inside the program.
    #[garde(custom(builtin::known))]
    pub source: Option<PathBuf>,
    /// Where a LoRA adapter is: a directory in PEFT's layout (`adapter_config.json`, `adapter_model.safetensors`). The model
    /// is then `base` with this adapter, and shares its memory and its batches.
    pub adapter: Option<PathBuf>,
    /// Id of the model that the adapter is for. Of its own an adapter has `max_tokens`, `temperature` and `top_p`; all else
    /// is the base's.
    pub base: Option<String>,
    /// Threads that compute. Unset: one for each core. The answers do not depend on it.
    #[garde(inner(range(min = 1, max = 1024)))]
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u32>,
    /// The instructions that compute: `scalar`, `avx2`, `avx512` or `amx`. Unset: the fastest that the CPU has. The answers do
    /// not depend on it.
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
    loaded: OnceLock<Arc<Loaded>>,
    progress: Progress,
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

/// A model whose headers have been read, and the memory that it will take.
struct Measured {
    opened: Opened,
    options: model::Options,
    footprint: Footprint,
}

/// A model that can answer.
struct Loaded {
    tokenizer: text::Tokenizer,
    template: ChatTemplate,
    defaults: Defaults,
    engine: Engine,
    card: ModelCard,
    adapters: Vec<adapted::Served>,
    /// The last field, to be dropped when the others have been.
    _heap: GiveBack,
}

/// Dropping it gives free memory back to the system, which an allocator would keep for later.
struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        model::trim_heap();
    }
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
            loaded: OnceLock::new(),
            progress: Arc::new(ArcSwap::from_pointee("loading".to_owned())),
        }
    }

    fn loaded(&self) -> Result<&Arc<Loaded>, Error> {
        self.loaded.get().ok_or_else(|| Error::Unavailable(format!("The model '{}' is loading.", self.model)))
    }
}

impl Measured {
    /// # Errors
    /// What is missing, malformed or not supported.
    fn new(config: &Config, adapters: &[adapted::Wanted], budget: Option<u64>) -> Result<Self, String> {
        let mut opened = Opened::open(source(config)?)?;
        opened.model = adapted::open(opened.model, adapters)?;
        let options = options(config)?;
        let memory = opened.model.memory(&options).map_err(|error| error.to_string())?;
        let context = opened.model.summary(&options).map_err(|error| error.to_string())?.context_length;
        let footprint = Footprint {
            weights: memory.weights,
            kv_cache: kv_cache(config, &memory, context, budget),
            activations: memory.row * u64::from(config.max_batch_tokens.max(config.max_sequences)),
        };
        Ok(Self { opened, options, footprint })
    }
}

impl Loaded {
    fn load(
        measured: Measured,
        config: &Config,
        settings: &Settings,
        wanted: &[adapted::Wanted],
        created: u64,
        progress: &Progress,
    ) -> Result<Self, String> {
        let source = source(config)?;
        let lacking = |error: model::LoadError| error.to_string();
        let Measured { opened: Opened { model: opened, words, files }, options, footprint } = measured;
        let context_length = opened.summary(&options).map_err(lacking)?.context_length;
        // Both read all the weights: together they need them once.
        let (model, hashed) = thread::scope(|scope| {
            let hashing = scope.spawn(|| {
                let begun = Instant::now();
                let made = fingerprint::hash(&files);
                let seconds = begun.elapsed().as_secs_f64();
                tracing::info!(source = %source.display(), seconds, "hashed the model's files");
                made
            });
            let layers = Arc::clone(progress);
            let told = move |done, of| layers.store(Arc::new(format!("loading {done}/{of} layers")));
            let model = opened.telling(told).load(&options).map_err(lacking);
            progress.store(Arc::new("reading the files' fingerprint".to_owned()));
            (model, hashing.join().unwrap_or_else(|_| Err("hashing its files failed".to_owned())))
        });
        let hashed = hashed?;
        let card = |hashed, settings: &Settings| ModelCard {
            created,
            owner: "sconce".to_owned(),
            fingerprint: Fingerprint::new(hashed, context_length, settings).fingerprint,
            context_length: u32::try_from(context_length).unwrap_or(u32::MAX),
        };
        let adapters = wanted.iter().map(|wanted| wanted.serve(&hashed, card)).collect::<Result<_, _>>()?;
        let card = card(hashed, settings);
        let model = model?;
        let config = engine::Config {
            memory: Memory::Bytes(footprint.kv_cache),
            max_batch_tokens: config.max_batch_tokens as usize,
            max_sequences: config.max_sequences as usize,
            max_waiting: config.max_waiting as usize,
            prefix_cache: config.prefix_cache,
            buffered_tokens: BUFFERED_TOKENS,
        };
        let engine = Engine::start(model, config).map_err(|error| error.to_string())?;
        let Words { tokenizer, template, defaults, origins: _ } = words;
        Ok(Self { tokenizer, template, defaults, engine, card, adapters, _heap: GiveBack })
    }

    fn context_length(&self) -> usize {
        self.card.context_length as usize
    }

    fn readiness(&self) -> Readiness {
        if self.engine.is_stopped() {
            return Readiness::NotReady("the engine has stopped".to_owned());
        }
        Readiness::Ready
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

fn source(config: &Config) -> Result<&Path, String> {
    let source = config.source.as_deref();
    source.ok_or_else(|| "no model is named: set `candle.source` to its directory or file".to_owned())
}

fn options(config: &Config) -> Result<model::Options, String> {
    Ok(model::Options {
        threads: config.threads.map_or_else(model::cores, |threads| threads as usize),
        context_length: config.context_length.map(|length| length as usize),
        kv: KvType::F32,
        isa: Isa::choose(config.instructions.as_deref())
            .map_err(|lacking| format!("candle.instructions: {lacking}"))?,
    })
}

/// Bytes of the KV cache. What nobody configured depends on nothing that changes while the daemon runs.
fn kv_cache(config: &Config, memory: &model::Memory, context: usize, budget: Option<u64>) -> u64 {
    const MOST: u64 = 512 << 20;
    const PART: u64 = 8;
    if let Some(ByteSize(bytes)) = config.kv_cache {
        return bytes;
    }
    let sequence = context.div_ceil(BLOCK) as u64 * memory.block;
    let usable = sequence.saturating_mul(config.max_sequences.into());
    MOST.min(usable).min(budget.map_or(u64::MAX, |budget| budget / PART)).max(memory.block)
}

impl Backend for Candle {
    fn card(&self) -> &ModelCard {
        self.loaded.get().map_or(&self.unloaded, |loaded| &loaded.card)
    }

    fn readiness(&self) -> Readiness {
        match self.loaded.get() {
            None => Readiness::NotReady(self.progress.load().to_string()),
            Some(loaded) => loaded.readiness(),
        }
    }

    fn footprint(&self, budget: Option<u64>) -> BoxFuture<'_, Result<Footprint, String>> {
        let (config, adapters) = (self.config.clone(), self.adapters.clone());
        async move {
            let measuring = tokio::task::spawn_blocking(move || Measured::new(&config, &adapters, budget));
            let measured = measuring.await.map_err(|error| error.to_string())??;
            let footprint = measured.footprint;
            *self.measured.lock().unwrap_or_else(PoisonError::into_inner) = Some(measured);
            Ok(footprint)
        }
        .boxed()
    }

    fn load(&self) -> BoxFuture<'_, Result<(), String>> {
        let (config, settings, created) = (self.config.clone(), self.settings.clone(), self.unloaded.created);
        let (progress, adapters) = (Arc::clone(&self.progress), self.adapters.clone());
        let measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move {
            let measured = measured.ok_or_else(|| "its headers have not been read".to_owned())?;
            let loading = tokio::task::spawn_blocking(move || {
                Loaded::load(measured, &config, &settings, &adapters, created, &progress)
            });
            let loaded = loading.await.map_err(|error| error.to_string())??;
            // Loaded once; a second call has nothing to add.
            let _ = self.loaded.set(Arc::new(loaded));
            Ok(())
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            if let Some(loaded) = self.loaded.get() {
                loaded.engine.stop(Stop::Abort);
                loaded.engine.stopped().await;
            }
        }
        .boxed()
    }

    fn metrics(&self) -> Vec<Metric> {
        self.loaded.get().map_or_else(Vec::new, |loaded| metrics::metrics(&loaded.engine.stats()))
    }

    fn heartbeat(&self) -> Option<Heartbeat> {
        let engine = &self.loaded.get()?.engine;
        let stats = engine.stats();
        // An engine that has ended takes no step any more, which is not what anybody who waits for one wants.
        Some(Heartbeat { steps: stats.steps, busy: stats.is_busy() || engine.is_stopped() })
    }

    fn generate(&self, request: GenerationRequest) -> BoxFuture<'_, Result<Events, Error>> {
        async move { self.loaded()?.generate(request, &self.settings, None) }.boxed()
    }

    fn embed(&self, _: EmbeddingRequest) -> BoxFuture<'_, Result<Embeddings, Error>> {
        let message = "The candle backend has no embeddings.";
        async move { Err(Error::unsupported("model", message)) }.boxed()
    }

    fn adapted(&self, id: &str) -> Option<Box<dyn Backend>> {
        let adapted = adapted::Adapted::new(self.loaded.get()?, id)?;
        Some(Box::new(adapted))
    }

    fn tokenizer(&self) -> Option<&dyn Tokenizer> {
        Some(self)
    }
}

impl Tokenizer for Candle {
    fn tokenize(&self, prompt: &PromptText) -> Result<Vec<u32>, Error> {
        self.loaded()?.tokenize(prompt)
    }

    fn tokenize_chat(&self, chat: &Chat) -> Result<Vec<u32>, Error> {
        self.loaded()?.tokenize_chat(chat)
    }

    fn detokenize(&self, tokens: &[u32]) -> Result<String, Error> {
        self.loaded()?.detokenize(tokens)
    }
}

impl Tokenizer for Loaded {
    fn tokenize(&self, prompt: &PromptText) -> Result<Vec<u32>, Error> {
        self.ids(prompt)
    }

    fn tokenize_chat(&self, chat: &Chat) -> Result<Vec<u32>, Error> {
        self.chat_tokens(chat)
    }

    fn detokenize(&self, tokens: &[u32]) -> Result<String, Error> {
        self.tokenizer.decode(tokens, false)
    }
}
