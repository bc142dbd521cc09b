//! The product on the matrix unit.
#![expect(unsafe_code, reason = "tiles go by address")]

use std::{cell::RefCell, ops::Range};

use super::{BLOCK, GROUP, Product};
use crate::kernels::{
    aligned::Aligned,
    cpu::Cpu,
    isa::Kernel,
    matrix_unit::{SIDE, Tiles, Unit},
    simd::{LANES, Simd},
};

/// Tiles of weights that stay in the first-level cache while all rows go over them.
const STEPS: usize = 12;

thread_local! {
    /// Sums of a task.
    static SUMS: RefCell<Aligned<f32>> = RefCell::default();
}

/// All rows of some panels, four by four.
pub(super) fn run(cpu: &Cpu, unit: Unit, product: &Product<'_>, panels: Range<usize>) {
    SUMS.with_borrow_mut(|sums| {
        let m = product.rows.m;
        let even = m / (2 * SIDE) * (2 * SIDE);
        let tall = if m - even > SIDE { m } else { even };
        if tall > 0 {
            product.tall(cpu, unit, panels.clone(), tall, sums);
        }
        if tall < m {
            for panel in panels.step_by(GROUP) {
                product.flat(cpu, unit, panel, tall / SIDE, sums);
            }
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
    /// The upper and the lower tiles of a block of rows in two panels, and bytes from row to row.
    fn tiles(self, block: usize, panel: usize) -> ([*mut f32; 2], usize) {
        let row = |row: usize| self.first.wrapping_byte_add(row * self.stride).wrapping_add(panel * SIDE);
        ([row(block * 2 * SIDE), row(block * 2 * SIDE + SIDE)], self.stride)
    }
}

impl Product<'_> {
    /// Some panels, the first `rows` rows by 32. The last block may have from 17 rows. A stretch of the inputs at a time for
    /// all rows and panels: one of two panels' weights stays in the first cache, one of all rows in the second.
    fn tall(&self, cpu: &Cpu, unit: Unit, panels: Range<usize>, rows: usize, buffer: &mut Aligned<f32>) {
        let blocks = rows.div_ceil(2 * SIDE);
        let lower = |block: usize| self.rows.height(2 * block + 1);
        let whole = blocks - usize::from(lower(blocks - 1) < SIDE);
        let steps = self.rows.steps;
        let stretch = steps.div_ceil(steps.div_ceil(STEPS));
        let result = self.bare(panels.start, panels.len()).map(|(first, stride)| Sums { first, stride });
        if result.is_none() || stretch < steps {
            buffer.resize(blocks * 2 * SIDE * panels.len() * SIDE);
        }
        let own = Sums { first: buffer.as_mut_ptr(), stride: panels.len() * SIDE * size_of::<f32>() };
        for part in [0..whole, whole..blocks] {
            if part.is_empty() {
                continue;
            }
            let tiles = Tiles::tall(unit, lower(part.start));
            for step in (0..steps).step_by(stretch) {
                let count = stretch.min(steps - step);
                for pair in (0..panels.len()).step_by(2) {
                    let weights = [0, 1].map(|p| self.weights(panels.start + pair + p, step).as_ptr());
                    for block in part.clone() {
                        let x = [0, 1].map(|half| self.rows.block(2 * block + half, step).as_ptr());
                        let own = own.tiles(block, pair);
                        let to = match result {
                            Some(result) if step + count == steps => result.tiles(block, pair),
                            _ => own,
                        };
                        // SAFETY: both blocks of rows and both panels have `count` tiles from here on; sums lie in the
                        // buffer, which has room for all blocks, or in the result, where there are as many rows as the
                        // tiles have.
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
        if result.is_none() {
            let sums = &buffer[..rows * panels.len() * LANES];
            cpu.isa.run(Finish { product: self, panels, row: 0, sums });
        }
    }

    /// Four panels, one block of rows.
    fn flat(&self, cpu: &Cpu, unit: Unit, panel: usize, block: usize, buffer: &mut Aligned<f32>) {
        let rows = self.rows.height(block);
        let bare = self.bare(panel, GROUP);
        buffer.resize(SIDE * GROUP * SIDE);
        let (first, stride) = bare.unwrap_or((buffer.as_mut_ptr(), GROUP * SIDE * size_of::<f32>()));
        let skipped = if bare.is_some() { block * BLOCK * stride } else { 0 };
        let (x, weights) = (self.rows.block(block, 0).as_ptr(), self.weights(panel, 0));
        let tiles = Tiles::flat(unit, rows);
        // SAFETY: the block has `steps` tiles, and so has each of a group's panels, which follow each other; sums lie in the
        // buffer or in the result, where there are as many rows as the tiles have.
        unsafe {
            let sums = first.byte_add(skipped);
            tiles.one_by_four(self.rows.steps, x, rows, weights.as_ptr(), size_of_val(weights), sums, stride);
        }
        drop(tiles);
        if bare.is_none() {
            let sums = &buffer[..rows * GROUP * LANES];
            let panels = panel..panel + GROUP;
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
