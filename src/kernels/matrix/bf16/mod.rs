//! Products of bfloat16 weights, in the arithmetic of Intel's matrix unit (AMX), which every CPU can follow.
//!
//! Activations are narrowed to bfloat16. A sum takes 32 products at a time: those of even and those of odd positions are
//! added up apart, by fused multiply-adds from zero, and then both together to the sum; subnormal numbers count as zero
//! (Intel SDM, TDPBF16PS). The unit is about four times as fast as fused multiply-adds when there are many rows; with
//! one row both wait for the memory.

mod lanes;
mod narrow;
#[cfg(target_arch = "x86_64")]
mod tiles;

use std::cell::RefCell;

use half::bf16;

use super::Row;
use crate::kernels::{aligned::Aligned, cpu::Cpu, dtype::Element, simd::LANES, split::Split};

/// Inputs that a sum takes at a time.
const DEPTH: usize = 32;
/// Elements of a tile: `DEPTH` inputs of a panel.
const TILE: usize = DEPTH * LANES;
/// Panels of one task.
pub(super) const GROUP: usize = 4;

thread_local! {
    /// Narrowed rows, of the thread that asks for the product.
    static ROWS: RefCell<Aligned<bf16>> = RefCell::default();
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
            for (lane, row) in rows[task * LANES..].iter().take(LANES).enumerate() {
                for i in 0..k {
                    out[place(i, lane)] = bf16::read(row.data, row.first + i * row.step);
                }
            }
        });
        Self { n: rows.len(), k, tiles }
    }

    pub(super) fn bytes(n: usize, k: usize) -> usize {
        n.next_multiple_of(LANES * GROUP) * k.next_multiple_of(DEPTH) * size_of::<bf16>()
    }

    pub(super) fn row(&self, n: usize, out: &mut [f32]) {
        let panel = self.padded() * LANES;
        let tiles = &self.tiles[n / LANES * panel..][..panel];
        for (i, out) in out.iter_mut().enumerate() {
            *out = tiles[place(i, n % LANES)].widen();
        }
    }

    /// Elements of a narrowed row.
    fn padded(&self) -> usize {
        self.k.next_multiple_of(DEPTH)
    }

    /// Calls `each` with the rows of `x` [m, k] as the products of these panels take them.
    pub(super) fn narrowed(cpu: &Cpu, k: usize, x: &[f32], each: impl FnOnce(&[bf16])) {
        ROWS.with_borrow_mut(|rows| {
            let padded = k.next_multiple_of(DEPTH);
            rows.resize(x.len() / k * padded);
            narrow::narrow(cpu, k, x, padded, rows);
            each(rows);
        });
    }

    /// The columns of one group of panels, for all rows.
    pub(super) fn columns(&self, cpu: &Cpu, rows: &[bf16], group: usize, columns: Columns<'_>) {
        let product = Product { panels: self, m: rows.len() / self.padded(), rows, columns };
        #[cfg(target_arch = "x86_64")]
        if let Some(unit) = cpu.isa.matrix_unit() {
            return tiles::group(unit, &product, group * GROUP);
        }
        cpu.isa.run(lanes::Group { product: &product, first: group * GROUP });
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

/// Where input `i` of output `lane` lies in a panel.
fn place(i: usize, lane: usize) -> usize {
    i / 2 * DEPTH + lane * 2 + i % 2
}

struct Product<'a> {
    panels: &'a Panels,
    m: usize,
    rows: &'a [bf16],
    columns: Columns<'a>,
}

impl Product<'_> {
    /// The tile of inputs from `step * DEPTH` of a panel, and those after it.
    fn weights(&self, panel: usize, step: usize) -> &[bf16] {
        let padded = self.panels.padded();
        &self.panels.tiles[panel * padded * LANES + step * TILE..(panel + 1) * padded * LANES]
    }

    /// A row's elements from `step * DEPTH`.
    fn activations(&self, row: usize, step: usize) -> &[bf16] {
        let padded = self.panels.padded();
        &self.rows[row * padded + step * DEPTH..(row + 1) * padded]
    }

    /// A row's sums of a panel, with the bias, to their place.
    #[inline(always)]
    fn finish(&self, row: usize, panel: usize, sums: &[f32; LANES]) {
        let Columns { first, width, bias, out } = self.columns;
        let start = panel * LANES;
        let count = self.panels.n.saturating_sub(start).min(LANES);
        if count == 0 {
            return;
        }
        let column = first + start;
        #[expect(unsafe_code, reason = "columns lent to several threads")]
        // SAFETY: a panel belongs to one task, and its columns of a row come once.
        let out = unsafe { out.part(row * width + column..row * width + column + count) };
        match bias {
            None => out.copy_from_slice(&sums[..count]),
            Some(bias) => {
                for ((out, sum), bias) in out.iter_mut().zip(sums).zip(&bias[column..]) {
                    *out = sum + bias;
                }
            }
        }
    }
}
