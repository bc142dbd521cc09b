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

use std::cell::RefCell;

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

thread_local! {
    /// Scores of a task. They grow to the longest context seen and stay.
    static SCORES: RefCell<Aligned<f32>> = RefCell::default();
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
        let group = self.heads / self.kv_heads;
        let width = group * self.head_dim;
        let out = Split::new(out);
        cpu.pool.run(places.len() * self.kv_heads, &|task| {
            let (row, kv_head) = (task / self.kv_heads, task % self.kv_heads);
            let first = row * self.heads * self.head_dim + kv_head * width;
            #[expect(unsafe_code, reason = "heads of the output lent to several threads")]
            // SAFETY: a group of heads of a row belongs to one task.
            let out = unsafe { out.part(first..first + width) };
            let queries = &queries[row * stride + kv_head * width..][..width];
            self.attend_group(cpu, cache, places[row], kv_head, queries, out);
        });
    }

    fn attend_group(
        &self,
        cpu: &Cpu,
        cache: &KvLayer,
        place: Place<'_>,
        kv_head: usize,
        queries: &[f32],
        out: &mut [f32],
    ) {
        let first = self.window.map_or(0, |window| (place.position + 1).saturating_sub(window));
        let blocks = &place.blocks[first / LANES..=place.position / LANES];
        let group = self.heads / self.kv_heads;
        SCORES.with_borrow_mut(|scores| {
            scores.resize(blocks.len() * LANES * group);
            let span = heads::Span {
                attention: self,
                kv_head,
                blocks,
                seen: first % LANES..place.position + 1 - first / LANES * LANES,
                pages: cache.kv_heads,
            };
            match &cache.store {
                cache::Store::F32(planes) => cpu.isa.run(heads::Group { span, planes, queries, scores, out }),
                cache::Store::Bf16(planes) => {
                    cpu.isa.run(heads::Group { span, planes, queries, scores, out })
                }
            }
        });
    }
}
