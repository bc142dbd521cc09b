//! Two products with a gated activation between, on the matrix unit. What is between never becomes a matrix of `f32`: a task
//! takes some columns of the gate and the same of up, and their sums go from the cache to the rows of the second product.
#![expect(unsafe_code, reason = "the rows between, lent to several threads")]

use std::{cell::RefCell, ops::Range};

use half::bf16;

use super::{BLOCK, DEPTH, Factors, GROUP, Panels, Rows, narrow::nearest, start, tiles};
use crate::kernels::{
    activation::{Activation, pair},
    aligned::Aligned,
    cpu::Cpu,
    isa::Kernel,
    matrix_unit::Unit,
    simd::{LANES, Simd},
    split::Split,
};

thread_local! {
    /// The rows between, of the thread that asks for the products.
    static BETWEEN: RefCell<Aligned<bf16>> = RefCell::default();
}

/// Whether tasks have whole groups of panels of as many outputs.
pub(super) fn fits(up: &Panels) -> bool {
    up.n.is_multiple_of(2 * GROUP * LANES)
}

/// Calls `each` with the rows that `narrowed` leave for the second product, as it takes them. `up` has as many gates, then as
/// many values, and fits.
pub(super) fn gated(
    cpu: &Cpu,
    unit: Unit,
    up: &Panels,
    activation: Activation,
    narrowed: &[bf16],
    each: impl FnOnce(&[bf16]),
) {
    let rows = Rows::new(up.steps(), narrowed);
    let inner = up.n / 2;
    BETWEEN.with_borrow_mut(|between| {
        between.resize(rows.m * inner);
        let first = Gated { activation, factors: Factors { panels: up, rows }, between: Split::new(between) };
        let panels = inner / LANES;
        let together = (up.together(rows.m, cpu.pool.threads()) / 2).next_multiple_of(GROUP);
        cpu.pool.run(panels.div_ceil(together), &|task| {
            first.run(cpu, unit, task * together..panels.min((task + 1) * together));
        });
        each(between);
    });
}

/// The first product and where it goes.
struct Gated<'a> {
    activation: Activation,
    factors: Factors<'a>,
    between: Split<'a, bf16>,
}

impl Gated<'_> {
    /// Gates and values to be multiplied by them, in rows between.
    fn inner(&self) -> usize {
        self.factors.panels.n / 2
    }

    /// Some of the gate's panels and the same of up's.
    fn run(&self, cpu: &Cpu, unit: Unit, panels: Range<usize>) {
        let up = self.inner() / LANES;
        let sides = [panels.clone(), up + panels.start..up + panels.end];
        tiles::sums(unit, self.factors, sides, |rows, sums| {
            cpu.isa.run(Finish { gated: self, panels: panels.clone(), rows, sums });
        });
    }

    /// The places of 32 values of a row, from a multiple of 32 on.
    fn places(&self, row: usize, first: usize) -> Range<usize> {
        let block = row / BLOCK;
        let height = self.factors.rows.height(block);
        let place = start(self.inner() / DEPTH, block, height, first / DEPTH) + row % BLOCK * DEPTH;
        place..place + DEPTH
    }
}

/// Sums of some rows: in each those of the gate's panels, then those of up's.
struct Finish<'a> {
    gated: &'a Gated<'a>,
    panels: Range<usize>,
    rows: Range<usize>,
    sums: &'a [f32],
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.panels.len() * LANES;
        for (row, sums) in self.rows.zip(self.sums.chunks_exact(2 * width)) {
            let (gate, up) = sums.split_at(width);
            for first in (0..width).step_by(DEPTH) {
                let mut values = [0.0; DEPTH];
                let (halves, _) = values.as_chunks_mut::<LANES>();
                for (half, out) in halves.iter_mut().enumerate() {
                    let part = first + half * LANES..;
                    let (gate, up) = (s.load_part(&gate[part.clone()]), s.load_part(&up[part]));
                    s.store(pair(s, self.gated.activation, gate, up), out);
                }
                let places = self.gated.places(row, self.panels.start * LANES + first);
                // SAFETY: a column belongs to one task, and its rows come once.
                let places = unsafe { self.gated.between.part(places) };
                for (out, value) in places.iter_mut().zip(values) {
                    *out = nearest(value);
                }
            }
        }
    }
}
