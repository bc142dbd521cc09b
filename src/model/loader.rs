//! From a path to a model: headers first, then the memory it will take, then the weights.

use std::path::{Path, PathBuf};

#[cfg(feature = "tensors")]
use super::device;
use super::{
    Device, Forward, Task,
    adapter::Adapter,
    architectures,
    config::Config,
    decoder::{self, Decoder},
    description::Description,
    error::LoadError,
    gguf::{Gguf, TextMetadata},
    safetensors::Directory,
    tensors::Tensors,
};
use crate::kernels::{Cpu, Isa, Matrix, attention::KvType};

/// How a model is loaded. The answers depend on `context_length` (of LongRoPE models) and `kv`, never on `threads` or
/// `isa`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Threads of a forward pass, the calling one among them.
    pub threads: usize,
    /// Tokens of prompt and completion together, at most the model's own.
    pub context_length: Option<usize>,
    /// What the KV cache keeps.
    pub kv: KvType,
    /// The instructions that compute.
    pub isa: Isa,
    /// What the model is wanted for. Unset: what its files say.
    pub task: Option<Task>,
    /// Where the forward pass runs. On others than the CPU, threads and instructions only convert weights and choose
    /// experts, and the KV cache keeps what the weights are kept in.
    pub device: Device,
}

impl Default for Options {
    fn default() -> Self {
        let (isa, device) = (Isa::detect(), Device::Cpu);
        Self { threads: 1, context_length: None, kv: KvType::F32, isa, device, task: None }
    }
}

/// Bytes that a model will take where it runs, known from the headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Files that are mapped. The system may drop their pages: of an untied embedding only the used rows stay.
    pub mapped: u64,
    /// Packed weights, which stay.
    pub weights: u64,
    /// A block of the KV cache.
    pub block: u64,
    /// Activations, for each row of a step's batch.
    pub row: u64,
    /// What a step takes besides, whatever its rows.
    pub step: u64,
}

/// A model whose headers have been read.
pub struct Model {
    source: Source,
    adapters: Vec<Adapter>,
    progress: Box<Progress>,
}

/// Hears how many layers are packed, and of how many, before each one and after the last.
pub(super) type Progress = dyn Fn(usize, usize) + Send;

pub(super) enum Source {
    Directory {
        /// `None`: inside the program.
        path: Option<PathBuf>,
        config: Config,
        tensors: Directory,
    },
    Gguf(Gguf),
}

/// Opens a directory with `config.json` and safetensors, or a GGUF file.
///
/// # Errors
/// When a file is missing or malformed.
pub fn open(path: &Path) -> Result<Model, LoadError> {
    let source = if path.is_dir() {
        let (config, tensors) = (Config::read(path)?, Directory::open(path)?);
        Source::Directory { path: Some(path.to_owned()), config, tensors }
    } else {
        Source::Gguf(Gguf::open(path)?)
    };
    Ok(Model { source, adapters: Vec::new(), progress: Box::new(|_, _| {}) })
}

/// Opens a model that is part of the program: the contents of its `config.json` and of one safetensors file.
///
/// # Errors
/// When one of them is malformed.
pub fn open_embedded(config: &str, weights: &'static [u8]) -> Result<Model, LoadError> {
    let (config, tensors) = (Config::parse(config)?, Directory::embedded(weights)?);
    let source = Source::Directory { path: None, config, tensors };
    Ok(Model { source, adapters: Vec::new(), progress: Box::new(|_, _| {}) })
}

impl Model {
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn config(&self) -> &Config {
        match &self.source {
            Source::Directory { config, .. } => config,
            Source::Gguf(gguf) => &gguf.config,
        }
    }

    pub(super) fn progress(&self) -> &Progress {
        &*self.progress
    }

    /// `progress` hears, while [`load`](Self::load) works, how many layers are packed and of how many.
    #[must_use]
    pub fn telling(self, progress: impl Fn(usize, usize) + Send + 'static) -> Self {
        Self { progress: Box::new(progress), ..self }
    }

    /// Adapters that chunks name by their places here.
    ///
    /// # Errors
    /// When the model is a GGUF file: its rows may be in another order than those that the adapter was trained on.
    pub fn adapted(self, adapters: Vec<Adapter>) -> Result<Self, LoadError> {
        if let (Source::Gguf(gguf), [_, ..]) = (&self.source, &adapters[..]) {
            let reason = "adapters need a base in safetensors".to_owned();
            return Err(LoadError::Format { path: gguf.path().to_owned(), reason });
        }
        Ok(Self { adapters, ..self })
    }

