//! Quantized weights, packed as they are, and their product with rows in exact integers.
//!
//! Weights come in blocks of 32 with a scale of their own (ggml's K types: in blocks of 256 made of such). Rows of
//! activations are quantized to 8 bits, 32 elements to a scale ([`rows`]), once for a product. A block of a row times a
//! block of a column is then a sum of whole numbers, which every instruction set gets exactly. One output is
//!
//! ```text
//! sum = 0
//! for each block, upwards (Q6_K: for each half of it):
//!     sum = fused(dot, weight scale · row scale, sum)
//!     sum = fused(weight minimum, -(row scale · sum of the row's quants), sum)     where there are minima
//! ```
//!
//! in `f32`, then the bias: the same for every number of rows, of threads and every instruction set.
//!
//! Memory: sixteen columns by 256 inputs make a record ([`formats`]), 16 · 1.00 to 1.03 times the file's block. Records of a
//! panel lie one after the other, so that a product reads weights once, front to back.

pub mod blocks;
mod formats;
pub(super) mod rows;
mod tile;
#[cfg(target_arch = "x86_64")]
mod unit;

use std::ops::Range;

use super::{aligned::Aligned, cpu::Cpu, simd::LANES, split::Split};
use blocks::Quantization;
use formats::{Format, RECORD, Scales, Unpacked};
use rows::Rows;

/// Panels that are multiplied together.
pub(super) const GROUP: usize = 4;

/// Packed weights of one type.
pub(super) struct Panels {
    kind: Quantization,
    k: usize,
    bytes: Aligned<u8>,
}

/// The columns that a task computes, and where they go.
pub(super) struct Columns<'a> {
    /// Of the segment.
    pub(super) n: usize,
    /// The segment's first column in `out`, and the width of `out`.
    pub(super) first: usize,
    pub(super) width: usize,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) out: Split<'a, f32>,
    /// Panels.
    pub(super) group: Range<usize>,
}

/// Something to do with a type of blocks.
trait Visit {
    type Output;
    fn visit<F: Format>(self) -> Self::Output;
}

fn visit<V: Visit>(kind: Quantization, visitor: V) -> V::Output {
    match kind {
        Quantization::Q4_0 => visitor.visit::<formats::Q4_0>(),
        Quantization::Q4_1 => visitor.visit::<formats::Q4_1>(),
        Quantization::Q5_0 => visitor.visit::<formats::Q5_0>(),
        Quantization::Q5_1 => visitor.visit::<formats::Q5_1>(),
        Quantization::Q8_0 => visitor.visit::<formats::Q8_0>(),
        Quantization::Q4K => visitor.visit::<formats::Q4K>(),
        Quantization::Q5K => visitor.visit::<formats::Q5K>(),
        Quantization::Q6K => visitor.visit::<formats::Q6K>(),
        Quantization::Mxfp4 => visitor.visit::<formats::Mxfp4>(),
    }
}

/// Where the records of a panel of `k` inputs lie.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// Blocks of 32.
    blocks: usize,
    /// Bytes of a full record, and of the panel.
    record: usize,
    panel: usize,
}

impl Layout {
    #[inline(always)]
    fn of<F: Format>(k: usize) -> Self {
        let blocks = k / rows::BLOCK;
        let record = F::bytes(RECORD);
        let rest = blocks % RECORD;
        let panel = blocks / RECORD * record + if rest > 0 { F::bytes(rest) } else { 0 };
        Self { blocks, record, panel }
    }

    /// Blocks in record `index`.
    #[inline(always)]
    fn count(self, index: usize) -> usize {
        (self.blocks - index * RECORD).min(RECORD)
    }
}

impl Panels {
    /// Bytes that `n` outputs of `k` inputs take.
    pub(super) fn bytes(kind: Quantization, n: usize, k: usize) -> usize {
        n.div_ceil(LANES) * visit(kind, PanelBytes(k))
    }

    /// Packs rows of whole blocks. The rows' bytes begin with their first block.
    ///
    /// # Panics
    /// When `k` is no whole number of blocks, or a row's data end early.
    pub(super) fn pack(cpu: &Cpu, kind: Quantization, k: usize, rows: &[&[u8]]) -> Self {
        assert!(k.is_multiple_of(kind.block().0), "rows of whole blocks");
        let mut bytes = Aligned::zeroed(Self::bytes(kind, rows.len(), k));
        visit(kind, Pack { cpu, k, rows, out: &mut bytes });
        Self { kind, k, bytes }
    }

