//! Models that make vectors of texts, from a path: which they are, the memory they will take, their weights.

use super::{
    Device, Encode, LoadError, Memory, Model, Options, Task, architectures,
    config::ConfigError,
    decoder::embedder::Embedder,
    description,
    encoder::{self, Encoder, description::Description as EncoderDescription},
    loader::{Source, packed_bytes, row_bytes},
    pooling::{Description as Pooling, Mode, modules},
};
use crate::kernels::{
    Cpu,
    attention::{KvLayer, KvType},
};

/// What makes the hidden states.
pub(super) enum Described {
    Encoder(Box<EncoderDescription>),
    Decoder(Box<description::Description>),
}

impl Model {
    /// What the model is for: what the options say, or its files.
    ///
    /// # Errors
    /// When the model cannot do what is wanted of it.
    pub fn task(&self, options: &Options) -> Result<Task, LoadError> {
        let config = self.config();
        let encoder = architectures::is_encoder(config)?;
        let own = match &self.source() {
            _ if encoder && architectures::classifies(config)? => Task::Rerank,
            _ if encoder => Task::Embed,
            Source::Directory { path: Some(path), .. } if Pooling::is_in(path) => Task::Embed,
            _ => Task::Generate,
        };
        let wanted = options.task.unwrap_or(own);
        let possible = match wanted {
            Task::Generate => !encoder,
            Task::Embed => true,
            Task::Rerank => own == Task::Rerank,
        };
        if !possible {
            let kind = config.model_type()?;
            let what = format!("the task {:?} with this model of the architecture {kind}", wanted.name());
            return Err(ConfigError::Unsupported(what).into());
        }
        Ok(wanted)
    }

    /// What makes hidden states, and what is then done with them. A classifier has its own way.
    pub(super) fn describe_pooled(&self, options: &Options) -> Result<(Described, Pooling), LoadError> {
        if options.device != Device::Cpu {
            let what = format!("embeddings and rerank on the device `{}` instead of `cpu`", options.device);
            return Err(ConfigError::Unsupported(what).into());
        }
        let config = self.config();
        let encoder = architectures::is_encoder(config)?;
        let (found, longest) = match self.source() {
            Source::Directory { path: Some(path), .. } => (Pooling::read(path)?, modules::longest(path)?),
            _ => (None, None),
        };
        let mode = if encoder { Mode::Mean } else { Mode::LastToken };
        let pooling = found.unwrap_or_else(|| Pooling::plain(mode));
        // The configuration knows better than the files, up to what the model can take at all.
        let longest = options.context_length.or(longest);
        let described = if encoder {
            let classifies = self.task(options)? == Task::Rerank;
            Described::Encoder(Box::new(architectures::describe_encoder(config, longest, classifies)?))
        } else {
            let options = Options { context_length: longest, ..*options };
            Described::Decoder(Box::new(self.describe(&options)?))
        };
        Ok((described, pooling))
    }

    /// Packs the weights of a model that makes vectors.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_encoder(self, options: &Options) -> Result<Box<dyn Encode>, LoadError> {
        let (described, pooling) = self.describe_pooled(options)?;
        let cpu = Cpu::new(options.isa, options.threads);
        let (tensors, progress) = (self.tensors(), self.progress());
        Ok(match described {
            Described::Encoder(encoder) => {
                Box::new(Encoder::build(cpu, &encoder, tensors, &pooling, progress)?)
            }
            Described::Decoder(decoder) => {
                Box::new(Embedder::build(cpu, &decoder, tensors, &pooling, progress)?)
            }
        })
    }

    pub(super) fn encode_memory(&self, options: &Options) -> Result<Memory, LoadError> {
        let (described, pooling) = self.describe_pooled(options)?;
        let tensors = self.tensors();
        let (row, tables, unused) = match &described {
            Described::Encoder(encoder) => (encoder.row_bytes(), encoder.tables(), &encoder::UNUSED[..]),
            Described::Decoder(decoder) => {
                let tokens = decoder.embedding.tokens.strip_prefix(decoder.prefix);
                let tables = vec![tokens.unwrap_or(&decoder.embedding.tokens)];
                // Keys and values of one layer are kept.
                let cache = |layer: &description::Layer| {
                    let attention = &layer.attention;
                    KvLayer::block_bytes(KvType::F32, attention.kv_heads, attention.head_dim) / super::BLOCK
                };
                let cache = decoder.layers.iter().map(cache).max().unwrap_or(0) as u64;
                (row_bytes(decoder) + cache, tables, &["lm_head."][..])
            }
        };
        let prefix = match &described {
            Described::Encoder(encoder) => encoder.prefix,
            Described::Decoder(decoder) => decoder.prefix,
        };
        let packed = |name: &String| {
            let bare = name.strip_prefix(prefix).unwrap_or(name);
            // Tables are read where they lie.
            let table = bare.strip_suffix(".weight").is_some_and(|bare| tables.contains(&bare));
            !table && !unused.iter().any(|start| bare.starts_with(start))
        };
        let weights = tensors.names().into_iter().filter(|name| packed(name));
        let weights = weights.filter_map(|name| packed_bytes(tensors, &name));
        let dense = |inputs: usize, outputs: usize| (inputs * outputs * size_of::<f32>()) as u64;
        let dense = pooling.dense.iter().map(|layer| dense(layer.inputs, layer.outputs));
        Ok(Memory {
            mapped: tensors.bytes(),
            weights: weights.sum::<u64>() + dense.sum::<u64>(),
            block: 0,
            row,
            step: 0,
        })
    }
}
