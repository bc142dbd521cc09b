//! Continuous batching: requests of token ids in, token ids out, on one OS thread for each model. Knows no text.
//!
//! A [`Request`] is queued by [`Engine::submit`]; the thread ([`runner`](self)) asks the [`scheduler`] what runs next,
//! hands it to the model, draws a token from each row of logits ([`sampler`]) and tells the request's [`Generation`].
//! The scheduler gives sequences their blocks of the [`kv_cache`]. Models that make vectors of texts have a thread of another
//! kind, the [`Batcher`].
//!
//! The promise: an answer depends on its request alone, seed included. Not on its neighbours, on how its prompt was cut
//! into chunks, on whether it was preempted or found a prefix. The model keeps it for the logits ([`Forward`]); here it
//! rests on [`random`], whose numbers depend on their place only, and on [`math`], which rounds alike everywhere.

mod active;
mod batcher;
mod generation;
pub mod kv_cache;
pub mod logprobs;
pub mod math;
pub mod random;
mod request;
mod runner;
pub mod sampler;
mod sampling;
pub mod scheduler;
mod sequence;
mod stats;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::Sender,
    },
    thread::Builder,
};

use tokio::sync::{Semaphore, mpsc, watch};

use crate::model::{BLOCK, Forward, ForwardError, Shape};

use active::EVENTS_A_STEP;
use generation::Link;
use kv_cache::KvCache;
use runner::{Command, Runner, Submission};
use scheduler::{Limits, Scheduler};
use stats::Counters;

pub use batcher::{Batcher, BatcherStats, Text, Vectors};
pub use generation::{Event, Failure, Generation};
pub use request::{Request, SubmitError};
pub use runner::Stop;
pub use sampling::{FinishReason, Logprob, Sampling};
pub use sequence::{Sequence, SequenceId};
pub use stats::Stats;

/// How much the engine may hold and do at a time. Counts of 0 are taken as 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub memory: Memory,
    /// Tokens in one step: a long prompt runs in pieces of this size, between which others go on.
    pub max_batch_tokens: usize,
    /// Sequences in one step.
    pub max_sequences: usize,
    /// Requests that may wait for their first step.
    pub max_waiting: usize,
    /// Keep the content of free blocks, for prompts that begin alike.
    pub prefix_cache: bool,
    /// Tokens of a choice that may wait for their consumer before the request pauses.
    pub buffered_tokens: usize,
}

