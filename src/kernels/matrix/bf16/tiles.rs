//! The product on the matrix unit.
#![expect(unsafe_code, reason = "tiles go by address")]

use std::{cell::RefCell, ops::Range};

use super::{BLOCK, Columns, Factors, GROUP, Product};
use crate::kernels::{
    aligned::Aligned,
    cpu::Cpu,
    isa::Kernel,
    matrix_unit::{SIDE, Tiles, Unit},
    simd::{LANES, Simd},
};

/// Tiles of weights that stay in the first-level cache while all rows go over them.
const STEPS: usize = 12;
/// Steps that are not divided: their weights fill most of that cache, and no sums are fetched again.
const WHOLE: usize = 20;

thread_local! {
    /// Sums of a task.
    static SUMS: RefCell<Aligned<f32>> = RefCell::default();
}

/// All rows of some panels to where the product goes.
pub(super) fn run(cpu: &Cpu, unit: Unit, product: &Product<'_>, panels: Range<usize>) {
    SUMS.with_borrow_mut(|buffer| {
        let Product { factors, .. } = product;
        let (m, tall) = (factors.rows.m, factors.tall());
        if tall > 0 {
            let result = product.bare(panels.clone());
            if result.is_none() || factors.stretch() < factors.rows.steps {
                buffer.resize(tall.next_multiple_of(2 * SIDE) * panels.len() * SIDE);
            }
            let own = Sums::rows(buffer, panels.len());
            let pairs = panels.clone().step_by(2).enumerate().map(|(i, panel)| (panel, 2 * i));
            // SAFETY: both are as large as that.
            unsafe { factors.by_blocks(unit, pairs, tall, own, result) };
            if result.is_none() {
                let sums = &buffer[..tall * panels.len() * LANES];
                cpu.isa.run(Finish { product, panels: panels.clone(), row: 0, sums });
            }
        }
        if tall < m {
            for panel in panels.step_by(GROUP) {
                product.last_rows(cpu, unit, panel, tall / SIDE, buffer);
            }
        }
    });
}

/// Calls `each` with some rows, and then with those that are left: what they are, and their sums of some panels, those of
/// `sides` one after the other. Both are whole groups of panels.
pub(super) fn sums(
    unit: Unit,
    factors: Factors<'_>,
    sides: [Range<usize>; 2],
    mut each: impl FnMut(Range<usize>, &[f32]),
) {
    SUMS.with_borrow_mut(|buffer| {
        let (m, tall) = (factors.rows.m, factors.tall());
        let [gate, up] = &sides;
        let panels = gate.len() + up.len();
        buffer.resize(tall.next_multiple_of(2 * SIDE).max(SIDE) * panels * SIDE);
        let all = || gate.clone().chain(up.clone()).enumerate();
        if tall > 0 {
            let pairs = all().step_by(2).map(|(place, panel)| (panel, place));
            // SAFETY: the buffer has room for all blocks of rows.
            unsafe { factors.by_blocks(unit, pairs, tall, Sums::rows(buffer, panels), None) };
            each(0..tall, &buffer[..tall * panels * LANES]);
        }
        if tall < m {
            let own = Sums::rows(buffer, panels);
            for (place, panel) in all().step_by(GROUP) {
                // SAFETY: the buffer has room for a block of rows.
                unsafe { factors.block(unit, panel, tall / SIDE, own.at(0, place)) };
            }
            each(tall..m, &buffer[..(m - tall) * panels * LANES]);
        }
    });
}

/// Where tiles of sums lie: the address of the first row, and bytes from row to row.
#[derive(Clone, Copy)]
struct Sums {
    first: *mut f32,
    stride: usize,
}

impl Sums {
    /// Rows of so many panels.
    fn rows(buffer: &mut [f32], panels: usize) -> Self {
        Self { first: buffer.as_mut_ptr(), stride: panels * SIDE * size_of::<f32>() }
    }

    fn at(self, row: usize, panel: usize) -> Self {
        let first = self.first.wrapping_byte_add(row * self.stride).wrapping_add(panel * SIDE);
        Self { first, ..self }
    }

    /// The upper and the lower tiles of a block of rows in two panels, and bytes from row to row.
    fn tiles(self, block: usize, panel: usize) -> ([*mut f32; 2], usize) {
        let row = |row: usize| self.at(row, panel).first;
        ([row(block * 2 * SIDE), row(block * 2 * SIDE + SIDE)], self.stride)
    }
}

