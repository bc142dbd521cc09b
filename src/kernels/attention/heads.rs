//! The heads of some rows that share keys and values.
#![expect(
    unsafe_code,
    reason = "the innermost loops go without bounds checks, and tasks write one output together"
)]

use std::{hint::black_box, ops::Range};

use super::{Attention, cache::Planes};
use crate::kernels::{
    dtype::Element,
    isa::Kernel,
    math,
    simd::{LANES, Simd},
    softmax::Exponentials,
    split::Split,
};

/// Rows that follow each other in a sequence, and where their keys and values lie.
pub(super) struct Span<'a> {
    pub(super) attention: &'a Attention,
    pub(super) kv_head: usize,
    /// From the block of the first position that is seen to that of the last row.
    pub(super) blocks: &'a [u32],
    /// The position of the first row, counted from the beginning of the first block.
    pub(super) position: usize,
    /// Positions before the first block.
    pub(super) before: usize,
    pub(super) rows: usize,
    /// Heads of a block.
    pub(super) pages: usize,
}

impl Span<'_> {
    #[inline(always)]
    fn page(&self, block: usize) -> usize {
        self.blocks[block] as usize * self.pages + self.kv_head
    }

    /// Positions that a row sees, counted from the beginning of the first block. Its own is the last.
    #[inline(always)]
    fn seen(&self, row: usize) -> Range<usize> {
        let end = self.position + row + 1;
        let first = self.attention.first_seen(self.before + end - 1);
        first - self.before..end
    }

    /// Query heads of a row.
    #[inline(always)]
    fn heads(&self) -> usize {
        self.attention.heads / self.attention.kv_heads
    }

    /// Queries from one on.
    #[inline(always)]
    fn queries<const Q: usize>(&self, from: usize) -> [Query; Q] {
        let (mut row, mut head) = (from / self.heads(), from % self.heads());
        std::array::from_fn(|_| {
            let query = Query { row, head };
            head += 1;
            if head == self.heads() {
                (row, head) = (row + 1, 0);
            }
            query
        })
    }

    /// From dot products to what the softmax takes.
    #[inline(always)]
    fn score<S: Simd>(&self, s: S, query: Query, block: usize, dots: S::Lanes) -> S::Lanes {
        let attention = self.attention;
        let mut scores = s.mul(dots, s.splat(attention.scale));
        if let Some(cap) = attention.soft_cap {
            scores = s.mul(s.splat(cap), math::tanh(s, s.div(scores, s.splat(cap))));
        }
        if let Some(slopes) = &attention.slopes {
            let slope = slopes[self.kv_head * self.heads() + query.head];
            scores = s.mul_add(s.splat(slope), self.distances(s, query.row, block), scores);
        }
        scores
    }

    /// Each key's position less the row's.
    #[inline(always)]
    fn distances<S: Simd>(&self, s: S, row: usize, block: usize) -> S::Lanes {
        #[expect(clippy::cast_precision_loss, reason = "positions below 2^24")]
        let distance = |i: usize| (block * LANES + i) as f32 - (self.position + row) as f32;
        s.load(&std::array::from_fn(distance))
    }
}

#[derive(Clone, Copy)]
struct Query {
    row: usize,
    /// Among those that share a key.
    head: usize,
}

/// Queries are the heads of one row after the other.
pub(super) struct Group<'a, T> {
    pub(super) span: Span<'a>,
    pub(super) planes: &'a Planes<T>,
    /// Rows, `stride` after each other, that begin with this key's first query.
    pub(super) queries: &'a [f32],
    pub(super) stride: usize,
    /// `[query][position]`.
    pub(super) scores: &'a mut [f32],
    /// `[query][head dim]` in whole vectors, zeros.
    pub(super) totals: &'a mut [f32],
    /// Whole rows, and where the first of these begins.
    pub(super) out: Split<'a, f32>,
    pub(super) first: usize,
}

