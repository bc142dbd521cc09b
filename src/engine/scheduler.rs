//! Which tokens of which sequences run in the next step. No threads, no clock, no model.
//!
//! Sequences are ordered by age, the request's arrival, and keep it for life. Each step serves the oldest first: one
//! token of each sequence that is decoding, then chunks of prompts while the token budget lasts. Whoever needs a block
//! when none is free takes those of a paused sequence, else of the youngest, which is computed again later. So the
//! oldest that is not paused always runs, every request becomes the oldest one day, and nobody starves.
//!
//! A block is only shared when it is full, hence never written to again. Of the block after those a copy is made, when
//! another begins with the same tokens: one that is known, or that of another choice of the request. The last token
//! always is run, for its logits, so each choice has those of its own last prompt token.

use std::collections::BTreeMap;

use crate::model::{BLOCK, Chunk, Rows};

use super::{
    kv_cache::{Block, KvCache},
    sequence::{BlockTable, Sequence, SequenceId},
};

/// Prompt tokens that run in one step when the logits of each are wanted, and only one such sequence at a time: a row of
/// logits takes as much memory as the vocabulary is large.
const SCORED_CHUNK: usize = 64;

/// What one step may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Tokens; at least 1.
    pub tokens: usize,
    /// Sequences; at least 1.
    pub sequences: usize,
}

/// Tokens of one sequence that run in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub id: SequenceId,
    /// Place of the first of them in the sequence.
    pub start: usize,
    pub len: usize,
    pub rows: Rows,
}

pub struct Scheduler {
    sequences: BTreeMap<SequenceId, Sequence>,
    cache: KvCache,
    limits: Limits,
    preemptions: u64,
}

/// The outcome of an attempt to give a sequence its first blocks.
enum Admission {
    Admitted,
    /// Another choice of the request is about to have computed what this one can share.
    Later,
    NoRoom,
}

impl Scheduler {
    #[must_use]
    pub fn new(cache: KvCache, limits: Limits) -> Self {
        Self { sequences: BTreeMap::new(), cache, limits, preemptions: 0 }
    }

    /// Queues a sequence. With its answer it must fit into the cache when it is alone there.
    pub fn add(&mut self, id: SequenceId, sequence: Sequence) {
        self.sequences.insert(id, sequence);
    }

    /// Takes a sequence out, at any time between steps. Its blocks are free when the result is dropped.
    pub fn remove(&mut self, id: SequenceId) -> Option<Sequence> {
        self.sequences.remove(&id)
    }

    /// Takes all choices of a request out.
    pub fn remove_request(&mut self, request: u64) {
        self.sequences.extract_if(SequenceId::all_of(request), |_, _| true).for_each(drop);
    }

    #[must_use]
    pub fn sequence(&self, id: SequenceId) -> Option<&Sequence> {
        self.sequences.get(&id)
    }

    /// Every sequence, oldest first.
    pub fn sequences(&self) -> impl Iterator<Item = (SequenceId, &Sequence)> {
        self.sequences.iter().map(|(id, sequence)| (*id, sequence))
    }

    #[must_use]
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// How many times a sequence lost its blocks to another.
    #[must_use]
    pub fn preemptions(&self) -> u64 {
        self.preemptions
    }

    /// Pauses or resumes all choices of a request.
    pub fn pause(&mut self, request: u64, paused: bool) {
        for (_, sequence) in self.sequences.range_mut(SequenceId::all_of(request)) {
            sequence.paused = paused;
        }
    }

