//! Products of bfloat16 weights, in the arithmetic of Intel's matrix unit (AMX), which every CPU can follow.
//!
//! Activations are narrowed to bfloat16. A sum takes 32 products at a time: those of even and those of odd positions are
//! added up apart, by fused multiply-adds from zero, and then both together to the sum; subnormal numbers count as zero
//! (Intel SDM, TDPBF16PS). The unit is about four times as fast as fused multiply-adds when there are many rows; with
//! one row both wait for the memory.

#[cfg(target_arch = "x86_64")]
mod gated;
mod lanes;
mod narrow;
#[cfg(target_arch = "x86_64")]
mod tiles;

use std::{cell::RefCell, ops::Range};

use half::bf16;

use super::Row;
use crate::kernels::{
    activation::Activation,
    aligned::Aligned,
    cpu::Cpu,
    dtype::Element,
    simd::{LANES, Simd},
    split::Split,
};

/// Inputs that a sum takes at a time.
const DEPTH: usize = 32;
/// Elements of a tile: `DEPTH` inputs of a panel.
const TILE: usize = DEPTH * LANES;
/// Rows that lie in one block.
const BLOCK: usize = 16;
/// Panels of a task are a multiple of this.
pub(super) const GROUP: usize = 4;
/// Panels of a task whose rows do not stay in the second cache: they are fetched once for so many.
const FAR: usize = 16;
/// Bytes of rows that stay there.
const NEAR: usize = 1 << 20;

thread_local! {
    /// Narrowed rows, of the thread that asks for the product.
    static NARROWED: RefCell<Aligned<bf16>> = RefCell::default();
}

/// `n` outputs by `k` inputs: `[n / 16][k / 32][16 pairs of inputs][16 outputs][2]`, filled up with zeros to whole tiles
/// and whole groups of panels.
pub(super) struct Panels {
    n: usize,
    k: usize,
    tiles: Aligned<bf16>,
}

impl Panels {
    pub(super) fn pack(cpu: &Cpu, k: usize, rows: &[Row<'_>]) -> Self {
        let panel = k.div_ceil(DEPTH) * TILE;
        let count = rows.len().div_ceil(LANES);
        let mut tiles = Aligned::zeroed(count.next_multiple_of(GROUP) * panel);
        let split = Split::new(&mut tiles);
        cpu.pool.run(count, &|task| {
            #[expect(unsafe_code, reason = "panels lent to several threads")]
            // SAFETY: each panel belongs to one task.
            let out = unsafe { split.part(task * panel..(task + 1) * panel) };
            let rows = &rows[task * LANES..rows.len().min((task + 1) * LANES)];
            for (step, tile) in out.chunks_exact_mut(TILE).enumerate() {
                let inputs = step * DEPTH..k.min((step + 1) * DEPTH);
                for (lane, row) in rows.iter().enumerate() {
                    fill(tile, lane, row, inputs.clone());
                }
            }
        });
        Self { n: rows.len(), k, tiles }
    }

    pub(super) fn bytes(n: usize, k: usize) -> usize {
        n.next_multiple_of(LANES * GROUP) * k.next_multiple_of(DEPTH) * size_of::<bf16>()
    }

    pub(super) fn row(&self, n: usize, out: &mut [f32]) {
        let panel = self.steps() * TILE;
        let tiles = &self.tiles[n / LANES * panel..][..panel];
        for (i, out) in out.iter_mut().enumerate() {
            *out = tiles[place(i, n % LANES)].widen();
        }
    }

    fn steps(&self) -> usize {
        self.k.div_ceil(DEPTH)
    }

    /// Calls `each` with the rows of `x` [m, k] as the products of these panels take them.
    pub(super) fn narrowed(cpu: &Cpu, k: usize, x: &[f32], each: impl FnOnce(&[bf16])) {
        NARROWED.with_borrow_mut(|rows| {
            rows.resize(x.len() / k * k.next_multiple_of(DEPTH));
            narrow::narrow(cpu, k, x, rows);
            each(rows);
        });
    }

    /// Calls `each` with the rows between of two products with a gated activation between, narrowed for the second. `false`:
    /// not called, these panels are better multiplied on their own.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn gated(
        &self,
        cpu: &Cpu,
        activation: Activation,
        x: &[f32],
        each: impl FnOnce(&[bf16]),
    ) -> bool {
        let Some(unit) = cpu.isa.matrix_unit().filter(|_| gated::fits(self)) else { return false };
        Self::narrowed(cpu, self.k, x, |narrowed| gated::gated(cpu, unit, self, activation, narrowed, each));
        true
    }

