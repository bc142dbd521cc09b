//! The product of some panels with all rows, by tiles of accumulators that stay in registers.
//!
//! Tiles differ in shape with the number of rows and of registers; what happens to one output does not.
#![expect(
    unsafe_code,
    reason = "the innermost loop goes without bounds checks, and tasks write one output together"
)]

use std::{cell::RefCell, marker::PhantomData, ops::Range};

use super::{
    Columns, Layout,
    formats::{Format, GROUPS, Group, RECORD, Scales, Unpacked},
    rows::{Block, Rows},
};
use crate::kernels::{
    isa::{Isa, Kernel},
    simd::{LANES, Simd},
};

/// Rows that go through a record before the next is unpacked: their sums and quants stay in the cache.
const ROWS: usize = 64;

/// Bytes between what is read and what is fetched: a record's arithmetic takes longer than the CPU looks ahead.
const AHEAD: usize = 2048;

/// Panels that go together.
const WIDTH: usize = 2;

/// What a thread computes in: filling it with zeros for each panel would take as long as some of the arithmetic.
struct Room {
    unpacked: [Unpacked; WIDTH],
    sums: [[[f32; LANES]; WIDTH]; ROWS],
}

thread_local! {
    static ROOM: RefCell<Box<Room>> = RefCell::new(Box::new(Room {
        unpacked: [const { Unpacked::ZERO }; WIDTH],
        sums: [[[0.0; LANES]; WIDTH]; ROWS],
    }));
}

/// Multiplies the columns of a group of panels by all rows.
pub(super) fn columns<F: Format>(isa: Isa, layout: Layout, bytes: &[u8], rows: &Rows, columns: Columns<'_>) {
    let tiles = Tiles::<F> { layout, bytes, rows, columns, format: PhantomData };
    ROOM.with_borrow_mut(|room| isa.run(Task { tiles, room }));
}

struct Tiles<'a, F> {
    layout: Layout,
    bytes: &'a [u8],
    rows: &'a Rows,
    columns: Columns<'a>,
    format: PhantomData<F>,
}

struct Task<'a, F> {
    tiles: Tiles<'a, F>,
    room: &'a mut Room,
}

impl<F: Format> Kernel for Task<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { tiles, room } = self;
        let Range { start: mut panel, end } = tiles.columns.group;
        if S::WIDE {
            while panel + WIDTH <= end {
                tiles.panels::<S, WIDTH>(s, panel, room);
                panel += WIDTH;
            }
        }
        while panel < end {
            tiles.panels::<S, 1>(s, panel, room);
            panel += 1;
        }
    }
}

/// A record's weights as the tiles take them.
#[derive(Clone, Copy)]
struct Weights<'a> {
    groups: &'a [[Group; GROUPS]],
    scales: &'a [[f32; LANES]],
    minima: &'a [[f32; LANES]],
}

