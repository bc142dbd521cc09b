//! The product on the matrix unit, which multiplies sixteen rows by a block of sixteen columns at once. Its sums are whole
//! numbers, as exact as the lanes' own; scales and minima are the lanes' work as in [`super::tile`], in the same order.
#![expect(unsafe_code, reason = "tiles go by address, and tasks write one output together")]

use std::{cell::RefCell, marker::PhantomData, ops::Range};

use super::{
    Columns, GROUP, Layout,
    formats::{Format, GROUPS, RECORD, Scales, Unpacked},
    rows::{BLOCK, Tile},
};
use crate::kernels::{
    isa::{Isa, Kernel},
    matrix_unit::{SIDE, Tiles, Unit},
    simd::{LANES, Simd},
};

/// Tiles of rows that go through a record before the next is unpacked.
const TILES: usize = 32;
/// Blocks, or halves of blocks, that a step multiplies, by so many panels.
const DEPTH: usize = 2;
const WIDTH: usize = 2;

/// What a step leaves: sixteen rows by sixteen columns for each block and panel.
type Dots = [[[[i32; LANES]; SIDE]; WIDTH]; DEPTH];

/// Sums of sixteen rows.
type Sums = [[[f32; LANES]; GROUP]; SIDE];

/// What a thread computes in.
#[repr(align(64))]
struct Room {
    /// A record of each panel of a task: the rows' part of it is read once for all of them.
    unpacked: [Unpacked; GROUP],
    /// Dots of the step that the unit is at and of the one before, which the lanes are at.
    dots: [Dots; 2],
    sums: [Sums; TILES],
}

thread_local! {
    static ROOM: RefCell<Box<Room>> = RefCell::new(Box::new(Room {
        unpacked: [const { Unpacked::ZERO }; GROUP],
        dots: [[[[[0; LANES]; SIDE]; WIDTH]; DEPTH]; 2],
        sums: [[[[0.0; LANES]; GROUP]; SIDE]; TILES],
    }));
}

/// Multiplies columns by rows: tiles of them, and how many there are.
///
/// # Panics
/// When there is no matrix unit.
pub(super) fn columns<F: Format>(
    isa: Isa,
    layout: Layout,
    bytes: &[u8],
    (rows, count): (&[Tile], usize),
    columns: Columns<'_>,
) {
    let product = |room: &mut Box<Room>| {
        isa.run_on_unit(|unit| Product::<F> {
            unit,
            layout,
            bytes,
            rows,
            count,
            columns,
            room,
            format: PhantomData,
        })
    };
    ROOM.with_borrow_mut(product).expect("rows come in tiles where there is a unit");
}

struct Product<'a, F> {
    unit: Unit,
    layout: Layout,
    bytes: &'a [u8],
    rows: &'a [Tile],
    /// Rows that there are.
    count: usize,
    columns: Columns<'a>,
    room: &'a mut Room,
    format: PhantomData<F>,
}

impl<F: Format> Kernel for Product<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let Range { start, end } = self.columns.group;
        for start in (start..end).step_by(GROUP) {
            self.group(s, start..end.min(start + GROUP));
        }
    }
}

impl<F: Format> Product<'_, F> {
    /// Panels by all rows.
    #[inline(always)]
    fn group<S: Simd>(&mut self, s: S, panels: Range<usize>) {
        let Self { unit, layout, bytes, rows, count, columns, room, .. } = self;
        let tiles = Tiles::bytes(*unit, (*count).min(SIDE), BLOCK / F::Scales::PARTS);
        let unpacked = &mut room.unpacked[..panels.len()];
        let total = count.div_ceil(SIDE);
        let records = layout.blocks.div_ceil(RECORD);
        for first in (0..total).step_by(TILES) {
            let left = *count - first * SIDE;
            let sums = &mut room.sums[..(total - first).min(TILES)];
            sums.fill([[[0.0; LANES]; GROUP]; SIDE]);
            for index in 0..records {
                let blocks = layout.count(index);
                for (panel, unpacked) in panels.clone().zip(&mut *unpacked) {
                    let record = &bytes[panel * layout.panel + index * layout.record..][..F::bytes(blocks)];
                    F::unpack::<S, true>(s, record, blocks, unpacked);
                }
                let next = match index + 1 < records {
                    true => panels.start * layout.panel + (index + 1) * layout.record,
                    false => panels.end * layout.panel,
                };
                let record = Record::<F> {
                    rows: &rows[first * layout.blocks + index * RECORD..],
                    stride: layout.blocks,
                    count: left,
                    parts: blocks * F::Scales::PARTS,
                    panels: unpacked,
                    ahead: Ahead {
                        first: bytes.as_ptr().wrapping_add(next),
                        stride: layout.panel,
                        length: F::bytes(blocks),
                    },
                    format: PhantomData,
                };
                record.multiply(s, &tiles, &mut room.dots, sums);
            }
            let sums = &sums.as_flattened()[..left.min(TILES * SIDE)];
            finish(s, columns, panels.clone(), first * SIDE, sums);
        }
    }
}

