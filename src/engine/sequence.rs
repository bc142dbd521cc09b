//! One answer in the making: its tokens, and how much of them the KV cache holds.

use std::ops::RangeInclusive;

use crate::model::BLOCK;

use super::kv_cache::{Block, Content, Key};

/// Names a sequence and orders all of them by age: those of earlier requests first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId {
    pub request: u64,
    pub choice: u32,
}

impl SequenceId {
    /// The ids of all choices of a request.
    pub(super) fn all_of(request: u64) -> RangeInclusive<Self> {
        Self { request, choice: 0 }..=Self { request, choice: u32::MAX }
    }
}

/// Tokens of a sequence, in blocks.
#[must_use]
pub(super) fn blocks_for(tokens: usize) -> usize {
    tokens.div_ceil(BLOCK)
}

/// The blocks of one sequence in order.
#[derive(Debug, Default)]
pub(super) struct BlockTable {
    blocks: Vec<Block>,
    ids: Vec<u32>,
}

impl BlockTable {
    pub(super) fn extend(&mut self, blocks: Vec<Block>) {
        self.ids.extend(blocks.iter().map(Block::id));
        self.blocks.extend(blocks);
    }

    /// The first `count` blocks, held once more.
    pub(super) fn share(&self, count: usize) -> Vec<Block> {
        self.blocks[..count].to_vec()
    }

    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }
}

impl Drop for BlockTable {
    /// Last block first: a prefix cannot be found without its first blocks, so they shall be the last to be evicted.
    fn drop(&mut self) {
        while self.blocks.pop().is_some() {}
    }
}

/// What the scheduler knows of a sequence. It holds blocks for all of its tokens or none at all.
#[derive(Debug)]
pub struct Sequence {
    pub(super) tokens: Vec<u32>,
    pub(super) prompt: usize,
    /// Tokens, from the first, whose keys and values are in the blocks.
    pub(super) computed: usize,
    pub(super) table: BlockTable,
    /// The block whose content the first one that it writes to begins with, until it was run.
    pub(super) source: Option<Block>,
    /// Of the whole blocks of `tokens`, as far as they were needed.
    contents: Vec<Content>,
    seed: u64,
    /// The number of the adapter that it runs through.
    pub(super) adapter: Option<u32>,
    /// Prompt tokens that a prefix hit spared when it first ran.
    pub(super) cached: Option<usize>,
    /// The logits of its prompt's rows are wanted; until then prefixes must be computed, not found.
    pub(super) wants_prompt_rows: bool,
    pub(super) paused: bool,
}

impl Sequence {
    /// `seed` is [`Key::root`]'s.
    #[must_use]
    pub fn new(prompt: Vec<u32>, seed: u64, wants_prompt_rows: bool) -> Self {
        Self {
            prompt: prompt.len(),
            tokens: prompt,
            computed: 0,
            table: BlockTable::default(),
            source: None,
            contents: Vec::new(),
            seed,
            adapter: None,
            cached: None,
            wants_prompt_rows,
            paused: false,
        }
    }

    /// The same through an adapter, which keys and values depend on.
    #[must_use]
    pub fn through(self, adapter: Option<u32>) -> Self {
        Self { adapter, ..self }
    }

    /// Prompt and answer.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens of its prompt.
    #[must_use]
    pub fn prompt(&self) -> usize {
        self.prompt
    }

    /// Prompt tokens that a prefix hit spared; `None` until it ran.
    #[must_use]
    pub fn cached(&self) -> Option<usize> {
        self.cached
    }

    /// It has its blocks.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.table.len() > 0
    }

    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Its blocks, in order.
    #[must_use]
    pub fn blocks(&self) -> &[u32] {
        self.table.ids()
    }

    /// Tokens that must be run before the next can be drawn; at least 1.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Its blocks hold its whole prompt.
    pub(super) fn has_prompt(&self) -> bool {
        self.computed >= self.prompt
    }

    pub(super) fn is_decoding(&self) -> bool {
        self.is_admitted() && !self.paused && self.remaining() == 1
    }

    /// Blocks that it needs besides those it has.
    pub(super) fn lacking(&self) -> usize {
        blocks_for(self.tokens.len()) - self.table.len()
    }

    /// Whole blocks that it may take over from others: at least one token must be run, to have logits.
    pub(super) fn sharable(&self) -> usize {
        (self.tokens.len() - 1) / BLOCK
    }

    /// What its first `count` whole blocks hold.
    pub(super) fn contents(&mut self, count: usize) -> &[Content] {
        let (blocks, _) = self.tokens.as_chunks();
        let missing = count.saturating_sub(self.contents.len());
        for &tokens in blocks.iter().skip(self.contents.len()).take(missing) {
            let parent = self.contents.last().map_or_else(|| self.root(), Content::key);
            self.contents.push(Content { parent, tokens });
        }
        &self.contents[..count]
    }

    /// The parent of its block number `block`, and of that block's tokens those that need not be run: the last of the
    /// sequence always is.
    pub(super) fn beginning(&mut self, block: usize) -> (Key, &[u32]) {
        let parent = self.contents(block).last().map(Content::key);
        let end = (self.tokens.len() - 1).min((block + 1) * BLOCK - 1);
        (parent.unwrap_or_else(|| self.root()), &self.tokens[block * BLOCK..end])
    }

    /// An adapter's is that of a block with its number alone, which no block of tokens is.
    fn root(&self) -> Key {
        let root = Key::root(self.seed);
        self.adapter.map_or(root, |adapter| root.child(&[adapter]))
    }

    /// Takes its blocks away. It starts over when it is admitted again.
    pub(super) fn evict(&mut self) {
        self.table = BlockTable::default();
        self.source = None;
        self.computed = 0;
    }
}