impl Factors<'_> {
    /// Rows that go by 32, where the last block may have from 17.
    fn tall(&self) -> usize {
        let m = self.rows.m;
        let even = m / (2 * SIDE) * (2 * SIDE);
        if m - even > SIDE { m } else { even }
    }

    /// Steps that are taken together.
    fn stretch(&self) -> usize {
        let steps = self.rows.steps;
        if steps <= WHOLE { steps } else { steps.div_ceil(steps.div_ceil(STEPS)) }
    }

    /// Sums of the first `rows` rows, of pairs of panels: the first one, and its place in a row of sums. A stretch of the
    /// inputs at a time for all rows and panels: one of two panels' weights stays in the first cache, one of all rows in the
    /// second. The last stretch goes to the result, if there is one.
    ///
    /// # Safety
    /// `own` has room for whole blocks of rows, unless there is a result and one stretch; the result has room for the rows.
    unsafe fn by_blocks(
        &self,
        unit: Unit,
        pairs: impl Iterator<Item = (usize, usize)> + Clone,
        rows: usize,
        own: Sums,
        result: Option<Sums>,
    ) {
        let blocks = rows.div_ceil(2 * SIDE);
        let lower = |block: usize| self.rows.height(2 * block + 1);
        let whole = blocks - usize::from(lower(blocks - 1) < SIDE);
        let (steps, stretch) = (self.rows.steps, self.stretch());
        for part in [0..whole, whole..blocks] {
            if part.is_empty() {
                continue;
            }
            let tiles = Tiles::tall(unit, lower(part.start));
            for step in (0..steps).step_by(stretch) {
                let count = stretch.min(steps - step);
                for (panel, place) in pairs.clone() {
                    let weights = [0, 1].map(|p| self.weights(panel + p, step).as_ptr());
                    for block in part.clone() {
                        let x = [0, 1].map(|half| self.rows.block(2 * block + half, step).as_ptr());
                        let own = own.tiles(block, place);
                        let to = match result {
                            Some(result) if step + count == steps => result.tiles(block, place),
                            _ => own,
                        };
                        // SAFETY: both blocks of rows and both panels have `count` tiles from here on; there is room for
                        // the sums, of as many rows as the tiles have, by the caller's promise.
                        unsafe {
                            if step == 0 {
                                tiles.clear();
                            } else {
                                tiles.load(own.0, own.1);
                            }
                            tiles.two_by_two(count, x, lower(block), weights);
                            tiles.store(to.0, to.1);
                        }
                    }
                }
            }
        }
    }

    /// Sums of one block of rows, of four panels.
    ///
    /// # Safety
    /// `sums` has room for the block's rows.
    unsafe fn block(&self, unit: Unit, panel: usize, block: usize, sums: Sums) {
        let rows = self.rows.height(block);
        let (x, weights) = (self.rows.block(block, 0).as_ptr(), self.weights(panel, 0));
        let tiles = Tiles::flat(unit, rows);
        let Sums { first, stride } = sums;
        // SAFETY: the block has `steps` tiles, and so has each of a group's panels, which follow each other; the sums' place
        // is the caller's.
        unsafe {
            tiles.one_by_four(
                self.rows.steps,
                x,
                rows,
                weights.as_ptr(),
                size_of_val(weights),
                first,
                stride,
            );
        }
    }
}

impl Product<'_> {
    /// Where panels go as they are. `None` where there is a bias to add, or columns that nobody wants.
    fn bare(&self, panels: Range<usize>) -> Option<Sums> {
        let Columns { first, width, bias, out } = self.columns;
        let column = first + panels.start * LANES;
        let last = (self.factors.rows.m - 1) * width + column + panels.len() * LANES;
        let whole = bias.is_none() && panels.end * LANES <= self.factors.panels.n && last <= out.len();
        whole.then(|| Sums { first: out.address(column), stride: width * size_of::<f32>() })
    }

    /// Four panels, one block of rows.
    fn last_rows(&self, cpu: &Cpu, unit: Unit, panel: usize, block: usize, buffer: &mut Aligned<f32>) {
        let panels = panel..panel + GROUP;
        let result = self.bare(panels.clone());
        buffer.resize(SIDE * GROUP * SIDE);
        let sums = result.map_or(Sums::rows(buffer, GROUP), |result| result.at(block * BLOCK, 0));
        // SAFETY: the buffer has room for a block, the result for as many rows as there are.
        unsafe { self.factors.block(unit, panel, block, sums) };
        if result.is_none() {
            let sums = &buffer[..self.factors.rows.height(block) * GROUP * LANES];
            cpu.isa.run(Finish { product: self, panels, row: block * BLOCK, sums });
        }
    }
}

/// Sums of rows from `row` on, of some panels in each, to their places.
struct Finish<'a> {
    product: &'a Product<'a>,
    panels: Range<usize>,
    row: usize,
    sums: &'a [f32],
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (lines, _) = self.sums.as_chunks::<LANES>();
        for (i, sums) in lines.iter().enumerate() {
            let (row, panel) = (i / self.panels.len(), i % self.panels.len());
            self.product.finish(s, self.row + row, self.panels.start + panel, sums);
        }
    }
}