    /// The weights of output `n`.
    pub(super) fn row(&self, n: usize, out: &mut [f32]) {
        visit(self.kind, Read { panels: self, n, out });
    }

    /// Multiplies the columns by all rows.
    pub(super) fn columns(&self, cpu: &Cpu, rows: &Rows, columns: Columns<'_>) {
        visit(self.kind, Product { cpu, panels: self, rows, columns });
    }
}

struct PanelBytes(usize);

impl Visit for PanelBytes {
    type Output = usize;
    fn visit<F: Format>(self) -> usize {
        Layout::of::<F>(self.0).panel
    }
}

struct Pack<'a> {
    cpu: &'a Cpu,
    k: usize,
    rows: &'a [&'a [u8]],
    out: &'a mut [u8],
}

impl Visit for Pack<'_> {
    type Output = ();
    fn visit<F: Format>(self) {
        let layout = Layout::of::<F>(self.k);
        let (elements, size) = F::KIND.block();
        let subs = elements / rows::BLOCK;
        let split = Split::new(self.out);
        self.cpu.pool.run(self.rows.len().div_ceil(LANES), &|task| {
            #[expect(unsafe_code, reason = "panels lent to several threads")]
            // SAFETY: each panel belongs to one task.
            let panel = unsafe { split.part(task * layout.panel..(task + 1) * layout.panel) };
            let rows = &self.rows[task * LANES..];
            for (index, record) in panel.chunks_mut(layout.record).enumerate() {
                let count = layout.count(index);
                for at in 0..count {
                    let (block, sub) = ((index * RECORD + at) / subs, (index * RECORD + at) % subs);
                    let mut quants = [[0; rows::BLOCK]; LANES];
                    for (lane, (row, quants)) in rows.iter().zip(&mut quants).enumerate() {
                        let block = &row[block * size..(block + 1) * size];
                        *quants = F::KIND.quants(block, sub);
                        F::Scales::put(&mut record[F::quant_bytes(count)..], count, at, lane, block, sub);
                    }
                    F::put(record, count, at, &quants);
                }
            }
        });
    }
}

struct Read<'a> {
    panels: &'a Panels,
    n: usize,
    out: &'a mut [f32],
}

impl Visit for Read<'_> {
    type Output = ();
    fn visit<F: Format>(self) {
        let layout = Layout::of::<F>(self.panels.k);
        let (panel, lane) = (self.n / LANES, self.n % LANES);
        let panel = &self.panels.bytes[panel * layout.panel..(panel + 1) * layout.panel];
        let mut unpacked = Unpacked::ZERO;
        let part = rows::BLOCK / F::Scales::PARTS;
        for (index, out) in self.out.chunks_mut(RECORD * rows::BLOCK).enumerate() {
            let count = layout.count(index);
            let record = &panel[index * layout.record..][..F::bytes(count)];
            F::unpack::<_, false>(super::simd::scalar::Scalar, record, count, &mut unpacked);
            let (whole, _) = record.as_chunks::<64>();
            for (i, out) in out.iter_mut().enumerate() {
                let (at, group) = (i / rows::BLOCK, i % rows::BLOCK / 4);
                let groups =
                    if F::BITS == 8 { &whole[at * formats::GROUPS..] } else { &unpacked.groups[at][..] };
                let quant = f32::from(groups[group][lane * 4 + i % 4]) - f32::from(F::ZERO);
                let minimum = if F::Scales::MINIMA { unpacked.minima[at][lane] } else { 0.0 };
                *out = unpacked.scales[i / part][lane] * quant - minimum;
            }
        }
    }
}

struct Product<'a> {
    cpu: &'a Cpu,
    panels: &'a Panels,
    rows: &'a Rows,
    columns: Columns<'a>,
}

impl Visit for Product<'_> {
    type Output = ();
    fn visit<F: Format>(self) {
        let layout = Layout::of::<F>(self.panels.k);
        let Self { cpu, panels, rows, columns } = self;
        #[cfg(target_arch = "x86_64")]
        if let Some(tiles) = rows.tiles() {
            return unit::columns::<F>(cpu.isa, layout, &panels.bytes, tiles, columns);
        }
        tile::columns::<F>(cpu.isa, layout, &panels.bytes, rows, columns);
    }
}

#[cfg(test)]
mod tests;