    pub(super) fn describe(&self, options: &Options) -> Result<Description, LoadError> {
        match &self.source {
            Source::Directory { config, .. } => Ok(architectures::describe(config, options.context_length)?),
            Source::Gguf(gguf) => {
                let mut description = architectures::describe(&gguf.config, options.context_length)?;
                gguf.adjust(&mut description);
                Ok(description)
            }
        }
    }

    pub(super) fn tensors(&self) -> &dyn Tensors {
        match &self.source {
            Source::Directory { tensors, .. } => tensors,
            Source::Gguf(gguf) => gguf,
        }
    }

    /// What a GGUF file says about text; `None` for a directory, whose files do.
    ///
    /// # Errors
    /// When the file's strings are malformed.
    pub fn text(&self) -> Result<Option<TextMetadata>, LoadError> {
        match &self.source {
            Source::Directory { .. } => Ok(None),
            Source::Gguf(gguf) => gguf.text().map(Some),
        }
    }

    /// What the model will take.
    ///
    /// # Errors
    /// When the configuration cannot be served.
    pub fn memory(&self, options: &Options) -> Result<Memory, LoadError> {
        match self.task(options)? {
            Task::Generate => self.decoder_memory(options),
            Task::Embed | Task::Rerank => self.encode_memory(options),
        }
    }

    fn decoder_memory(&self, options: &Options) -> Result<Memory, LoadError> {
        let description = self.describe(options)?;
        let tensors = self.tensors();
        #[cfg(feature = "tensors")]
        if options.device != Device::Cpu {
            return Ok(device::tensors::memory(&description, tensors, options.device));
        }
        let embedding = format!("{}.weight", description.embedding.tokens);
        let bare = embedding.strip_prefix(description.prefix).unwrap_or(&embedding);
        let in_place = |name: &str| description.head.is_some() && (name == embedding || name == bare);
        let loaded = tensors.names().into_iter().filter(|name| !in_place(name));
        Ok(Memory {
            mapped: tensors.bytes(),
            weights: loaded.filter_map(|name| packed_bytes(tensors, &name)).sum::<u64>()
                + self.adapters.iter().map(Adapter::bytes).sum::<u64>(),
            block: decoder::block_bytes(&description, options.kv) as u64,
            row: row_bytes(&description) + (description.vocabulary * size_of::<f32>()) as u64,
            step: 0,
        })
    }

    /// Packs the weights of a model that continues texts, or puts them on the device.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape than the configuration says, or has no place in the architecture; when the
    /// device is not there or has not the memory.
    pub fn load(self, options: &Options) -> Result<Box<dyn Forward>, LoadError> {
        let description = self.describe(options)?;
        let cpu = Cpu::new(options.isa, options.threads);
        #[cfg(feature = "tensors")]
        if let Some(device) = options.device.open()? {
            let (tensors, progress) = (self.tensors(), &*self.progress);
            let packer = device::tensors::Packer::new(device, cpu, &description, tensors);
            return Ok(Box::new(device::tensors::Decoder::build(packer, &description, tensors, progress)?));
        }
        let (tensors, adapters, progress) = (self.tensors(), &self.adapters[..], &*self.progress);
        Ok(Box::new(Decoder::build(cpu, &description, tensors, adapters, options.kv, false, progress)?))
    }
}

/// Bytes that a tensor takes once it is packed.
pub(super) fn packed_bytes(tensors: &dyn Tensors, name: &str) -> Option<u64> {
    let (dtype, shape) = tensors.shape(name)?;
    Some(match shape {
        [outer @ .., n, k] => outer.iter().product::<usize>() * Matrix::bytes(*n, *k, dtype),
        vector => vector.iter().product::<usize>() * size_of::<f32>(),
    } as u64)
}

/// The widest layer's buffers and the residual stream's.
pub(super) fn row_bytes(description: &Description) -> u64 {
    let layer = |layer: &super::description::Layer| {
        let attention = &layer.attention;
        let qkv = (2 * attention.heads + 2 * attention.kv_heads) * attention.head_dim;
        let inner = match &layer.feed_forward {
            super::description::FeedForward::Dense(mlp) => mlp.inner,
            super::description::FeedForward::Experts(experts) => match &experts.weights {
                super::description::ExpertWeights::Each(experts) => {
                    experts.iter().map(|expert| expert.inner).max().unwrap_or(0)
                }
                super::description::ExpertWeights::Stacked { inner, .. } => *inner,
            },
        };
        qkv + 3 * inner
    };
    let widest = description.layers.iter().map(layer).max().unwrap_or(0);
    ((widest + 6 * description.hidden) * size_of::<f32>()) as u64
}