impl<T: Element> Kernel for Group<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let queries = self.span.rows * self.span.heads();
        let mut query = 0;
        while query < queries {
            // As many accumulators as hide the latency of an addition, where there are registers; and as many queries as
            // make up for reading keys and values again.
            query += match (queries - query, S::WIDE) {
                (12.., true) => self.some::<S, 12, 2, 2>(s, query),
                (8.., true) => self.some::<S, 8, 2, 2>(s, query),
                (4.., true) => self.some::<S, 4, 4, 4>(s, query),
                (4.., false) => self.some::<S, 4, 1, 1>(s, query),
                (2.., true) => self.some::<S, 2, 4, 4>(s, query),
                (2.., false) => self.some::<S, 2, 2, 2>(s, query),
                (_, true) => self.some::<S, 1, 4, 4>(s, query),
                (_, false) => self.some::<S, 1, 4, 2>(s, query),
            };
        }
    }
}

impl<T: Element> Group<'_, T> {
    /// `Q` queries from `query` on, which read each key and value once: `B` blocks of keys and `V` vectors of values at a
    /// time. Returns `Q`.
    #[inline(always)]
    fn some<S: Simd, const Q: usize, const B: usize, const V: usize>(&mut self, s: S, query: usize) -> usize {
        let positions = self.span.blocks.len() * LANES;
        let queries = self.span.queries::<Q>(query);
        let first_head = self.span.kv_head * self.span.heads();
        let mut block = 0;
        while block < self.span.blocks.len() {
            block += match self.span.blocks.len() - block {
                left if left >= B => self.scores::<S, Q, B>(s, &queries, query, block),
                _ => self.scores::<S, Q, 1>(s, &queries, query, block),
            };
        }
        let mut sums = [0.0; Q];
        for (q, sum) in sums.iter_mut().enumerate() {
            let Query { row, head } = queries[q];
            let seen = self.span.seen(row);
            let first = (query + q) * positions;
            let x = &mut self.scores[first + seen.start..first + seen.end];
            let sink = self.span.attention.sinks.as_ref().map(|sinks| sinks[first_head + head]);
            *sum = Exponentials { x, sink }.run(s);
        }
        let vectors = self.span.attention.head_dim.div_ceil(LANES);
        let mut vector = 0;
        while vector < vectors {
            vector += match vectors - vector {
                left if left >= V => self.weigh::<S, Q, V>(s, &queries, query, vector),
                _ => self.weigh::<S, Q, 1>(s, &queries, query, vector),
            };
        }
        for (q, sum) in sums.into_iter().enumerate() {
            self.finish(s, queries[q], query + q, sum);
        }
        Q
    }

    /// Scores of the positions of `B` blocks; those that are not seen hold anything. Returns `B`.
    #[inline(always)]
    fn scores<S: Simd, const Q: usize, const B: usize>(
        &mut self,
        s: S,
        queries: &[Query; Q],
        query: usize,
        block: usize,
    ) -> usize {
        let dim = self.span.attention.head_dim;
        // Hidden from the compiler, as rows of a product are.
        let x: [&[f32]; Q] = std::array::from_fn(|q| {
            let Query { row, head } = queries[q];
            black_box(&self.queries[row * self.stride + head * dim..][..dim])
        });
        let keys: [&[[T; LANES]]; B] = std::array::from_fn(|b| {
            let page = self.span.page(block + b);
            self.planes.keys[page * dim * LANES..(page + 1) * dim * LANES].as_chunks().0
        });
        let mut sums = [[s.splat(0.0); B]; Q];
        for i in 0..dim {
            let mut step = [s.splat(0.0); B];
            for b in 0..B {
                // SAFETY: each page of keys and each query has `dim` elements.
                step[b] = T::lanes(s, unsafe { keys[b].get_unchecked(i) });
            }
            for q in 0..Q {
                // SAFETY: as above.
                let query = s.splat(unsafe { *x[q].get_unchecked(i) });
                for b in 0..B {
                    sums[q][b] = s.mul_add(query, step[b], sums[q][b]);
                }
            }
        }
        for q in 0..Q {
            let first = ((query + q) * self.span.blocks.len() + block) * LANES;
            let (lines, _) = self.scores[first..first + B * LANES].as_chunks_mut();
            for b in 0..B {
                let score = self.span.score(s, queries[q], block + b, sums[q][b]);
                s.store(score, &mut lines[b]);
            }
        }
        B
    }

    /// Adds to `V` vectors of the totals, from `vector` on, the values of the positions that each query sees, in their order,
    /// weighted. Returns `V`.
    #[inline(always)]
    fn weigh<S: Simd, const Q: usize, const V: usize>(
        &mut self,
        s: S,
        queries: &[Query; Q],
        query: usize,
        vector: usize,
    ) -> usize {
        // What all see goes together; before and after it, each query has its own.
        let start = self.span.seen(queries[Q - 1].row).start;
        let end = self.span.seen(queries[0].row).end.max(start);
        let several = queries[0].row < queries[Q - 1].row;
        if several && self.span.attention.window.is_some() {
            for (q, place) in queries.iter().enumerate() {
                let seen = self.span.seen(place.row);
                self.weigh_some::<S, 1, V>(s, query + q, vector, seen.start..start.min(seen.end));
            }
        }
        self.weigh_some::<S, Q, V>(s, query, vector, start..end);
        if several {
            for (q, place) in queries.iter().enumerate() {
                let seen = self.span.seen(place.row);
                self.weigh_some::<S, 1, V>(s, query + q, vector, end.max(seen.start)..seen.end);
            }
        }
        V
    }

    /// As [`weigh`](Self::weigh), of some positions that all see.
    #[inline(always)]
    fn weigh_some<S: Simd, const Q: usize, const V: usize>(
        &mut self,
        s: S,
        query: usize,
        vector: usize,
        seen: Range<usize>,
    ) {
        if seen.is_empty() {
            return;
        }
        let vectors = self.span.attention.head_dim.div_ceil(LANES);
        let positions = self.span.blocks.len() * LANES;
        assert!(seen.end <= positions && vector + V <= vectors, "positions of the blocks");
        let weights: [&[f32]; Q] = std::array::from_fn(|q| {
            black_box(&self.scores[(query + q) * positions..(query + q + 1) * positions])
        });
        let (lines, _) = self.totals.as_chunks_mut::<LANES>();
        let mut totals = [[s.splat(0.0); V]; Q];
        for q in 0..Q {
            for v in 0..V {
                totals[q][v] = s.load(&lines[(query + q) * vectors + vector + v]);
            }
        }
        for block in seen.start / LANES..seen.end.div_ceil(LANES) {
            let page = self.span.page(block) * LANES * vectors;
            let values = &self.planes.values.as_chunks::<LANES>().0[page..page + LANES * vectors];
            for position in seen.start.max(block * LANES)..seen.end.min((block + 1) * LANES) {
                let row = (position - block * LANES) * vectors + vector;
                let mut step = [s.splat(0.0); V];
                for (v, step) in step.iter_mut().enumerate() {
                    // SAFETY: the position is one of the block's, and `vector + V` vectors are within its row.
                    *step = T::lanes(s, unsafe { values.get_unchecked(row + v) });
                }
                for q in 0..Q {
                    // SAFETY: the position is below `seen.end`.
                    let weight = s.splat(unsafe { *weights[q].get_unchecked(position) });
                    for v in 0..V {
                        totals[q][v] = s.mul_add(weight, step[v], totals[q][v]);
                    }
                }
            }
        }
        for q in 0..Q {
            for v in 0..V {
                s.store(totals[q][v], &mut lines[(query + q) * vectors + vector + v]);
            }
        }
    }

    /// A query's totals over its sum, to their place.
    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, place: Query, query: usize, sum: f32) {
        let Attention { heads, head_dim, .. } = *self.span.attention;
        let first = self.first + (place.row * heads + place.head) * head_dim;
        // SAFETY: the heads of a row that share a key belong to one task, which comes here once with each.
        let out = unsafe { self.out.part(first..first + head_dim) };
        let vectors = head_dim.div_ceil(LANES);
        let (lines, _) = self.totals.as_chunks::<LANES>();
        for (out, total) in out.chunks_mut(LANES).zip(&lines[query * vectors..]) {
            s.store_part(s.div(s.load(total), s.splat(sum)), out);
        }
    }
}
