//! Attention of whole sequences to themselves, forwards and backwards, as encoders do.
//!
//! A row's scores, their maximum, their sum and the weighted sum of values run over the positions of the row's own
//! sequence in their order. Rows of a sequence are taken four at a time, the same four on every instruction set.
#![expect(
    unsafe_code,
    reason = "the innermost loops go without bounds checks, and tasks write one output together"
)]

use std::{cell::RefCell, ops::Range};

use crate::kernels::{
    aligned::Aligned,
    cpu::Cpu,
    isa::Kernel,
    simd::{LANES, Simd},
    softmax::Exponentials,
    split::Split,
};

/// Rows of one task; keys and values are brought into order once for them.
const ROWS: usize = 128;
/// Rows that read each key and value once.
const TILE: usize = 4;

/// What kind of attention a layer does. There are as many heads of keys and values as of queries.
#[derive(Debug, Clone)]
pub struct Whole {
    pub heads: usize,
    pub head_dim: usize,
    /// Of the dot products.
    pub scale: f32,
    /// Positions that a row sees on each side, where it does not see all.
    pub window: Option<usize>,
}

/// What is added to each score, by head and by the key's position less the row's.
#[derive(Debug, Clone)]
pub struct DistanceBias {
    table: Vec<f32>,
    reach: usize,
}

impl DistanceBias {
    /// `bias` of each head and distance, for sequences of up to `longest` positions.
    #[must_use]
    pub fn new(heads: usize, longest: usize, bias: impl Fn(usize, isize) -> f32) -> Self {
        let reach = longest.saturating_sub(1);
        let row = Self::row(reach);
        let table = (0..heads * row).map(|i| bias(i / row, (i % row).cast_signed() - reach.cast_signed()));
        Self { table: table.collect(), reach }
    }

    /// Distances of a head: a whole vector begins at each that there is.
    fn row(reach: usize) -> usize {
        2 * reach + LANES
    }

    /// Those of sixteen keys from `key` on.
    #[inline(always)]
    fn lanes(&self, head: usize, row: usize, key: usize) -> &[f32] {
        &self.table[head * Self::row(self.reach) + self.reach + key - row..][..LANES]
    }
}

#[derive(Default)]
struct Scratch {
    /// `[block][element][16 positions]`.
    keys: Aligned<f32>,
    /// `[position][element]`, filled up to whole vectors.
    values: Aligned<f32>,
    /// `[row of the tile][position]`.
    scores: Aligned<f32>,
}

thread_local! {
    /// Grows to the longest sequence seen and stays.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Whole {
    /// Each sequence, a range of rows, attends to itself. A row of `qkv` holds the queries, keys and values of all heads;
    /// `out` gets [rows, heads × head dim].
    ///
    /// # Panics
    /// When a range lies beyond the rows, a length does not fit, or a sequence is longer than the biases reach.
    pub fn attend(
        &self,
        cpu: &Cpu,
        sequences: &[Range<usize>],
        qkv: &[f32],
        bias: Option<&DistanceBias>,
        out: &mut [f32],
    ) {
        let width = self.heads * self.head_dim;
        assert_eq!(qkv.len(), 3 * out.len(), "queries, keys and values of each row");
        let mut parts = Vec::new();
        for sequence in sequences {
            assert!(sequence.end * width <= out.len(), "rows of the batch");
            assert!(bias.is_none_or(|bias| sequence.len() <= bias.reach + 1), "distances within the table");
            let first = |part: usize| part * ROWS..((part + 1) * ROWS).min(sequence.len());
            parts.extend((0..sequence.len().div_ceil(ROWS)).map(|part| (sequence, first(part))));
        }
        let out = Split::new(out);
        cpu.pool.run(parts.len() * self.heads, &|task| {
            let (sequence, rows) = &parts[task / self.heads];
            let head = task % self.heads;
            SCRATCH.with_borrow_mut(|scratch| {
                let keys =
                    self.seen(rows.start, sequence.len()).start..self.seen(rows.end - 1, sequence.len()).end;
                self.gather(&qkv[sequence.start * 3 * width..], head, keys.clone(), scratch);
                cpu.isa.run(Part {
                    attention: self,
                    head,
                    bias,
                    rows: rows.clone(),
                    keys,
                    length: sequence.len(),
                    qkv: &qkv[sequence.start * 3 * width..sequence.end * 3 * width],
                    scratch,
                    out,
                    first: sequence.start,
                });
            });
        });
    }

    /// Positions that a row sees.
    #[inline(always)]
    fn seen(&self, row: usize, length: usize) -> Range<usize> {
        match self.window {
            None => 0..length,
            Some(window) => row.saturating_sub(window)..(row + window + 1).min(length),
        }
    }

    /// Brings keys and values of one head into order. `qkv` begins with the sequence.
    fn gather(&self, qkv: &[f32], head: usize, positions: Range<usize>, scratch: &mut Scratch) {
        let (dim, width) = (self.head_dim, self.heads * self.head_dim);
        let padded = dim.next_multiple_of(LANES);
        let blocks = positions.len().div_ceil(LANES);
        scratch.keys.resize(blocks * dim * LANES);
        scratch.values.resize(positions.len() * padded);
        scratch.scores.resize(TILE * blocks * LANES);
        for (place, position) in positions.enumerate() {
            let row = &qkv[position * 3 * width..];
            let key = &row[width + head * dim..][..dim];
            let block = &mut scratch.keys[place / LANES * dim * LANES..][..dim * LANES];
            for (to, from) in block[place % LANES..].iter_mut().step_by(LANES).zip(key) {
                *to = *from;
            }
            scratch.values[place * padded..][..dim].copy_from_slice(&row[2 * width + head * dim..][..dim]);
        }
    }
}