    /// As above; there is no unit.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn gated(&self, _: &Cpu, _: Activation, _: &[f32], _: impl FnOnce(&[bf16])) -> bool {
        false
    }

    /// Panels in a task, of a product of many rows.
    pub(super) fn together(&self, rows: usize, threads: usize) -> usize {
        if rows * self.steps() * DEPTH * size_of::<bf16>() <= NEAR {
            return GROUP;
        }
        // As many tasks as let the threads end about together.
        let few = self.n.div_ceil(LANES) / (4 * threads) / GROUP * GROUP;
        few.clamp(GROUP, FAR)
    }

    /// The columns of some panels from a multiple of four on, for all rows.
    pub(super) fn columns(&self, cpu: &Cpu, narrowed: &[bf16], panels: Range<usize>, columns: Columns<'_>) {
        let panels = panels.start..panels.end.next_multiple_of(GROUP);
        let steps = self.steps();
        let factors = Factors { panels: self, rows: Rows::new(steps, narrowed) };
        let product = Product { factors, columns };
        #[cfg(target_arch = "x86_64")]
        if let Some(unit) = cpu.isa.matrix_unit() {
            return tiles::run(cpu, unit, &product, panels);
        }
        for first in panels.step_by(GROUP) {
            cpu.isa.run(lanes::Group { product: &product, first });
        }
    }
}

/// `m` narrowed rows of `steps * 32` inputs, in blocks of sixteen rows and one of what is left: `[step][row][32]` in each.
#[derive(Clone, Copy)]
struct Rows<'a> {
    m: usize,
    steps: usize,
    values: &'a [bf16],
}

/// Where a block of `height` rows, of `steps * 32` inputs each, has those from `step` on.
fn start(steps: usize, block: usize, height: usize, step: usize) -> usize {
    (block * BLOCK * steps + step * height) * DEPTH
}

impl<'a> Rows<'a> {
    fn new(steps: usize, values: &'a [bf16]) -> Self {
        Self { m: values.len() / (steps * DEPTH), steps, values }
    }

    /// Rows of a block.
    fn height(&self, block: usize) -> usize {
        (self.m - block * BLOCK).min(BLOCK)
    }

    /// A block's inputs from `step` on.
    fn block(&self, block: usize, step: usize) -> &'a [bf16] {
        let place = |step| start(self.steps, block, self.height(block), step);
        &self.values[place(step)..place(self.steps)]
    }

    /// The inputs of one row in one step.
    #[inline(always)]
    fn line(&self, row: usize, step: usize) -> &'a [bf16; DEPTH] {
        let (lines, _) = self.block(row / BLOCK, step).as_chunks();
        &lines[row % BLOCK]
    }
}

/// Where the products go.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    /// The first column in `out`, and the width of `out`.
    pub(super) first: usize,
    pub(super) width: usize,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) out: Split<'a, f32>,
}

/// Some inputs of an output into their tile, from its beginning.
fn fill(tile: &mut [bf16], lane: usize, row: &Row<'_>, inputs: Range<usize>) {
    if row.step == 1 && inputs.len() == DEPTH {
        let first = (row.first + inputs.start) * size_of::<bf16>();
        let (pairs, _) = row.data[first..][..DEPTH * size_of::<bf16>()].as_chunks();
        for (line, [a, b, c, d]) in tile.chunks_exact_mut(DEPTH).zip(pairs) {
            line[2 * lane..][..2]
                .copy_from_slice(&[bf16::from_le_bytes([*a, *b]), bf16::from_le_bytes([*c, *d])]);
        }
        return;
    }
    for (i, input) in inputs.enumerate() {
        tile[place(i, lane)] = bf16::read(row.data, row.first + input * row.step);
    }
}

/// Where input `i` of output `lane` lies in a panel.
fn place(i: usize, lane: usize) -> usize {
    i / 2 * DEPTH + lane * 2 + i % 2
}

/// What is multiplied.
#[derive(Clone, Copy)]
struct Factors<'a> {
    panels: &'a Panels,
    rows: Rows<'a>,
}

impl Factors<'_> {
    /// The tile of inputs from `step * DEPTH` of a panel, and those after it.
    fn weights(&self, panel: usize, step: usize) -> &[bf16] {
        let steps = self.panels.steps();
        &self.panels.tiles[(panel * steps + step) * TILE..(panel + 1) * steps * TILE]
    }
}

struct Product<'a> {
    factors: Factors<'a>,
    columns: Columns<'a>,
}

impl Product<'_> {
    /// A row's sums of a panel, with the bias, to their place.
    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, row: usize, panel: usize, sums: &[f32; LANES]) {
        let Columns { first, width, bias, out } = self.columns;
        let start = panel * LANES;
        let count = self.factors.panels.n.saturating_sub(start).min(LANES);
        if count == 0 {
            return;
        }
        let column = first + start;
        #[expect(unsafe_code, reason = "columns lent to several threads")]
        // SAFETY: a panel belongs to one task, and its columns of a row come once.
        let out = unsafe { out.part(row * width + column..row * width + column + count) };
        let sums = s.load(sums);
        let sums = match bias {
            None => sums,
            Some(bias) => s.add(sums, s.load_part(&bias[column..column + count])),
        };
        s.store_part(sums, out);
    }
}