impl<F: Format> Tiles<'_, F> {
    /// `P` panels by all rows.
    #[inline(always)]
    fn panels<S: Simd, const P: usize>(&self, s: S, panel: usize, room: &mut Room) {
        let Room { unpacked, sums } = room;
        let total = self.rows.count();
        for first in (0..total).step_by(ROWS) {
            let count = (total - first).min(ROWS);
            sums[..count].fill([[0.0; LANES]; WIDTH]);
            for index in 0..self.layout.blocks.div_ceil(RECORD) {
                let blocks = index * RECORD..index * RECORD + self.layout.count(index);
                self.record::<S, P>(s, panel, first, blocks, unpacked, &mut sums[..count]);
            }
            for (row, sums) in sums[..count].iter().enumerate() {
                for (p, sum) in sums[..P].iter().enumerate() {
                    self.finish(s, first + row, panel + p, sum);
                }
            }
        }
    }

    /// A record of each panel by some rows.
    #[inline(always)]
    fn record<S: Simd, const P: usize>(
        &self,
        s: S,
        panel: usize,
        first: usize,
        blocks: Range<usize>,
        unpacked: &mut [Unpacked; WIDTH],
        sums: &mut [[[f32; LANES]; WIDTH]],
    ) {
        let count = blocks.len();
        let mut records: [&[u8]; P] = [&[]; P];
        for p in 0..P {
            let start = (panel + p) * self.layout.panel + blocks.start / RECORD * self.layout.record;
            records[p] = &self.bytes[start..start + F::bytes(count)];
            // What comes after the end of these panels is the next ones.
            let left = self.layout.panel - blocks.start / RECORD * self.layout.record;
            for line in (AHEAD..AHEAD + records[p].len()).step_by(64) {
                let skip = if line < left { 0 } else { (P - 1) * self.layout.panel };
                s.prefetch(records[p].as_ptr().wrapping_add(line + skip));
            }
            F::unpack::<S, false>(s, records[p], count, &mut unpacked[p]);
        }
        let mut weights = [Weights { groups: &[], scales: &[], minima: &[] }; P];
        for p in 0..P {
            let groups = if F::BITS == 8 {
                records[p].as_chunks::<64>().0.as_chunks::<GROUPS>().0
            } else {
                &unpacked[p].groups
            };
            weights[p] = Weights {
                groups: &groups[..count],
                scales: &unpacked[p].scales[..count * F::Scales::PARTS],
                minima: &unpacked[p].minima[..count],
            };
        }
        let mut row = 0;
        while row < sums.len() {
            let at = (first + row, blocks.clone());
            row += match sums.len() - row {
                left if S::WIDE && left >= 6 => self.tile::<S, 6, P>(s, at, weights, &mut sums[row..]),
                left if left >= 4 => self.tile::<S, 4, P>(s, at, weights, &mut sums[row..]),
                left if left >= 2 => self.tile::<S, 2, P>(s, at, weights, &mut sums[row..]),
                _ => self.tile::<S, 1, P>(s, at, weights, &mut sums[row..]),
            };
        }
    }

    /// `R` rows, from that of `at` on, by `P` panels over the blocks of a record. Returns `R`.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const P: usize>(
        &self,
        s: S,
        (first, blocks): (usize, Range<usize>),
        weights: [Weights<'_>; P],
        sums: &mut [[[f32; LANES]; WIDTH]],
    ) -> usize {
        let parts = F::Scales::PARTS;
        let mut rows: [&[Block]; R] = [&[]; R];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = &self.rows.row(first + r)[blocks.clone()];
        }
        let mut sum = [[s.splat(0.0); P]; R];
        for r in 0..R {
            for p in 0..P {
                sum[r][p] = s.load(&sums[r][p]);
            }
        }
        for at in 0..blocks.len() {
            for part in 0..parts {
                let mut dots = [[s.ints(0); P]; R];
                for r in 0..R {
                    // SAFETY: a row has as many blocks as there are here.
                    let x = unsafe { rows[r].get_unchecked(at) };
                    let total = match (parts, part) {
                        (1, _) => x.sum,
                        (_, 0) => x.first,
                        _ => x.sum - x.first,
                    };
                    dots[r] = [start::<S, F>(s, total); P];
                }
                for g in part * GROUPS / parts..(part + 1) * GROUPS / parts {
                    for p in 0..P {
                        // SAFETY: there are groups for each block.
                        let group = unsafe { &weights[p].groups.get_unchecked(at)[g] };
                        for r in 0..R {
                            // SAFETY: as above.
                            let x = unsafe { rows[r].get_unchecked(at) }.quants[g];
                            dots[r][p] = if F::BITS == 8 {
                                s.dot_signed(dots[r][p], group, x)
                            } else {
                                s.dot(dots[r][p], group, x)
                            };
                        }
                    }
                }
                for r in 0..R {
                    // SAFETY: as above.
                    let scale = s.splat(unsafe { rows[r].get_unchecked(at) }.scale);
                    for p in 0..P {
                        // SAFETY: there are `parts` scales for each block.
                        let weight = s.load(unsafe { weights[p].scales.get_unchecked(at * parts + part) });
                        sum[r][p] = s.mul_add(s.floats(dots[r][p]), s.mul(weight, scale), sum[r][p]);
                    }
                }
            }
            if F::Scales::MINIMA {
                for r in 0..R {
                    // SAFETY: as above.
                    let minus = s.splat(unsafe { rows[r].get_unchecked(at) }.minus_sum);
                    for p in 0..P {
                        // SAFETY: there is a line of minima for each block.
                        let minimum = s.load(unsafe { weights[p].minima.get_unchecked(at) });
                        sum[r][p] = s.mul_add(minimum, minus, sum[r][p]);
                    }
                }
            }
        }
        for r in 0..R {
            for p in 0..P {
                s.store(sum[r][p], &mut sums[r][p]);
            }
        }
        R
    }

    /// A row's sums of a panel, with the bias, to their place.
    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, row: usize, panel: usize, sum: &[f32; LANES]) {
        let Columns { n, first, width, bias, out, .. } = &self.columns;
        let columns = first + panel * LANES..first + ((panel + 1) * LANES).min(*n);
        let sum = match bias {
            None => s.load(sum),
            Some(bias) => s.add(s.load(sum), s.load_part(&bias[columns.clone()])),
        };
        // SAFETY: a panel belongs to one task, and comes up once for a row.
        let out = unsafe { out.part(row * width + columns.start..row * width + columns.end) };
        s.store_part(sum, out);
    }
}

/// What a dot product begins with: quants are stored without sign, and what was added to them is taken off here.
#[inline(always)]
fn start<S: Simd, F: Format>(s: S, total: i32) -> S::Ints {
    match F::ZERO {
        0 => s.ints(0),
        128 => s.signed_start(total),
        zero => s.ints(-(total << zero.trailing_zeros())),
    }
}