/// The panels' sums of rows from `first` on, with the bias, to their place.
#[inline(always)]
fn finish<S: Simd>(
    s: S,
    columns: &Columns<'_>,
    panels: Range<usize>,
    first: usize,
    sums: &[[[f32; LANES]; GROUP]],
) {
    let Columns { n, width, bias, out, .. } = columns;
    let range = columns.first + panels.start * LANES..columns.first + n.min(&(panels.end * LANES));
    let bias = bias.map(|bias| &bias[range.clone()]);
    for (row, sums) in sums.iter().enumerate() {
        let start = (first + row) * width;
        // SAFETY: a panel belongs to one task, and comes up once for a row.
        let out = unsafe { out.part(start + range.start..start + range.end) };
        for (p, out) in out.chunks_mut(LANES).enumerate() {
            let sum = s.load(&sums[p]);
            let sum = match bias {
                None => sum,
                Some(bias) => s.add(sum, s.load_part(&bias[p * LANES..][..out.len()])),
            };
            s.store_part(sum, out);
        }
    }
}

/// A record of some panels, and the blocks of rows that it is multiplied by.
struct Record<'a, F> {
    /// Of the first sixteen rows, and from one sixteen to the next.
    rows: &'a [Tile],
    stride: usize,
    /// Rows from there on.
    count: usize,
    /// Blocks, or halves of blocks where these have scales of their own.
    parts: usize,
    panels: &'a [Unpacked],
    ahead: Ahead,
    format: PhantomData<F>,
}

/// The record after this one, of each panel.
#[derive(Clone, Copy)]
struct Ahead {
    first: *const u8,
    stride: usize,
    length: usize,
}

/// Where a step's dots go.
#[derive(Clone, Copy)]
struct Step {
    tile: usize,
    panel: usize,
    /// The first part of the record.
    at: usize,
}