    /// Something would run in the next step.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.sequences.values().any(|sequence| !sequence.paused)
    }

    /// Chooses the next step. Empty only if every sequence is paused.
    pub fn schedule(&mut self) -> Vec<Run> {
        let mut batch = Vec::new();
        let mut budget = self.limits.tokens;
        for id in self.ids(Sequence::is_decoding) {
            if budget == 0 || batch.len() == self.limits.sequences {
                return batch;
            }
            // A sequence that was chosen before may have taken this one's blocks.
            if self.sequences.get(&id).is_some_and(Sequence::is_decoding) && self.grow(id) {
                batch.extend(self.run(id, 1));
                budget -= 1;
            }
        }
        let mut admitting = true;
        for id in self.ids(|sequence| !sequence.paused && !sequence.is_decoding()) {
            if budget == 0 || batch.len() == self.limits.sequences {
                break;
            }
            if !self.sequences.get(&id).is_some_and(Sequence::is_admitted) {
                match if admitting { self.admit(id) } else { Admission::Later } {
                    Admission::Admitted => {}
                    Admission::Later => continue,
                    // Nobody overtakes: a small request behind would take the room that this one waits for.
                    Admission::NoRoom => {
                        admitting = false;
                        continue;
                    }
                }
            }
            if let Some(run) = self.run(id, budget)
                && !(run.rows == Rows::All && batch.iter().any(|other: &Run| other.rows == Rows::All))
            {
                budget -= run.len;
                batch.push(run);
            }
        }
        batch
    }

    /// The batch as the model takes it.
    #[must_use]
    pub fn chunks(&self, batch: &[Run]) -> Vec<Chunk<'_>> {
        let chunk = |run: &Run| {
            let sequence = self.sequences.get(&run.id)?;
            let tokens = &sequence.tokens[run.start..run.start + run.len];
            let (blocks, adapter) = (sequence.blocks(), sequence.adapter);
            Some(Chunk { tokens, start: run.start, blocks, rows: run.rows, adapter })
        };
        batch.iter().filter_map(chunk).collect()
    }

    /// Blocks to be copied before the batch is run, from where to where.
    #[must_use]
    pub fn copies(&self, batch: &[Run]) -> Vec<(u32, u32)> {
        let copy = |run: &Run| {
            let sequence = self.sequences.get(&run.id)?;
            Some((sequence.source.as_ref()?.id(), sequence.blocks()[run.start / BLOCK]))
        };
        batch.iter().filter_map(copy).collect()
    }

    /// The model has computed these tokens. Blocks that are full now can be found by others.
    pub fn computed(&mut self, run: &Run) {
        let Some(sequence) = self.sequences.get_mut(&run.id) else { return };
        sequence.source = None;
        sequence.computed = run.start + run.len;
        if sequence.computed >= sequence.prompt {
            sequence.wants_prompt_rows = false;
        }
        let full = run.start / BLOCK..sequence.computed / BLOCK;
        if full.is_empty() || !self.cache.finds_prefixes() {
            return;
        }
        let contents = sequence.contents(full.end)[full.clone()].to_vec();
        for (block, content) in sequence.table.blocks()[full].iter().zip(contents) {
            self.cache.publish(block, content);
        }
    }

    /// Appends the token that was drawn.
    pub fn push(&mut self, id: SequenceId, token: u32) {
        if let Some(sequence) = self.sequences.get_mut(&id) {
            sequence.tokens.push(token);
        }
    }

    fn ids(&self, wanted: impl Fn(&Sequence) -> bool) -> Vec<SequenceId> {
        self.sequences.iter().filter(|(_, sequence)| wanted(sequence)).map(|(id, _)| *id).collect()
    }

    /// The next tokens of an admitted sequence, `budget` at most.
    fn run(&self, id: SequenceId, budget: usize) -> Option<Run> {
        let sequence = self.sequences.get(&id)?;
        let most = if sequence.wants_prompt_rows { budget.min(SCORED_CHUNK) } else { budget };
        let len = sequence.remaining().min(most);
        let rows = if sequence.wants_prompt_rows {
            Rows::All
        } else if len == sequence.remaining() {
            Rows::Last
        } else {
            Rows::None
        };
        Some(Run { id, start: sequence.computed, len, rows })
    }

    /// Gives a decoding sequence the block for its next token, at the cost of younger or paused ones. `false` if it is
    /// the youngest and lost its own.
    fn grow(&mut self, id: SequenceId) -> bool {
        loop {
            let Some(sequence) = self.sequences.get_mut(&id) else { return false };
            if let Some(blocks) = self.cache.take(sequence.lacking()) {
                sequence.table.extend(blocks);
                return true;
            }
            let victim = self.youngest(Sequence::is_paused).or_else(|| self.youngest(|_| true));
            let Some(victim) = victim else { return false };
            self.preempt(victim);
            if victim == id {
                return false;
            }
        }
    }

    /// Gives a sequence the blocks for all of its tokens, at the cost of paused ones alone: those that run now will end,
    /// and what was taken from them would be computed twice.
    fn admit(&mut self, id: SequenceId) -> Admission {
        if self.awaits_other_choice(id) {
            return Admission::Later;
        }
        let mut table = BlockTable::default();
        table.extend(self.shared_blocks(id));
        let mut beginning = self.beginning(id, table.len());
        loop {
            let Some(sequence) = self.sequences.get(&id) else { return Admission::NoRoom };
            let lacking = sequence.lacking() - table.len();
            // One block more for each that runs: else the next of them to grow would take this one's at once.
            let growth = self.sequences.values().filter(|other| other.is_admitted() && !other.paused).count();
            if lacking + growth <= self.cache.free()
                && let Some(own) = self.cache.take(lacking)
                && let Some(sequence) = self.sequences.get_mut(&id)
            {
                sequence.computed = table.len() * BLOCK;
                if let Some((source, tokens)) = beginning {
                    sequence.computed += tokens;
                    sequence.source = Some(source);
                }
                sequence.cached.get_or_insert(sequence.computed);
                table.extend(own);
                sequence.table = table;
                return Admission::Admitted;
            }
            // It is held, and may be the one that is lacking.
            if beginning.take().is_some() {
                continue;
            }
            match self.youngest(Sequence::is_paused) {
                Some(victim) => self.preempt(victim),
                None => return Admission::NoRoom,
            }
        }
    }

    /// Whole blocks at the start of a sequence that somebody computed already, at least one token left to run.
    fn shared_blocks(&mut self, id: SequenceId) -> Vec<Block> {
        let Some(sequence) = self.sequences.get_mut(&id) else { return Vec::new() };
        if sequence.wants_prompt_rows {
            return Vec::new();
        }
        let sharable = sequence.sharable();
        let found = if self.cache.finds_prefixes() {
            self.cache.find(sequence.contents(sharable))
        } else {
            Vec::new()
        };
        // Choices of one request share also without a prefix cache.
        let prompt = sharable.min(sequence.prompt / BLOCK);
        match self.siblings(id).find(|sibling| sibling.has_prompt()) {
            Some(sibling) if prompt > found.len() => sibling.table.share(prompt),
            _ => found,
        }
    }

    /// A block that begins with the same tokens as block number `shared` of the sequence, after the same ones, and how
    /// many of them it spares.
    fn beginning(&mut self, id: SequenceId, shared: usize) -> Option<(Block, usize)> {
        let sibling = self.siblings(id).find(|sibling| sibling.has_prompt());
        let block = sibling.and_then(|sibling| sibling.table.blocks().get(shared).cloned());
        let sequence = self.sequences.get_mut(&id).filter(|sequence| !sequence.wants_prompt_rows)?;
        let prompt = sequence.prompt.min(sequence.tokens.len() - 1);
        let (parent, tokens) = sequence.beginning(shared);
        let known = self.cache.find_beginning(parent, tokens);
        let of_prompt = block.zip(prompt.checked_sub(shared * BLOCK)).filter(|(_, tokens)| *tokens > 0);
        known.into_iter().chain(of_prompt).max_by_key(|(_, tokens)| *tokens)
    }

    /// Another choice of the request runs the prompt now. The oldest choice is thereby also the first to answer.
    fn awaits_other_choice(&self, id: SequenceId) -> bool {
        let runs_prompt = |sibling: &Sequence| !sibling.paused && !sibling.has_prompt();
        self.siblings(id).any(runs_prompt) && !self.siblings(id).any(Sequence::has_prompt)
    }

    /// The other choices of the request that have blocks.
    fn siblings(&self, id: SequenceId) -> impl Iterator<Item = &Sequence> {
        let choices = self.sequences.range(SequenceId::all_of(id.request));
        let others = choices.filter(move |(other, _)| **other != id);
        others.map(|(_, sibling)| sibling).filter(|sibling| sibling.is_admitted())
    }

    /// The youngest sequence that has blocks and fulfils the condition.
    fn youngest(&self, wanted: impl Fn(&Sequence) -> bool) -> Option<SequenceId> {
        let mut youngest_first = self.sequences.iter().rev();
        youngest_first.find(|(_, sequence)| sequence.is_admitted() && wanted(sequence)).map(|(id, _)| *id)
    }

    fn preempt(&mut self, id: SequenceId) {
        if let Some(sequence) = self.sequences.get_mut(&id) {
            sequence.evict();
            self.preemptions += 1;
        }
    }
}
