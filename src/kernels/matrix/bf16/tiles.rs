//! The product on the matrix unit.
#![expect(unsafe_code, reason = "tiles go by address")]

use std::{cell::RefCell, ops::Range};

use half::bf16;

use super::{DEPTH, GROUP, Product};
use crate::kernels::{
    aligned::Aligned,
    matrix_unit::{SIDE, Tiles, Unit},
};

/// Elements of a tile of sums.
const SUMS: usize = SIDE * SIDE;
/// Tiles of weights that stay in the first-level cache while all rows go over them: with two panels, 32 KiB.
const STEPS: usize = 16;

thread_local! {
    /// Sums of a task.
    static SUMS_OF_TASK: RefCell<Aligned<f32>> = RefCell::default();
}

/// All rows of four panels.
pub(super) fn group(unit: Unit, product: &Product<'_>, first: usize) {
    SUMS_OF_TASK.with_borrow_mut(|sums| {
        let even = product.m / (2 * SIDE) * (2 * SIDE);
        let tall = if product.m - even > SIDE { product.m } else { even };
        if tall > 0 {
            for panel in (first..first + GROUP).step_by(2) {
                product.tall(unit, panel, 0..tall, sums);
            }
        }
        if tall < product.m {
            product.flat(unit, first, tall..product.m, sums);
        }
    });
}

impl Product<'_> {
    /// Two panels, rows by 32, a stretch of the weights at a time for all rows. The last block may have from 17 rows.
    fn tall(&self, unit: Unit, panel: usize, rows: Range<usize>, sums: &mut Aligned<f32>) {
        let blocks = rows.len().div_ceil(2 * SIDE);
        sums.resize(blocks * 4 * SUMS);
        sums.fill(0.0);
        let lower = |block: usize| (rows.len() - block * 2 * SIDE - SIDE).min(SIDE);
        let whole = blocks - usize::from(lower(blocks - 1) < SIDE);
        let steps = self.panels.padded() / DEPTH;
        let stride = self.panels.padded() * size_of::<bf16>();
        for stretch in [0..whole, whole..blocks] {
            if stretch.is_empty() {
                continue;
            }
            let tiles = Tiles::tall(unit, lower(stretch.start));
            for step in (0..steps).step_by(STEPS) {
                let count = STEPS.min(steps - step);
                let weights = [0, 1].map(|p| self.weights(panel + p, step).as_ptr());
                for block in stretch.clone() {
                    let row = rows.start + block * 2 * SIDE;
                    let x = [row, row + SIDE].map(|row| self.activations(row, step).as_ptr());
                    let sums = &mut sums[block * 4 * SUMS..(block + 1) * 4 * SUMS];
                    // SAFETY: rows to the end of the range exist and have `padded` elements, `stride` bytes; both panels
                    // have `steps` tiles; a block has four tiles of sums.
                    unsafe { tiles.two_by_two(count, x, stride, weights, sums.as_mut_ptr()) };
                }
            }
        }
        let sums = sums.as_chunks::<SIDE>().0;
        for (i, row) in rows.enumerate() {
            let (block, half, line) = (i / (2 * SIDE), i / SIDE % 2, i % SIDE);
            for p in 0..2 {
                self.finish(row, panel + p, &sums[((block * 2 + half) * 2 + p) * SIDE + line]);
            }
        }
    }

    /// Four panels, at most 16 rows.
    fn flat(&self, unit: Unit, panel: usize, rows: Range<usize>, sums: &mut Aligned<f32>) {
        sums.resize(GROUP * SUMS);
        sums.fill(0.0);
        let padded = self.panels.padded();
        let (x, weights) = (self.activations(rows.start, 0).as_ptr(), self.weights(panel, 0).as_ptr());
        let (stride, panel_bytes) = (padded * size_of::<bf16>(), padded * SIDE * size_of::<bf16>());
        let tiles = Tiles::flat(unit, rows.len());
        // SAFETY: the rows exist and have `padded` elements, `stride` bytes; a group has four panels of as many inputs, and
        // its sums are four tiles.
        unsafe {
            tiles.one_by_four(padded / DEPTH, x, stride, weights, panel_bytes, sums.as_mut_ptr());
        }
        drop(tiles);
        let sums = sums.as_chunks::<SIDE>().0;
        for (line, row) in rows.enumerate() {
            for p in 0..GROUP {
                self.finish(row, panel + p, &sums[p * SIDE + line]);
            }
        }
    }
}
