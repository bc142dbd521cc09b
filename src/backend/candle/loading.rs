//! From a path to a model that answers: headers, the memory that it will take, weights.

use std::{path::PathBuf, sync::Arc, thread, time::Instant};

use super::{
    Config, Loaded, Progress, Served, Settings, adapted,
    fingerprint::{self, Fingerprint},
    opened::Opened,
    vectors::Encoder,
    words::Words,
};
use crate::{
    backend::{Footprint, ModelCard},
    engine::{self, Batcher, Engine, Memory},
    heap,
    hub::News,
    model::{self, BLOCK, Device, Encode, Forward, Isa, KvType, Task},
    text::channels::Format,
    units::ByteSize,
};

/// Tokens of a choice that may wait for their reader before it pauses.
const BUFFERED_TOKENS: usize = 256;

/// A model whose headers have been read, and the memory that it will take.
pub(super) struct Measured {
    source: PathBuf,
    pub(super) opened: Opened,
    pub(super) options: model::Options,
    pub(super) footprint: Footprint,
    pub(super) summary: model::Summary,
    /// Bytes of a block of the KV cache.
    pub(super) block: u64,
}

/// A model whose weights are packed.
enum Weights {
    Generator(Box<dyn Forward>),
    Encoder(Box<dyn Encode>),
}

/// Dropping it gives free memory back to the system, which an allocator would keep for later.
pub(super) struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        heap::trim();
    }
}

impl Measured {
    /// `budget` is what all models may take together, in bytes.
    ///
    /// # Errors
    /// What is missing, malformed or not supported.
    pub(super) fn new(
        source: PathBuf,
        config: &Config,
        adapters: &[adapted::Wanted],
        budget: Option<u64>,
    ) -> Result<Self, String> {
        let lacking = |error: model::LoadError| error.to_string();
        let options = options(config)?;
        let mut opened = Opened::open(&source)?;
        let task = opened.model.task(&options).map_err(lacking)?;
        if !adapters.is_empty() && task != Task::Generate {
            return Err("adapters are for models that continue texts".to_owned());
        }
        if !adapters.is_empty() && options.device != Device::Cpu {
            return Err(format!("adapters run on the device `cpu`, not on `{}`", options.device));
        }
        opened.model = adapted::open(opened.model, adapters)?;
        let memory = opened.model.memory(&options).map_err(lacking)?;
        let summary = opened.model.summary(&options).map_err(lacking)?;
        let context_length = summary.context_length;
        if summary.pooling.is_some() && !source.join("modules.json").exists() {
            let pooling = summary.pooling.as_deref().unwrap_or_default();
            tracing::warn!(
                source = %source.display(),
                "there is no modules.json, which says how vectors are made: {pooling}"
            );
        }
        let batch = u64::from(config.max_batch_tokens);
        let (kv_cache, rows) = match task {
            Task::Generate => {
                (kv_cache(config, &memory, context_length, budget), batch.max(config.max_sequences.into()))
            }
            // A text is run whole, and nothing of it is kept. Parts of a batch on threads of their own have room of their own.
            Task::Embed | Task::Rerank => (0, batch + batch.max(context_length as u64)),
        };
        let activations = memory.row * rows + memory.step;
        let footprint = Footprint { weights: memory.weights, kv_cache, activations };
        Ok(Self { source, opened, options, footprint, summary, block: memory.block })
    }

    /// What it takes of the memory that all models share: that of the host.
    pub(super) fn of_the_host(&self) -> Footprint {
        if self.options.device.is_host() { self.footprint } else { Footprint::default() }
    }

    /// Refuses what a device with memory of its own has no room for.
    fn fits_the_device(&self) -> Result<(), String> {
        let Self { footprint, options: model::Options { device, .. }, .. } = self;
        match device.free_memory() {
            Some(free) if footprint.total() > free => {
                Err(footprint.refusal(free, &format!(" on `{device}`")))
            }
            _ => Ok(()),
        }
    }
}

impl Served {
    pub(super) fn load(
        measured: Measured,
        config: &Config,
        settings: &Settings,
        wanted: &[adapted::Wanted],
        created: u64,
        progress: &Progress,
    ) -> Result<Self, String> {
        let lacking = |error: model::LoadError| error.to_string();
        measured.fits_the_device()?;
        let Measured { source, opened, options, footprint, summary, block: _ } = measured;
        let model::Summary { task, context_length, .. } = summary;
        let Opened { model: opened, words, files } = opened;
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
            let opened = opened.telling(told);
            let model = match task {
                Task::Generate => opened.load(&options).map(Weights::Generator),
                Task::Embed | Task::Rerank => opened.load_encoder(&options).map(Weights::Encoder),
            };
            progress.store(Arc::new("reading the files' fingerprint".to_owned()));
            let hashed = hashing.join().unwrap_or_else(|_| Err("hashing its files failed".to_owned()));
            (model.map_err(lacking), hashed)
        });
        let hashed = hashed?;
        let card = |hashed, settings: &Settings| ModelCard {
            created,
            owner: "sconce".to_owned(),
            fingerprint: Fingerprint::new(hashed, context_length, settings, options.device).fingerprint,
            context_length: u32::try_from(context_length).unwrap_or(u32::MAX),
        };
        let adapters = wanted.iter().map(|wanted| wanted.serve(&hashed, card)).collect::<Result<_, _>>()?;
        let card = card(hashed, settings);
        let Words { tokenizer, template, defaults, prompts, origins: _ } = words;
        let max_batch_tokens = config.max_batch_tokens as usize;
        let max_waiting = config.max_waiting as usize;
        match model? {
            Weights::Generator(model) => {
                let config = engine::Config {
                    memory: Memory::Bytes(footprint.kv_cache),
                    max_batch_tokens,
                    max_sequences: config.max_sequences as usize,
                    max_waiting,
                    prefix_cache: config.prefix_cache,
                    buffered_tokens: BUFFERED_TOKENS,
                };
                let engine = Engine::start(model, config).map_err(|error| error.to_string())?;
                let format = Format::of(&template, &tokenizer);
                let loaded =
                    Loaded { tokenizer, template, format, defaults, engine, card, adapters, _heap: GiveBack };
                Ok(Self::Generator(Arc::new(loaded)))
            }
            Weights::Encoder(model) => {
                if task == Task::Rerank && model.shape().width != 1 {
                    let labels = model.shape().width;
                    return Err(format!("it tells {labels} labels apart, where a score is wanted"));
                }
                let batcher = Batcher::start(model, max_batch_tokens, max_waiting)
                    .map_err(|error| format!("no thread for the engine: {error}"))?;
                let encoder = Encoder { tokenizer, prompts, batcher, card, task, _heap: GiveBack };
                Ok(Self::Encoder(Arc::new(encoder)))
            }
        }
    }
}

/// Says how a download goes: in words for whoever asks, and in the log.
pub(super) fn hears<'a>(model: &'a str, progress: &'a Progress) -> impl Fn(News<'_>) + 'a {
    move |news| match news {
        News::Progress(text) => progress.store(Arc::new(text.to_owned())),
        News::Tenth(text) => tracing::info!(model, "{model}: {text}"),
        News::Trouble(text) => {
            progress.store(Arc::new(text.to_owned()));
            tracing::warn!(model, "{model}: {text}");
        }
    }
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