/// Some rows of a sequence, with one head.
struct Part<'a> {
    attention: &'a Whole,
    head: usize,
    bias: Option<&'a DistanceBias>,
    rows: Range<usize>,
    /// Positions whose keys and values were gathered.
    keys: Range<usize>,
    length: usize,
    qkv: &'a [f32],
    scratch: &'a mut Scratch,
    out: Split<'a, f32>,
    /// The sequence's first row in `out`.
    first: usize,
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let mut row = self.rows.start;
        while row < self.rows.end {
            row += if self.rows.end - row >= TILE {
                self.tile::<S, TILE>(s, row)
            } else {
                self.tile::<S, 1>(s, row)
            };
        }
    }
}

impl Part<'_> {
    /// `R` rows from `row` on. Returns `R`.
    #[inline(always)]
    fn tile<S: Simd, const R: usize>(&mut self, s: S, row: usize) -> usize {
        // Places among the gathered positions.
        let seen = |row: usize| {
            let seen = self.attention.seen(row, self.length);
            seen.start - self.keys.start..seen.end - self.keys.start
        };
        let own: [Range<usize>; R] = std::array::from_fn(|r| seen(row + r));
        let all = own[0].start..own[R - 1].end;
        let (mut block, end) = (all.start / LANES, all.end.div_ceil(LANES));
        while block < end {
            block += match end - block {
                left if S::WIDE && left >= 4 => self.scores::<S, R, 4>(s, row, block),
                left if S::WIDE && left >= 2 => self.scores::<S, R, 2>(s, row, block),
                _ => self.scores::<S, R, 1>(s, row, block),
            };
        }
        let per_row = self.keys.len().next_multiple_of(LANES);
        let mut sums = [0.0; R];
        for (r, own) in own.into_iter().enumerate() {
            let scores = &mut self.scratch.scores[r * per_row..(r + 1) * per_row];
            // What a neighbour in the tile sees and this row does not weighs nothing.
            scores[all.start..own.start].fill(0.0);
            scores[own.end..all.end].fill(0.0);
            sums[r] = Exponentials { x: &mut scores[own], sink: None }.run(s);
        }
        let vectors = self.attention.head_dim.div_ceil(LANES);
        let mut vector = 0;
        while vector < vectors {
            vector += match vectors - vector {
                left if S::WIDE && left >= 4 => self.weigh::<S, R, 4>(s, row, vector, &all, &sums),
                left if S::WIDE && left >= 2 => self.weigh::<S, R, 2>(s, row, vector, &all, &sums),
                _ => self.weigh::<S, R, 1>(s, row, vector, &all, &sums),
            };
        }
        R
    }

    /// Scores of the positions of `B` blocks; beyond the last position they hold anything. Returns `B`.
    #[inline(always)]
    fn scores<S: Simd, const R: usize, const B: usize>(&mut self, s: S, row: usize, block: usize) -> usize {
        let dim = self.attention.head_dim;
        let stride = 3 * self.attention.heads * dim;
        let queries: [&[f32]; R] =
            std::array::from_fn(|r| &self.qkv[(row + r) * stride + self.head * dim..][..dim]);
        let keys: [&[[f32; LANES]]; B] = std::array::from_fn(|b| {
            self.scratch.keys[(block + b) * dim * LANES..(block + b + 1) * dim * LANES].as_chunks().0
        });
        let mut sums = [[s.splat(0.0); B]; R];
        for i in 0..dim {
            let mut step = [s.splat(0.0); B];
            for b in 0..B {
                // SAFETY: each block of keys and each query has `dim` elements.
                step[b] = s.load(unsafe { keys[b].get_unchecked(i) });
            }
            for r in 0..R {
                // SAFETY: as above.
                let query = s.splat(unsafe { *queries[r].get_unchecked(i) });
                for b in 0..B {
                    sums[r][b] = s.mul_add(query, step[b], sums[r][b]);
                }
            }
        }
        let per_row = self.keys.len().next_multiple_of(LANES);
        let scale = s.splat(self.attention.scale);
        for (r, sums) in sums.into_iter().enumerate() {
            for (b, sum) in sums.into_iter().enumerate() {
                let place = (block + b) * LANES;
                let score = match self.bias {
                    None => s.mul(sum, scale),
                    Some(bias) => {
                        let bias = bias.lanes(self.head, row + r, self.keys.start + place);
                        s.mul_add(sum, scale, s.load_part(bias))
                    }
                };
                s.store_part(score, &mut self.scratch.scores[r * per_row + place..][..LANES]);
            }
        }
        B
    }

    /// `V` vectors of the output from `vector` on: the values of `seen` in order, weighted. Returns `V`.
    #[inline(always)]
    fn weigh<S: Simd, const R: usize, const V: usize>(
        &mut self,
        s: S,
        row: usize,
        vector: usize,
        seen: &Range<usize>,
        sums: &[f32; R],
    ) -> usize {
        let dim = self.attention.head_dim;
        let vectors = dim.div_ceil(LANES);
        let per_row = self.keys.len().next_multiple_of(LANES);
        let values = self.scratch.values.as_chunks::<LANES>().0;
        assert!(seen.end * vectors <= values.len() && vector + V <= vectors, "positions that were gathered");
        let weights: [&[f32]; R] =
            std::array::from_fn(|r| &self.scratch.scores[r * per_row..(r + 1) * per_row]);
        let mut totals = [[s.splat(0.0); V]; R];
        for position in seen.clone() {
            let mut step = [s.splat(0.0); V];
            for (v, step) in step.iter_mut().enumerate() {
                // SAFETY: the position is below `seen.end`, and `vector + V` vectors are within its row.
                *step = s.load(unsafe { values.get_unchecked(position * vectors + vector + v) });
            }
            for r in 0..R {
                // SAFETY: a row of scores has a place for each position.
                let weight = s.splat(unsafe { *weights[r].get_unchecked(position) });
                for v in 0..V {
                    totals[r][v] = s.mul_add(weight, step[v], totals[r][v]);
                }
            }
        }
        for (r, totals) in totals.into_iter().enumerate() {
            let first = ((self.first + row + r) * self.attention.heads + self.head) * dim;
            for (v, total) in totals.into_iter().enumerate() {
                let part = first + (vector + v) * LANES..first + ((vector + v + 1) * LANES).min(dim);
                // SAFETY: a head of a row belongs to one task, and its vectors to one tile.
                let out = unsafe { self.out.part(part) };
                s.store_part(s.div(total, s.splat(sums[r])), out);
            }
        }
        V
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{all_ways, bits, numbers};

    struct Case {
        attention: Whole,
        bias: Option<DistanceBias>,
        sequences: Vec<Range<usize>>,
        qkv: Vec<f32>,
    }

    impl Case {
        fn new(heads: usize, head_dim: usize, window: Option<usize>, lengths: &[usize]) -> Self {
            let mut sequences = Vec::new();
            for &length in lengths {
                let first = sequences.last().map_or(0, |last: &Range<usize>| last.end);
                sequences.push(first..first + length);
            }
            let rows: usize = lengths.iter().sum();
            let attention = Whole { heads, head_dim, scale: 0.3, window };
            Self { attention, bias: None, sequences, qkv: numbers(rows * 3 * heads * head_dim, 1) }
        }

        fn run(&self, cpu: &Cpu) -> Vec<f32> {
            let mut out = vec![0.0; self.qkv.len() / 3];
            self.attention.attend(cpu, &self.sequences, &self.qkv, self.bias.as_ref(), &mut out);
            out
        }

        /// The textbook's formula in f64.
        fn exact(&self, sequence: &Range<usize>, row: usize, head: usize) -> Vec<f64> {
            let Whole { heads, head_dim, scale, window } = self.attention;
            let at = |part: usize, row: usize, i: usize| {
                let row = (sequence.start + row) * 3 * heads * head_dim;
                f64::from(self.qkv[row + (part * heads + head) * head_dim + i])
            };
            let sees = |key: &usize| window.is_none_or(|window| key.abs_diff(row) <= window);
            let seen: Vec<usize> = (0..sequence.len()).filter(sees).collect();
            let weight = |key: usize| {
                let dot: f64 = (0..head_dim).map(|i| at(0, row, i) * at(1, key, i)).sum();
                let distance = key.cast_signed() - row.cast_signed();
                let bias = self.bias.as_ref().map_or(0.0, |_| bias(head, distance));
                (dot * f64::from(scale) + f64::from(bias)).exp()
            };
            let sum: f64 = seen.iter().map(|&key| weight(key)).sum();
            let value = |i| seen.iter().map(|&key| weight(key) / sum * at(2, key, i)).sum();
            (0..head_dim).map(value).collect()
        }

        fn check(&self) {
            let heads = self.attention.heads;
            let exact: Vec<f64> = self
                .sequences
                .iter()
                .flat_map(|sequence| {
                    (0..sequence.len() * heads).flat_map(move |i| self.exact(sequence, i / heads, i % heads))
                })
                .collect();
            let mut expected: Option<Vec<u32>> = None;
            for cpu in all_ways() {
                let out = self.run(&cpu);
                for (exact, out) in exact.iter().zip(&out) {
                    assert!((exact - f64::from(*out)).abs() < 2e-6, "{exact} {out}");
                }
                assert_eq!(&bits(&out), expected.get_or_insert_with(|| bits(&out)), "{}", cpu.isa.name());
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "small distances")]
    fn bias(head: usize, distance: isize) -> f32 {
        (head as f32 - 1.5) * 0.01 * distance as f32
    }

    const LENGTHS: [usize; 7] = [1, 3, 4, 17, 64, 135, 9];

    #[test]
    fn every_row_sees_its_whole_sequence() {
        for (heads, head_dim) in [(2, 32), (3, 20), (1, 64), (2, 80), (5, 8)] {
            Case::new(heads, head_dim, None, &LENGTHS).check();
        }
    }

    #[test]
    fn windows_to_both_sides() {
        for window in [0, 1, 5, 16, 40, 200] {
            Case::new(2, 16, Some(window), &LENGTHS).check();
        }
    }

    #[test]
    fn biases_by_distance() {
        for window in [None, Some(7)] {
            let mut case = Case::new(3, 16, window, &LENGTHS);
            case.bias = Some(DistanceBias::new(3, 135, bias));
            case.check();
        }
    }

    #[test]
    fn a_sequence_alone_has_the_same_bits() {
        let case = Case::new(2, 32, Some(20), &LENGTHS);
        let width = 2 * 32;
        for cpu in all_ways() {
            let all = case.run(&cpu);
            for sequence in &case.sequences {
                let qkv = case.qkv[sequence.start * 3 * width..sequence.end * 3 * width].to_vec();
                let alone = Case { qkv, ..Case::new(2, 32, Some(20), &[sequence.len()]) };
                let own = &all[sequence.start * width..sequence.end * width];
                assert_eq!(bits(&alone.run(&cpu)), bits(own), "{sequence:?}");
            }
        }
    }
}
