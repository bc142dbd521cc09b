//! Packed weights and their product with rows.
//!
//! Sixteen output columns make a panel: `[n / 16][k][16]`, the last one filled up with zeros. A vector register then holds
//! one step of sixteen columns, and a product reads the weights once, front to back. Weights of bfloat16 lie otherwise
//! ([`bf16`]), as the matrix unit takes them.

mod bf16;
mod tile;

use half::f16;

use super::{
    aligned::Aligned,
    cpu::Cpu,
    dtype::{Dtype, Element},
    simd::LANES,
    split::Split,
};

/// Panels that one task multiplies: 128 columns, eight accumulators for a single row.
const GROUP: usize = 8;

/// Weights of `n` outputs by `k` inputs in the dtype they came in, packed.
pub struct Matrix {
    n: usize,
    k: usize,
    panels: Panels,
}

enum Panels {
    F32(Aligned<f32>),
    F16(Aligned<f16>),
    Bf16(bf16::Panels),
}

/// The `k` weights of one output: elements `first`, `first + step`, … of little-endian data.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    pub data: &'a [u8],
    pub dtype: Dtype,
    pub first: usize,
    pub step: usize,
}

impl Matrix {
    /// Packs rows of `k` weights each. They keep their dtype when all have the same, and become f32 otherwise.
    ///
    /// # Panics
    /// When a row's data end early.
    #[must_use]
    pub fn pack(cpu: &Cpu, k: usize, rows: &[Row<'_>]) -> Self {
        let dtype = rows.first().map_or(Dtype::F32, |row| row.dtype);
        let dtype = if rows.iter().all(|row| row.dtype == dtype) { dtype } else { Dtype::F32 };
        let panels = match dtype {
            Dtype::F32 => Panels::F32(pack(cpu, k, rows, |row, i| row.dtype.read(row.data, i))),
            Dtype::F16 => Panels::F16(pack(cpu, k, rows, |row, i| f16::read(row.data, i))),
            Dtype::Bf16 => Panels::Bf16(bf16::Panels::pack(cpu, k, rows)),
        };
        Self { n: rows.len(), k, panels }
    }

    /// Bytes that a packed matrix of `n` outputs and `k` inputs takes.
    #[must_use]
    pub fn bytes(n: usize, k: usize, dtype: Dtype) -> usize {
        match dtype {
            Dtype::Bf16 => bf16::Panels::bytes(n, k),
            Dtype::F32 | Dtype::F16 => n.next_multiple_of(LANES) * k * dtype.size(),
        }
    }

    /// Outputs.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    #[must_use]
    pub fn dtype(&self) -> Dtype {
        match self.panels {
            Panels::F32(_) => Dtype::F32,
            Panels::F16(_) => Dtype::F16,
            Panels::Bf16(_) => Dtype::Bf16,
        }
    }

    /// The weights of output `n`, as an embedding table that is also the head has to give them.
    ///
    /// # Panics
    /// When there is no such output, or `out` is not `k` long.
    pub fn row(&self, n: usize, out: &mut [f32]) {
        assert!(n < self.n && out.len() == self.k, "a row of the matrix");
        let first = n / LANES * self.k * LANES + n % LANES;
        match &self.panels {
            Panels::F32(panels) => gather(panels, first, out),
            Panels::F16(panels) => gather(panels, first, out),
            Panels::Bf16(panels) => panels.row(n, out),
        }
    }

    /// `x` [m, k] times the weights, plus `bias` [n], into `out` [m, n].
    ///
    /// # Panics
    /// When a length does not fit.
    pub fn matmul(&self, cpu: &Cpu, x: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        let m = x.len() / self.k;
        assert_eq!((x.len(), out.len()), (m * self.k, m * self.n), "rows of the matrix's lengths");
        assert!(bias.is_none_or(|bias| bias.len() == self.n), "a bias for each output");
        match &self.panels {
            Panels::F32(panels) => self.product(cpu, x, panels, bias, out),
            Panels::F16(panels) => self.product(cpu, x, panels, bias, out),
            Panels::Bf16(panels) => panels.matmul(cpu, x, bias, out),
        }
    }

    fn product<T: Element>(&self, cpu: &Cpu, x: &[f32], panels: &[T], bias: Option<&[f32]>, out: &mut [f32]) {
        let panels = panels.as_chunks::<LANES>().0;
        let count = self.n.div_ceil(LANES);
        let out = Split::new(out);
        cpu.pool.run(count.div_ceil(GROUP), &|task| {
            let group = task * GROUP..((task + 1) * GROUP).min(count);
            cpu.isa.run(tile::Columns { n: self.n, k: self.k, x, panels, bias, out, group });
        });
    }
}

fn gather<T: Element>(panels: &[T], first: usize, out: &mut [f32]) {
    for (value, out) in panels[first..].iter().step_by(LANES).zip(out) {
        *out = value.widen();
    }
}

fn pack<T: Element>(
    cpu: &Cpu,
    k: usize,
    rows: &[Row<'_>],
    read: impl Fn(&Row<'_>, usize) -> T + Sync,
) -> Aligned<T> {
    let mut panels = Aligned::zeroed(rows.len().next_multiple_of(LANES) * k);
    let panel = k * LANES;
    let split = Split::new(&mut panels);
    cpu.pool.run(rows.len().div_ceil(LANES), &|task| {
        #[expect(unsafe_code, reason = "panels lent to several threads")]
        // SAFETY: each panel belongs to one task.
        let out = unsafe { split.part(task * panel..(task + 1) * panel) };
        for (lane, row) in rows[task * LANES..].iter().take(LANES).enumerate() {
            for (i, place) in out.iter_mut().skip(lane).step_by(LANES).enumerate() {
                *place = read(row, row.first + i * row.step);
            }
        }
    });
    panels
}

#[cfg(test)]
mod tests;
