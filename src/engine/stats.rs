//! The engine's counters, written by its thread and read by anyone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The engine at one moment. Counters only grow; each value is right on its own, not together with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Steps that were begun: the engine's heartbeat. It may only stand still while `stepping` is false.
    pub steps: u64,
    /// A step is under way.
    pub stepping: bool,
    /// Sequences with blocks, paused ones included.
    pub running: u64,
    /// Sequences without.
    pub waiting: u64,
    /// Sequences whose consumer takes no events.
    pub paused: u64,
    pub blocks: u64,
    pub blocks_used: u64,
    /// Free blocks whose content can still be found.
    pub blocks_cached: u64,
    /// Tokens that were run: those of prompts, those drawn, those computed anew.
    pub tokens_run: u64,
    pub tokens_drawn: u64,
    /// Prompt tokens that the prefix cache spared.
    pub tokens_cached: u64,
    pub preemptions: u64,
}

impl Stats {
    /// A step is under way, or there are sequences that one would run.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.stepping || self.running + self.waiting > self.paused
    }
}

/// [`Stats`] in atomics.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) steps: AtomicU64,
    pub(super) stepping: AtomicBool,
    pub(super) running: AtomicU64,
    pub(super) waiting: AtomicU64,
    pub(super) paused: AtomicU64,
    pub(super) blocks: AtomicU64,
    pub(super) blocks_used: AtomicU64,
    pub(super) blocks_cached: AtomicU64,
    pub(super) tokens_run: AtomicU64,
    pub(super) tokens_drawn: AtomicU64,
    pub(super) tokens_cached: AtomicU64,
    pub(super) preemptions: AtomicU64,
}

impl Counters {
    pub(super) fn snapshot(&self) -> Stats {
        Stats {
            steps: self.steps.load(Relaxed),
            stepping: self.stepping.load(Relaxed),
            running: self.running.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            paused: self.paused.load(Relaxed),
            blocks: self.blocks.load(Relaxed),
            blocks_used: self.blocks_used.load(Relaxed),
            blocks_cached: self.blocks_cached.load(Relaxed),
            tokens_run: self.tokens_run.load(Relaxed),
            tokens_drawn: self.tokens_drawn.load(Relaxed),
            tokens_cached: self.tokens_cached.load(Relaxed),
            preemptions: self.preemptions.load(Relaxed),
        }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Relaxed);
}

/// Sets a gauge.
pub(super) fn set(gauge: &AtomicU64, value: usize) {
    gauge.store(value as u64, Relaxed);
}
