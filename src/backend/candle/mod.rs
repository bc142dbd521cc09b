//! The candle backend: local inference. The one place where [`crate::text`] and [`crate::engine`] meet.
//!
//! A request becomes token ids ([`prepare`]), the engine continues them, and its tokens become text ([`answer`]). A model
//! loads on a thread of its own when the daemon starts; until then it is not ready, and says so.

mod answer;
mod builtin;
mod choice;
mod defaults;
mod fingerprint;
mod gguf;
pub mod inspect;
mod memory;
mod metrics;
mod opened;
mod prepare;
mod source;
mod vectors;
mod words;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use arc_swap::ArcSwap;
use futures_util::future::{BoxFuture, FutureExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{
    defaults::Defaults,
    memory::Needs,
    opened::Opened,
    source::{Absent, Source},
    vectors::Encoder,
    words::Words,
};
use super::{Backend, Heartbeat, ModelCard, Readiness, Tokenizer, first_token, metric::Metric};
use crate::{
    engine::{self, Batcher, Engine, Memory},
    generation::{
        Chat, EmbeddingRequest, Embeddings, Error, Events, GenerationRequest, PromptText, RerankRequest,
        Scores,
    },
    hub::News,
    model::{self, Device, Encode, Forward, Isa, KvType, Task},
    text::{self, ChatTemplate, channels::Format},
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
    /// GGUF file, which needs nothing beside it; or its id on the Hugging Face hub: `org/name`, `org/name@revision`,
    /// `org/name:file.gguf`. `builtin:demo` is the small model inside the program. Unset: the model's own id.
    #[garde(custom(builtin::known))]
    pub source: Option<PathBuf>,
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
    /// The instructions that compute: `scalar`, `avx2`, `avx512` or `amx`. Unset: the fastest that the CPU has. The answers do
    /// not depend on it.
    pub instructions: Option<String>,
    /// Tokens of prompt and completion together, where fewer than the model takes are wanted.
    #[garde(inner(range(min = 1)))]
    #[schemars(range(min = 1))]
    pub context_length: Option<u32>,
    /// Memory of the KV cache, shared by all sequences.
    pub kv_cache: ByteSize,
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
            task: None,
            device: Device::Cpu.to_string(),
            threads: None,
            instructions: None,
            context_length: None,
            kv_cache: ByteSize::mib(512),
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
    /// What is told of the model until it is loaded.
    unloaded: ModelCard,
    served: OnceLock<Served>,
    progress: Progress,
    /// It could not be downloaded, and may be later.
    later: AtomicBool,
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
}

impl Candle {
    #[must_use]
    pub fn new(model: &str, config: &super::Config, created: u64) -> Self {
        let settings = Settings::of(config);
        let fingerprint = "loading".to_owned();
        let unloaded = ModelCard { created, owner: "sconce".to_owned(), fingerprint, context_length: 0 };
        Self {
            model: model.to_owned(),
            config: config.candle.clone(),
            settings,
            unloaded,
            served: OnceLock::new(),
            progress: Arc::new(ArcSwap::from_pointee("loading".to_owned())),
            later: AtomicBool::new(false),
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

impl Served {
    fn load(
        source: &Path,
        config: &Config,
        settings: &Settings,
        created: u64,
        progress: &Progress,
    ) -> Result<Self, String> {
        let lacking = |error: model::LoadError| error.to_string();
        let Opened { model: opened, words, files } = Opened::open(source)?;
        let options = options(config)?;
        let task = opened.task(&options).map_err(lacking)?;
        let memory = opened.memory(&options).map_err(lacking)?;
        let device = options.device;
        let context_length = opened.summary(&options).map_err(lacking)?.context_length;
        Needs::of(&memory, config, task, context_length).fit(device)?;
        // Both read all the weights: together they need them once.
        let (model, fingerprint) = thread::scope(|scope| {
            let hashing = scope.spawn(|| {
                let begun = Instant::now();
                let made = fingerprint::fingerprint(&files, context_length, settings, device);
                let seconds = begun.elapsed().as_secs_f64();
                tracing::info!(source = %source.display(), seconds, "hashed the model's files");
                made
            });
            let layers = Arc::clone(progress);
            let told = move |done, of| layers.store(Arc::new(format!("loading {done}/{of} layers")));
            let opened = opened.telling(told);
            let model = match task {
                Task::Generate => opened.load(&options).map(Weights::Generator),
                Task::Embed | Task::Rerank => opened.load_encoder(&options).map(Weights::Encoder),
            };
            progress.store(Arc::new("reading the files' fingerprint".to_owned()));
            (
                model.map_err(lacking),
                hashing.join().unwrap_or_else(|_| Err("hashing its files failed".to_owned())),
            )
        });
        let card = ModelCard {
            created,
            owner: "sconce".to_owned(),
            fingerprint: fingerprint?.fingerprint,
            context_length: u32::try_from(context_length).unwrap_or(u32::MAX),
        };
        let Words { tokenizer, template, defaults, prompts, origins: _ } = words;
        let max_batch_tokens = config.max_batch_tokens as usize;
        let max_waiting = config.max_waiting as usize;
        match model? {
            Weights::Generator(model) => {
                let config = engine::Config {
                    memory: Memory::Bytes(config.kv_cache.0),
                    max_batch_tokens,
                    max_sequences: config.max_sequences as usize,
                    max_waiting,
                    prefix_cache: config.prefix_cache,
                    buffered_tokens: BUFFERED_TOKENS,
                };
                let engine = Engine::start(model, config).map_err(|error| error.to_string())?;
                let format = Format::of(&template, &tokenizer);
                Ok(Self::Generator(Arc::new(Loaded { tokenizer, template, format, defaults, engine, card })))
            }
            Weights::Encoder(model) => {
                if task == Task::Rerank && model.shape().width != 1 {
                    let labels = model.shape().width;
                    return Err(format!("it tells {labels} labels apart, where a score is wanted"));
                }
                let batcher = Batcher::start(model, max_batch_tokens, max_waiting)
                    .map_err(|error| format!("no thread for the engine: {error}"))?;
                Ok(Self::Encoder(Arc::new(Encoder { tokenizer, prompts, batcher, card, task })))
            }
        }
    }
}

/// A model whose weights are packed.
enum Weights {
    Generator(Box<dyn Forward>),
    Encoder(Box<dyn Encode>),
}

impl Loaded {
    fn context_length(&self) -> usize {
        self.card.context_length as usize
    }
}

/// Says how a download goes: in words for whoever asks, and in the log.
fn hears<'a>(model: &'a str, progress: &'a Progress) -> impl Fn(News<'_>) + 'a {
    move |news| match news {
        News::Progress(text) => progress.store(Arc::new(text.to_owned())),
        News::Tenth(text) => tracing::info!(model, "{model}: {text}"),
        News::Trouble(text) => {
            progress.store(Arc::new(text.to_owned()));
            tracing::warn!(model, "{model}: {text}");
        }
    }
}

/// A rule for the configuration: this build has the device.
fn known_device(name: &str, (): &()) -> garde::Result {
    let lacking = |lacking: model::device::Lacking| garde::Error::new(lacking);
    name.parse::<Device>().map(drop).map_err(lacking)
}

fn options(config: &Config) -> Result<model::Options, String> {
    Ok(model::Options {
        threads: config.threads.map_or_else(model::cores, |threads| threads as usize),
        context_length: config.context_length.map(|length| length as usize),
        kv: KvType::F32,
        isa: Isa::choose(config.instructions.as_deref())
            .map_err(|lacking| format!("candle.instructions: {lacking}"))?,
        task: config.task,
        device: config.device.parse().map_err(|lacking| format!("candle.device: {lacking}"))?,
    })
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
        let stopped = match self.served.get() {
            None => return Readiness::NotReady(self.progress.load().to_string()),
            Some(Served::Generator(loaded)) => loaded.engine.is_stopped(),
            Some(Served::Encoder(encoder)) => encoder.batcher.is_stopped(),
        };
        if stopped {
            return Readiness::NotReady("the engine has stopped".to_owned());
        }
        Readiness::Ready
    }

    fn load(&self) -> BoxFuture<'_, Result<(), String>> {
        let (config, settings, created) = (self.config.clone(), self.settings.clone(), self.unloaded.created);
        let (model, progress) = (self.model.clone(), Arc::clone(&self.progress));
        async move {
            let obtaining = tokio::task::spawn_blocking(move || {
                let source = Source::of(Some(&model), &config)?.obtain(hears(&model, &progress))?;
                Ok((source, config, progress))
            });
            let (source, config, progress) =
                obtaining.await.map_err(|error| error.to_string())?.map_err(|absent: Absent| {
                    self.later.store(absent.is_temporary(), Relaxed);
                    absent.to_string()
                })?;
            let load = move || Served::load(&source, &config, &settings, created, &progress);
            let served = tokio::task::spawn_blocking(load).await.map_err(|error| error.to_string())??;
            // Loaded once; a second call has nothing to add.
            let _ = self.served.set(served);
            Ok(())
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
        async move {
            let loaded = Arc::clone(self.loaded()?);
            let prepared = loaded.prepare(request, &self.settings)?;
            let generation = loaded.engine.submit(prepared.request).map_err(prepare::refusal)?;
            Ok(Box::pin(answer::stream(loaded, generation, prepared.plan)) as Events)
        }
        .boxed()
    }

    fn embed(&self, request: EmbeddingRequest) -> BoxFuture<'_, Result<Embeddings, Error>> {
        async move { self.encoder("makes no embeddings")?.embed(request).await }.boxed()
    }

    fn rerank(&self, request: RerankRequest) -> BoxFuture<'_, Result<Scores, Error>> {
        async move { self.encoder("does not score documents")?.rerank(request).await }.boxed()
    }

    fn tokenizer(&self) -> Option<&dyn Tokenizer> {
        Some(self)
    }
}

impl Tokenizer for Candle {
    fn tokenize(&self, prompt: &PromptText) -> Result<Vec<u32>, Error> {
        prepare::ids(self.served()?.tokenizer(), prompt)
    }

    fn tokenize_chat(&self, chat: &Chat) -> Result<Vec<u32>, Error> {
        Ok(self.loaded()?.chat(chat)?.0)
    }

    fn detokenize(&self, tokens: &[u32]) -> Result<String, Error> {
        self.served()?.tokenizer().decode(tokens, false)
    }
}
