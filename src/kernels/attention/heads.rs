//! The heads of one row that share keys and values.
#![expect(unsafe_code, reason = "the innermost loops go without bounds checks")]

use std::ops::Range;

use super::{Attention, cache::Planes};
use crate::kernels::{
    dtype::Element,
    isa::Kernel,
    math,
    simd::{LANES, Simd},
    softmax::Exponentials,
};

/// Where a row's keys and values lie.
pub(super) struct Span<'a> {
    pub(super) attention: &'a Attention,
    pub(super) kv_head: usize,
    /// From the block of the first position that is seen to that of the row itself.
    pub(super) blocks: &'a [u32],
    /// Positions that are seen, counted from the beginning of the first block. The row's own is the last.
    pub(super) seen: Range<usize>,
    /// Heads of a block.
    pub(super) pages: usize,
}

impl Span<'_> {
    #[inline(always)]
    fn page(&self, block: usize) -> usize {
        self.blocks[block] as usize * self.pages + self.kv_head
    }
}

pub(super) struct Group<'a, T> {
    pub(super) span: Span<'a>,
    pub(super) planes: &'a Planes<T>,
    pub(super) queries: &'a [f32],
    /// `[head][position]`.
    pub(super) scores: &'a mut [f32],
    pub(super) out: &'a mut [f32],
}

impl<T: Element> Kernel for Group<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let heads = self.queries.len() / self.span.attention.head_dim;
        let mut head = 0;
        while head < heads {
            head += match heads - head {
                left if S::WIDE && left >= 8 => self.some_heads::<S, 8>(s, head),
                left if left >= 4 => self.some_heads::<S, 4>(s, head),
                left if left >= 2 => self.some_heads::<S, 2>(s, head),
                _ => self.some_heads::<S, 1>(s, head),
            };
        }
    }
}

