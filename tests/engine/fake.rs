//! A model whose logits are a hash of the sequence's tokens, read back through the blocks that it is given.

use std::sync::{
    Arc, Mutex,
    mpsc::{Receiver, Sender, channel},
};

use sconce::{
    engine::{Config, Engine, Memory, Request, Sampling},
    model::{BLOCK, Chunk, Forward, ForwardError, Rows, Shape},
};

use crate::dice::mix;

pub(crate) const VOCABULARY: usize = 48;
pub(crate) const CONTEXT: usize = 4_096;

/// Runs before each forward pass; may fail it, or panic.
pub(crate) type Hook = Box<dyn FnMut(&[Chunk<'_>]) -> Result<(), ForwardError> + Send>;

/// What one place of the KV cache holds: the token, and the hash of the sequence up to it.
#[derive(Clone, Copy)]
struct Cell {
    token: u32,
    hash: u64,
}

pub(crate) struct Fake {
    shape: Shape,
    cells: Vec<Option<Cell>>,
    hook: Hook,
    faults: Faults,
    may_allocate: bool,
}

/// What a batch did that no batch may do. The engine catches panics, so they are collected.
#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<Vec<String>>>);

impl Faults {
    fn add(&self, fault: String) {
        self.0.lock().unwrap().push(fault);
    }

    pub(crate) fn assert_none(&self) {
        let faults = self.0.lock().unwrap();
        assert!(faults.is_empty(), "{} faults, first: {}", faults.len(), faults[0]);
    }
}

impl Fake {
    pub(crate) fn new() -> (Self, Faults) {
        Self::with_hook(Box::new(|_| Ok(())))
    }

    pub(crate) fn with_hook(hook: Hook) -> (Self, Faults) {
        let shape = Shape { vocabulary: VOCABULARY, context_length: CONTEXT, block_bytes: 1_000 };
        let faults = Faults::default();
        (Self { shape, cells: Vec::new(), hook, faults: faults.clone(), may_allocate: true }, faults)
    }

    /// Allocates once and never again.
    pub(crate) fn that_does_not_recover(mut self) -> Self {
        self.may_allocate = false;
        self
    }

    fn place(&mut self, chunk: &Chunk<'_>, position: usize) -> &mut Option<Cell> {
        &mut self.cells[chunk.blocks[position / BLOCK] as usize * BLOCK + position % BLOCK]
    }

    /// The hash of the chunk's sequence before the chunk, by what is stored.
    fn history(&mut self, chunk: &Chunk<'_>) -> u64 {
        let mut hash = 1;
        for position in 0..chunk.start {
            let Some(cell) = *self.place(chunk, position) else {
                self.faults.add(format!("position {position} was never written"));
                continue;
            };
            hash = extend(hash, cell.token);
            if hash != cell.hash {
                self.faults.add(format!("position {position} holds another sequence's token"));
            }
        }
        hash
    }

    fn check(&self, chunks: &[Chunk<'_>]) {
        let mut written = Vec::new();
        for chunk in chunks {
            let end = chunk.start + chunk.tokens.len();
            if chunk.tokens.is_empty() || end > chunk.blocks.len() * BLOCK {
                self.faults.add(format!("{} blocks for {} to {end}", chunk.blocks.len(), chunk.start));
            }
            let blocks = &chunk.blocks[chunk.start / BLOCK..end.div_ceil(BLOCK)];
            if blocks.iter().any(|block| written.contains(block)) {
                self.faults.add("two chunks write to one block".to_owned());
            }
            written.extend_from_slice(blocks);
        }
        for chunk in chunks {
            if chunk.blocks[..chunk.start / BLOCK].iter().any(|block| written.contains(block)) {
                self.faults.add("a chunk reads a whole block that another writes to".to_owned());
            }
        }
    }
}

fn extend(hash: u64, token: u32) -> u64 {
    mix(hash ^ mix(u64::from(token) + 1))
}

fn logits(hash: u64) -> impl Iterator<Item = f32> {
    (0..VOCABULARY as u64)
        .map(move |id| (mix(hash ^ mix(id + 1_000)) >> 40) as f32 / (1 << 24) as f32 * 6.0 - 3.0)
}

impl Forward for Fake {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn allocate(&mut self, blocks: usize) -> Result<(), ForwardError> {
        if !self.cells.is_empty() && !self.may_allocate {
            return Err(ForwardError("no memory".to_owned()));
        }
        self.cells = vec![None; blocks * BLOCK];
        Ok(())
    }

    fn copy_block(&mut self, from: u32, to: u32) -> Result<(), ForwardError> {
        let from = from as usize * BLOCK;
        self.cells.copy_within(from..from + BLOCK, to as usize * BLOCK);
        Ok(())
    }

    fn forward(&mut self, chunks: &[Chunk<'_>]) -> Result<Vec<f32>, ForwardError> {
        self.check(chunks);
        (self.hook)(chunks)?;
        let mut rows = Vec::new();
        for chunk in chunks {
            let mut hash = self.history(chunk);
            for (offset, &token) in chunk.tokens.iter().enumerate() {
                hash = extend(hash, token);
                *self.place(chunk, chunk.start + offset) = Some(Cell { token, hash });
                let last = offset + 1 == chunk.tokens.len();
                if chunk.rows == Rows::All || (chunk.rows == Rows::Last && last) {
                    rows.extend(logits(hash));
                }
            }
        }
        Ok(rows)
    }
}

/// Lets a test see each forward pass begin, and holds it there.
pub(crate) struct Gate {
    entered: Receiver<Vec<(usize, usize)>>,
    go: Sender<()>,
}

impl Gate {
    pub(crate) fn new() -> (Self, Hook) {
        let (enter, entered) = channel();
        let (go, wait) = channel();
        let hook = move |chunks: &[Chunk<'_>]| {
            let seen = chunks.iter().map(|chunk| (chunk.start, chunk.tokens.len())).collect();
            // Without a test that watches, everything passes.
            let _ = enter.send(seen);
            let _ = wait.recv();
            Ok(())
        };
        (Self { entered, go }, Box::new(hook))
    }

    /// Waits for the next pass to begin: start and length of each chunk.
    pub(crate) fn entered(&self) -> Vec<(usize, usize)> {
        self.entered.recv().unwrap()
    }

    /// Lets the pass that began go on.
    pub(crate) fn go(&self) {
        self.go.send(()).unwrap();
    }
}

pub(crate) fn config() -> Config {
    Config {
        memory: Memory::Blocks(256),
        max_batch_tokens: 64,
        max_sequences: 16,
        max_waiting: 64,
        prefix_cache: true,
        buffered_tokens: 64,
    }
}

pub(crate) fn engine() -> Engine {
    Engine::start(Box::new(Fake::new().0), config()).unwrap()
}

/// One greedy answer.
pub(crate) fn request(prompt: Vec<u32>, max_tokens: usize) -> Request {
    let sampling = Sampling::greedy(max_tokens);
    Request { prompt, choices: 1, sampling, prompt_logprobs: None, adapter: None, cache_seed: 0 }
}