impl<F: Format> Record<'_, F> {
    /// Adds the products to the sums of as many tiles of rows. The lanes follow the unit one step behind: they would wait for
    /// what it has just stored.
    #[inline(always)]
    fn multiply<S: Simd>(&self, s: S, tiles: &Tiles, dots: &mut [Dots; 2], sums: &mut [Sums]) {
        let mut turn = 0;
        let mut last: Option<Step> = None;
        for tile in 0..sums.len() {
            for panel in (0..self.panels.len()).step_by(WIDTH) {
                for at in (0..self.parts).step_by(DEPTH) {
                    let step = Step { tile, panel, at };
                    self.dots(tiles, step, &mut dots[turn]);
                    self.fetch(s, step);
                    turn ^= 1;
                    if let Some(last) = last.replace(step) {
                        self.scale(s, last, &dots[turn], &mut sums[last.tile]);
                    }
                }
            }
        }
        if let Some(last) = last {
            self.scale(s, last, &dots[turn ^ 1], &mut sums[last.tile]);
        }
    }

    /// Asks for what follows, step by step: the blocks of the next sixteen rows, and with the first rows the next record.
    #[inline(always)]
    fn fetch<S: Simd>(&self, s: S, step: Step) {
        let parts = F::Scales::PARTS;
        if step.panel == 0 {
            let next = (step.tile + 1) * self.stride + step.at / parts;
            for next in self.rows.iter().skip(next).take(DEPTH / parts) {
                for line in (0..size_of::<Tile>()).step_by(64) {
                    s.prefetch(std::ptr::from_ref(next).cast::<u8>().wrapping_add(line));
                }
            }
        }
        if step.tile == 0 {
            let Ahead { first, stride, length } = self.ahead;
            let lines = step.at * length / self.parts..(step.at + DEPTH) * length / self.parts;
            for panel in step.panel..(step.panel + WIDTH).min(self.panels.len()) {
                for line in lines.clone().step_by(64) {
                    s.prefetch(first.wrapping_add(panel * stride + line));
                }
            }
        }
    }

    /// The panels of a step. Of an odd number the last one goes alone, twice.
    #[inline(always)]
    fn pair(&self, step: Step) -> [usize; WIDTH] {
        [step.panel, (step.panel + 1).min(self.panels.len() - 1)]
    }

    /// Two parts of sixteen rows by two panels. Of an odd number the last one goes alone, twice.
    #[inline(always)]
    fn dots(&self, tiles: &Tiles, step: Step, dots: &mut Dots) {
        let parts = F::Scales::PARTS;
        let part = [step.at, (step.at + 1).min(self.parts - 1)];
        let panel = self.pair(step);
        let rows = &self.rows[step.tile * self.stride..];
        let x = part.map(|part| {
            let quants = rows[part / parts].quants.as_ptr().cast::<i8>();
            quants.wrapping_add(part % parts * (BLOCK / parts))
        });
        let groups = |part: usize| {
            panel.map(|panel| self.panels[panel].groups.as_flattened()[part * (GROUPS / parts)].as_ptr())
        };
        // SAFETY: a tile has sixteen rows of a block; the groups of a part lie one after the other; there is room for four
        // tiles of dots.
        unsafe { tiles.two_times_two(x, BLOCK, part.map(groups), dots.as_mut_ptr().cast()) };
    }

    /// Adds a step's dots to the sums.
    #[inline(always)]
    fn scale<S: Simd>(&self, s: S, step: Step, dots: &Dots, sums: &mut Sums) {
        let sums = &mut sums[..(self.count - step.tile * SIDE).min(SIDE)];
        if self.parts - step.at >= DEPTH {
            self.parts::<S, DEPTH>(s, step, dots, sums);
        } else {
            self.parts::<S, 1>(s, step, dots, sums);
        }
    }

    #[inline(always)]
    fn parts<S: Simd, const D: usize>(
        &self,
        s: S,
        step: Step,
        dots: &Dots,
        sums: &mut [[[f32; LANES]; GROUP]],
    ) {
        let panel = self.pair(step);
        let mut scales = [[s.splat(0.0); WIDTH]; D];
        let mut minima = [[s.splat(0.0); WIDTH]; D];
        for d in 0..D {
            for p in 0..WIDTH {
                let weights = &self.panels[panel[p]];
                scales[d][p] = s.load(&weights.scales[step.at + d]);
                if F::Scales::MINIMA {
                    minima[d][p] = s.load(&weights.minima[step.at + d]);
                }
            }
        }
        let row = |d: usize| &self.rows[step.tile * self.stride + (step.at + d) / F::Scales::PARTS];
        let rows: [&Tile; D] = std::array::from_fn(row);
        for (r, sums) in sums.iter_mut().enumerate() {
            let mut sum = [s.load(&sums[step.panel]), s.load(&sums[step.panel + 1])];
            for d in 0..D {
                let scale = s.splat(rows[d].scales[r]);
                for p in 0..WIDTH {
                    let dot = s.floats(s.load_ints(&dots[d][p][r]));
                    sum[p] = s.mul_add(dot, s.mul(scales[d][p], scale), sum[p]);
                }
                if F::Scales::MINIMA {
                    let minus = s.splat(rows[d].minus_sums[r]);
                    for p in 0..WIDTH {
                        sum[p] = s.mul_add(minima[d][p], minus, sum[p]);
                    }
                }
            }
            for p in 0..WIDTH {
                s.store(sum[p], &mut sums[step.panel + p]);
            }
        }
    }
}