impl<T: Element> Group<'_, T> {
    /// `H` heads from `head` on, which read each key and value once. Returns `H`.
    #[inline(always)]
    fn some_heads<S: Simd, const H: usize>(&mut self, s: S, head: usize) -> usize {
        let per_head = self.span.blocks.len() * LANES;
        let mut block = 0;
        while block < self.span.blocks.len() {
            // As many accumulators as hide the latency of an addition, where there are registers.
            block += match self.span.blocks.len() - block {
                left if H <= 2 && left >= 4 => self.scores::<S, H, 4>(s, head, block),
                left if H <= 4 && S::WIDE && left >= 2 => self.scores::<S, H, 2>(s, head, block),
                _ => self.scores::<S, H, 1>(s, head, block),
            };
        }
        let mut sums = [0.0; H];
        for (h, sum) in sums.iter_mut().enumerate() {
            let first = (head + h) * per_head;
            let x = &mut self.scores[first + self.span.seen.start..first + self.span.seen.end];
            let number = self.span.kv_head * (self.queries.len() / self.span.attention.head_dim) + head + h;
            let sink = self.span.attention.sinks.as_ref().map(|sinks| sinks[number]);
            *sum = Exponentials { x, sink }.run(s);
        }
        let vectors = self.span.attention.head_dim.div_ceil(LANES);
        let mut vector = 0;
        while vector < vectors {
            vector += match vectors - vector {
                left if S::WIDE && H <= 4 && left >= 4 => self.weigh::<S, H, 4>(s, head, vector, &sums),
                left if left >= 2 && (S::WIDE || H <= 2) => self.weigh::<S, H, 2>(s, head, vector, &sums),
                _ => self.weigh::<S, H, 1>(s, head, vector, &sums),
            };
        }
        H
    }

    /// Scores of the positions of `B` blocks; those that are not seen hold anything. Returns `B`.
    #[inline(always)]
    fn scores<S: Simd, const H: usize, const B: usize>(&mut self, s: S, head: usize, block: usize) -> usize {
        let attention = self.span.attention;
        let dim = attention.head_dim;
        let queries: [&[f32]; H] =
            std::array::from_fn(|h| &self.queries[(head + h) * dim..(head + h + 1) * dim]);
        let keys: [&[[T; LANES]]; B] = std::array::from_fn(|b| {
            let page = self.span.page(block + b);
            self.planes.keys[page * dim * LANES..(page + 1) * dim * LANES].as_chunks().0
        });
        let mut sums = [[s.splat(0.0); B]; H];
        for i in 0..dim {
            let mut step = [s.splat(0.0); B];
            for b in 0..B {
                // SAFETY: each page of keys and each query has `dim` elements.
                step[b] = T::lanes(s, unsafe { keys[b].get_unchecked(i) });
            }
            for h in 0..H {
                // SAFETY: as above.
                let query = s.splat(unsafe { *queries[h].get_unchecked(i) });
                for b in 0..B {
                    sums[h][b] = s.mul_add(query, step[b], sums[h][b]);
                }
            }
        }
        for (h, sums) in sums.into_iter().enumerate() {
            for (b, sum) in sums.into_iter().enumerate() {
                let score = self.finish(s, head + h, block + b, sum);
                let first = ((head + h) * self.span.blocks.len() + block + b) * LANES;
                s.store_part(score, &mut self.scores[first..first + LANES]);
            }
        }
        B
    }

    /// From dot products to what the softmax takes.
    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, head: usize, block: usize, dots: S::Lanes) -> S::Lanes {
        let attention = self.span.attention;
        let mut scores = s.mul(dots, s.splat(attention.scale));
        if let Some(cap) = attention.soft_cap {
            scores = s.mul(s.splat(cap), math::tanh(s, s.div(scores, s.splat(cap))));
        }
        if let Some(slopes) = &attention.slopes {
            let slope = slopes[self.span.kv_head * (self.queries.len() / attention.head_dim) + head];
            scores = s.mul_add(s.splat(slope), self.distances(s, block), scores);
        }
        scores
    }

    /// Each key's position less the row's.
    #[inline(always)]
    fn distances<S: Simd>(&self, s: S, block: usize) -> S::Lanes {
        #[expect(clippy::cast_precision_loss, reason = "positions below 2^24")]
        let distance = |i: usize| (block * LANES + i) as f32 - (self.span.seen.end - 1) as f32;
        s.load(&std::array::from_fn(distance))
    }

    /// `V` vectors of the output from `vector` on: the values of the seen positions in order, weighted. Returns `V`.
    #[inline(always)]
    fn weigh<S: Simd, const H: usize, const V: usize>(
        &mut self,
        s: S,
        head: usize,
        vector: usize,
        sums: &[f32; H],
    ) -> usize {
        let dim = self.span.attention.head_dim;
        let vectors = dim.div_ceil(LANES);
        let per_head = self.span.blocks.len() * LANES;
        let seen = self.span.seen.clone();
        assert!(seen.end <= per_head && vector + V <= vectors, "positions of the blocks");
        let weights: [&[f32]; H] =
            std::array::from_fn(|h| &self.scores[(head + h) * per_head..(head + h + 1) * per_head]);
        let mut totals = [[s.splat(0.0); V]; H];
        for block in 0..self.span.blocks.len() {
            let page = self.span.page(block) * LANES * vectors;
            let values = &self.planes.values.as_chunks::<LANES>().0[page..page + LANES * vectors];
            for position in seen.start.max(block * LANES)..seen.end.min((block + 1) * LANES) {
                let row = (position - block * LANES) * vectors + vector;
                let mut step = [s.splat(0.0); V];
                for (v, step) in step.iter_mut().enumerate() {
                    // SAFETY: the position is one of the block's, and `vector + V` vectors are within its row.
                    *step = T::lanes(s, unsafe { values.get_unchecked(row + v) });
                }
                for h in 0..H {
                    // SAFETY: the position is below `seen.end`.
                    let weight = s.splat(unsafe { *weights[h].get_unchecked(position) });
                    for v in 0..V {
                        totals[h][v] = s.mul_add(weight, step[v], totals[h][v]);
                    }
                }
            }
        }
        for (h, totals) in totals.into_iter().enumerate() {
            for (v, total) in totals.into_iter().enumerate() {
                let part = (vector + v) * LANES..((vector + v + 1) * LANES).min(dim);
                let out = &mut self.out[(head + h) * dim + part.start..(head + h) * dim + part.end];
                s.store_part(s.div(total, s.splat(sums[h])), out);
            }
        }
        V
    }
}