/// The size of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Of [`BLOCK`] tokens.
    Blocks(u32),
    Bytes(u64),
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the KV cache has no room for one block of {block_bytes} bytes")]
    NoBlocks { block_bytes: usize },
    #[error("no memory for the KV cache: {0}")]
    Allocate(#[from] ForwardError),
    #[error("no thread for the engine: {0}")]
    Thread(#[from] io::Error),
}

/// A model that answers. Shared by reference; dropping it aborts what runs.
#[derive(Debug)]
pub struct Engine {
    commands: Sender<Command>,
    counters: Arc<Counters>,
    queue: Arc<Semaphore>,
    shape: Shape,
    config: Config,
    blocks: usize,
    requests: AtomicU64,
    stopping: AtomicBool,
    /// Closed once the thread has ended and dropped the model.
    alive: watch::Receiver<()>,
}

impl Engine {
    /// Makes room for the model's KV cache and starts the thread.
    pub fn start(mut model: Box<dyn Forward>, config: Config) -> Result<Self, StartError> {
        let shape = model.shape().clone();
        let blocks = match config.memory {
            Memory::Blocks(blocks) => blocks,
            Memory::Bytes(bytes) => {
                u32::try_from(bytes / (shape.block_bytes as u64).max(1)).unwrap_or(u32::MAX)
            }
        };
        if blocks == 0 {
            return Err(StartError::NoBlocks { block_bytes: shape.block_bytes });
        }
        model.allocate(blocks as usize)?;
        let limits =
            Limits { tokens: config.max_batch_tokens.max(1), sequences: config.max_sequences.max(1) };
        let counters = Arc::new(Counters::default());
        let (commands, receiver) = std::sync::mpsc::channel();
        let shared = Arc::clone(&counters);
        let prefix_cache = config.prefix_cache;
        let (living, alive) = watch::channel(());
        Builder::new().name("engine".to_owned()).spawn(move || {
            let scheduler = Scheduler::new(KvCache::new(blocks, prefix_cache), limits);
            Runner::new(model, scheduler, receiver, shared).run();
            drop(living);
        })?;
        let queue = Arc::new(Semaphore::new(config.max_waiting.clamp(1, Semaphore::MAX_PERMITS)));
        let (requests, stopping) = (AtomicU64::new(0), AtomicBool::new(false));
        let blocks = blocks as usize;
        Ok(Self { commands, counters, queue, shape, config, blocks, requests, stopping, alive })
    }

    /// Queues a request. What can be known to fail is refused here.
    pub fn submit(&self, request: Request) -> Result<Generation, SubmitError> {
        if self.stopping.load(Relaxed) {
            return Err(SubmitError::Stopped);
        }
        self.check(&request)?;
        let seed = match request.sampling.seed {
            Some(seed) => seed,
            None => getrandom::u64().map_err(|error| SubmitError::NoSeed(error.to_string()))?,
        };
        let full = |_| SubmitError::QueueFull { waiting: self.config.max_waiting.max(1) };
        let place = Arc::clone(&self.queue).try_acquire_owned().map_err(full)?;
        let choices = request.choices as usize;
        let capacity =
            self.config.buffered_tokens.max(EVENTS_A_STEP).saturating_mul(choices).saturating_add(1);
        let (sender, events) = mpsc::channel(capacity.min(Semaphore::MAX_PERMITS));
        let link = Arc::new(Link::new(self.commands.clone()));
        let id = self.requests.fetch_add(1, Relaxed);
        let open = (0..request.choices).collect();
        let submission = Submission { id, request, seed, events: sender, link: Arc::clone(&link), place };
        self.commands.send(Command::Submit(Box::new(submission))).map_err(|_| SubmitError::Stopped)?;
        Ok(Generation { request: id, events, link, open })
    }

    fn check(&self, request: &Request) -> Result<(), SubmitError> {
        let Request { prompt, choices, sampling, .. } = request;
        if prompt.is_empty() {
            return Err(SubmitError::EmptyPrompt);
        }
        if *choices == 0 {
            return Err(SubmitError::NoChoices);
        }
        let vocabulary = self.shape.vocabulary;
        let biased = sampling.logit_bias.iter().map(|(id, _)| id);
        if let Some(&id) = prompt.iter().chain(biased).find(|id| **id as usize >= vocabulary) {
            return Err(SubmitError::UnknownToken { id, vocabulary });
        }
        let (limit, prompt, completion) = (self.shape.context_length, prompt.len(), sampling.max_tokens);
        if prompt.saturating_add(completion) > limit {
            return Err(SubmitError::ContextLengthExceeded { limit, prompt, completion });
        }
        let (needed, limit) = (request.positions(), self.blocks * BLOCK);
        if needed > limit {
            return Err(SubmitError::NeverFits { needed, limit });
        }
        Ok(())
    }

    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        self.counters.snapshot()
    }

    /// Takes no more requests and returns at once. A drain that lasts too long can still be aborted.
    pub fn stop(&self, stop: Stop) {
        self.stopping.store(true, Relaxed);
        // A thread that is gone needs no telling.
        let _ = self.commands.send(Command::Stop(stop));
    }

    /// The thread has ended and the model is gone, after [`stop`](Self::stop) or because the model panicked and could
    /// not be made to start over.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.alive.has_changed().is_err()
    }

    /// Waits until [`is_stopped`](Self::is_stopped).
    pub async fn stopped(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop(Stop::Abort);
    }
}
