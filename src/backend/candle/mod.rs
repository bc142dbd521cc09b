//! The candle backend: local inference. The one place where [`crate::text`] and [`crate::engine`] meet.
//!
//! A request becomes token ids ([`prepare`]), the engine continues them, and its tokens become text ([`answer`]). A model
//! loads on a thread of its own when the daemon starts; until then it is not ready, and says so.

mod answer;
mod builtin;
mod defaults;
mod fingerprint;
mod memory;
mod prepare;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use futures_util::future::{BoxFuture, FutureExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{builtin::Builtin, defaults::Defaults};
use super::{Backend, ModelCard, Readiness, Tokenizer};
use crate::{
    engine::{self, Engine, Memory},
    generation::{Chat, EmbeddingRequest, Embeddings, Error, Events, GenerationRequest, PromptText},
    model::{self, KvType},
    text::{self, ChatTemplate, Clock},
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
    /// GGUF file with its `tokenizer.json` beside it. `builtin:demo` is the small model inside the program.
    #[garde(custom(builtin::known))]
    pub source: Option<PathBuf>,
    /// Threads that compute. Unset: one for each core. The answers do not depend on it.
    #[garde(inner(range(min = 1, max = 1024)))]
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u32>,
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
            threads: None,
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
    loaded: OnceLock<Arc<Loaded>>,
}

/// What the configuration says for requests that do not say.
#[derive(Debug, Clone)]
struct Settings {
    max_tokens: u32,
    temperature: Option<f64>,
    top_p: Option<f64>,
}

/// A model that can answer.
struct Loaded {
    tokenizer: text::Tokenizer,
    template: ChatTemplate,
    defaults: Defaults,
    engine: Engine,
    card: ModelCard,
}

impl Candle {
    #[must_use]
    pub fn new(model: &str, config: &super::Config, created: u64) -> Self {
        let settings =
            Settings { max_tokens: config.max_tokens, temperature: config.temperature, top_p: config.top_p };
        let fingerprint = "loading".to_owned();
        let unloaded = ModelCard { created, owner: "sconce".to_owned(), fingerprint, context_length: 0 };
        Self {
            model: model.to_owned(),
            config: config.candle.clone(),
            settings,
            unloaded,
            loaded: OnceLock::new(),
        }
    }

    fn loaded(&self) -> Result<&Arc<Loaded>, Error> {
        self.loaded.get().ok_or_else(|| Error::Unavailable(format!("The model '{}' is loading.", self.model)))
    }
}

impl Loaded {
    fn load(config: &Config, created: u64) -> Result<Self, String> {
        let Some(source) = &config.source else {
            return Err("no model is named: set `candle.source` to its directory".to_owned());
        };
        let builtin = builtin::find(source)?;
        let (tokenizer, template, defaults) = builtin.map_or_else(|| words(source), Builtin::words)?;
        let options = model::Options {
            threads: config.threads.map_or_else(cores, |threads| threads as usize),
            context_length: config.context_length.map(|length| length as usize),
            kv: KvType::F32,
        };
        let lacking = |error: model::LoadError| error.to_string();
        let opened = builtin.map_or_else(|| model::open(source), Builtin::open).map_err(lacking)?;
        let memory = opened.memory(&options).map_err(lacking)?;
        let rows = u64::from(config.max_batch_tokens.max(config.max_sequences));
        fits(&memory, config.kv_cache, memory.row * rows)?;
        let model = opened.load(&options).map_err(lacking)?;
        let context_length = model.shape().context_length;
        let fingerprint = match builtin {
            Some(builtin) => Ok(fingerprint::embedded(&builtin.files(), context_length)),
            None => fingerprint::fingerprint(source, context_length),
        };
        let card = ModelCard {
            created,
            owner: "sconce".to_owned(),
            fingerprint: fingerprint.map_err(|error| format!("{}: {error}", source.display()))?,
            context_length: u32::try_from(context_length).unwrap_or(u32::MAX),
        };
        let config = engine::Config {
            memory: Memory::Bytes(config.kv_cache.0),
            max_batch_tokens: config.max_batch_tokens as usize,
            max_sequences: config.max_sequences as usize,
            max_waiting: config.max_waiting as usize,
            prefix_cache: config.prefix_cache,
            buffered_tokens: BUFFERED_TOKENS,
        };
        let engine = Engine::start(model, config).map_err(|error| error.to_string())?;
        Ok(Self { tokenizer, template, defaults, engine, card })
    }

    fn context_length(&self) -> usize {
        self.card.context_length as usize
    }
}

/// Reads what a path has about text.
fn words(source: &Path) -> Result<(text::Tokenizer, ChatTemplate, Defaults), String> {
    // What belongs to a GGUF file lies beside it.
    let directory = if source.is_dir() { source } else { source.parent().unwrap_or(source) };
    let text = |error: text::LoadError| error.to_string();
    let tokenizer = text::Tokenizer::from_file(&directory.join("tokenizer.json")).map_err(text)?;
    let template = ChatTemplate::from_directory(directory, Clock::default()).map_err(text)?;
    Ok((tokenizer, template, Defaults::read(directory)?))
}

/// Refuses a model that would not fit, with the sum, before the system would kill somebody for it.
fn fits(memory: &model::Memory, kv_cache: ByteSize, activations: u64) -> Result<(), String> {
    let needed = memory.weights + kv_cache.0 + activations;
    match memory::available() {
        Some(available) if needed > available => {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            Err(format!(
                "it needs {} MiB of memory (weights {}, KV cache {}, activations {}), but {} MiB are available; \
                 take a smaller model, or lower candle.kv_cache or candle.max_batch_tokens",
                mib(needed),
                mib(memory.weights),
                mib(kv_cache.0),
                mib(activations),
                mib(available)
            ))
        }
        _ => Ok(()),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Backend for Candle {
    fn card(&self) -> &ModelCard {
        self.loaded.get().map_or(&self.unloaded, |loaded| &loaded.card)
    }

    fn readiness(&self) -> Readiness {
        match self.loaded.get() {
            None => Readiness::NotReady("loading".to_owned()),
            Some(loaded) if loaded.engine.is_stopped() => {
                Readiness::NotReady("the engine has stopped".to_owned())
            }
            Some(_) => Readiness::Ready,
        }
    }

    fn load(&self) -> BoxFuture<'_, Result<(), String>> {
        let (config, created) = (self.config.clone(), self.unloaded.created);
        async move {
            let loading = tokio::task::spawn_blocking(move || Loaded::load(&config, created));
            let loaded = loading.await.map_err(|error| error.to_string())??;
            // Loaded once; a second call has nothing to add.
            let _ = self.loaded.set(Arc::new(loaded));
            Ok(())
        }
        .boxed()
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

    fn embed(&self, _: EmbeddingRequest) -> BoxFuture<'_, Result<Embeddings, Error>> {
        let message = "The candle backend has no embeddings.";
        async move { Err(Error::unsupported("model", message)) }.boxed()
    }

    fn tokenizer(&self) -> Option<&dyn Tokenizer> {
        Some(self)
    }
}

impl Tokenizer for Candle {
    fn tokenize(&self, prompt: &PromptText) -> Result<Vec<u32>, Error> {
        self.loaded()?.ids(prompt)
    }

    fn tokenize_chat(&self, chat: &Chat) -> Result<Vec<u32>, Error> {
        self.loaded()?.chat_tokens(chat)
    }

    fn detokenize(&self, tokens: &[u32]) -> Result<String, Error> {
        self.loaded()?.tokenizer.decode(tokens, false)
    }
}
