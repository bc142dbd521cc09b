//! Attention over a paged KV cache: grouped queries, sliding windows, soft caps, sinks, ALiBi.
//!
//! A row's scores, their maximum, their sum and the weighted sum of values run over the row's own positions in their order,
//! so they depend neither on the other rows nor on where the blocks lie. Encoders' attention, to whole sequences without a
//! cache, is [`Whole`].

mod cache;
mod heads;
#[cfg(test)]
mod tests;
mod whole;

use std::{cell::RefCell, ops::Range};

pub use cache::{KvLayer, KvType};
pub use whole::{DistanceBias, Whole};

use super::{aligned::Aligned, cpu::Cpu, simd::LANES, split::Split};

/// One row's place in its sequence.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub position: usize,
    /// The sequence's blocks in order; they cover the position.
    pub blocks: &'a [u32],
}

/// What kind of attention a layer does.
#[derive(Debug, Clone, Default)]
pub struct Attention {
    /// Query heads. Each `heads / kv_heads` in a row share a head of keys and values (Ainslie et al. 2023).
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Of the dot products.
    pub scale: f32,
    /// Bounds the scores as cap · tanh(score / cap).
    pub soft_cap: Option<f32>,
    /// Positions a row sees, its own among them.
    pub window: Option<usize>,
    /// A logit for each head that takes its part of the softmax and adds nothing (`modeling_gpt_oss.py`).
    pub sinks: Option<Vec<f32>>,
    /// Added to each score: slope · (key's position - query's position), one slope a head (Press et al. 2022).
    pub slopes: Option<Vec<f32>>,
}

/// Queries of a tile.
const TILE: usize = 12;
/// Queries of a task: at most so many where they make whole tiles, else so many.
const MANY: usize = 48;
const SOME: usize = 32;
/// Scores of a task of several rows, at most.
const SCORES: usize = 128 << 10;

/// What a task keeps. It grows to the longest context seen and stays.
#[derive(Default)]
struct Scratch {
    scores: Aligned<f32>,
    totals: Aligned<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Attention {
    /// Attends with `queries` [rows, heads × head dim], of which each row begins `stride` after the one before, and
    /// writes `out` [rows, heads × head dim].
    ///
    /// # Panics
    /// When a place lies beyond its blocks or the cache, or a length does not fit.
    pub fn attend(
        &self,
        cpu: &Cpu,
        cache: &KvLayer,
        places: &[Place<'_>],
        (queries, stride): (&[f32], usize),
        out: &mut [f32],
    ) {
        assert_eq!(out.len(), places.len() * self.heads * self.head_dim, "a place for each row");
        let spans = self.spans(places);
        let out = Split::new(out);
        cpu.pool.run(spans.len() * self.kv_heads, &|task| {
            // One key's tasks follow each other, which read the same, and the longest comes first.
            let (kv_head, span) = (task / spans.len(), &spans[spans.len() - 1 - task % spans.len()]);
            self.attend_some(cpu, cache, places, span.clone(), kv_head, (queries, stride), out);
        });
    }

    /// The first position that a row sees.
    fn first_seen(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// Rows that one task takes: such as follow each other in a sequence, so many that their queries fill tiles and their
    /// scores stay in the cache.
    fn spans(&self, places: &[Place<'_>]) -> Vec<Range<usize>> {
        let group = self.heads / self.kv_heads;
        let even = (1..=MANY / group).find(|rows| (rows * group).is_multiple_of(TILE));
        let full = even.unwrap_or(SOME / group).max(1);
        let mut spans: Vec<Range<usize>> = Vec::new();
        for (row, place) in places.iter().enumerate() {
            let room = SCORES / (group * (place.position + 1 - self.first_seen(place.position)));
            match spans.last_mut() {
                Some(span)
                    if span.len() < full.min(room)
                        && places[row - 1].position + 1 == place.position
                        && std::ptr::eq(places[row - 1].blocks, place.blocks) =>
                {
                    span.end += 1;
                }
                _ => spans.push(row..row + 1),
            }
        }
        spans
    }

    #[expect(clippy::too_many_arguments, reason = "those of `attend`, and which of them")]
    fn attend_some(
        &self,
        cpu: &Cpu,
        cache: &KvLayer,
        places: &[Place<'_>],
        rows: Range<usize>,
        kv_head: usize,
        (queries, stride): (&[f32], usize),
        out: Split<'_, f32>,
    ) {
        let (group, dim) = (self.heads / self.kv_heads, self.head_dim);
        let place = places[rows.start];
        let before = self.first_seen(place.position) / LANES * LANES;
        let last = place.position + rows.len() - 1;
        let span = heads::Span {
            attention: self,
            kv_head,
            blocks: &place.blocks[before / LANES..=last / LANES],
            position: place.position - before,
            before,
            rows: rows.len(),
            pages: cache.kv_heads,
        };
        let queries = &queries[rows.start * stride + kv_head * group * dim..];
        let first = (rows.start * self.heads + kv_head * group) * dim;
        SCRATCH.with_borrow_mut(|Scratch { scores, totals }| {
            let count = rows.len() * group;
            scores.resize(count * span.blocks.len() * LANES);
            totals.resize(count * dim.next_multiple_of(LANES));
            totals.fill(0.0);
            match &cache.store {
                cache::Store::F32(planes) => {
                    cpu.isa.run(heads::Group { span, planes, queries, stride, scores, totals, out, first });
                }
                cache::Store::Bf16(planes) => {
                    cpu.isa.run(heads::Group { span, planes, queries, stride, scores, totals, out, first });
                }
            }
        });
    }
}
