//! Packed weights and their product with rows.
//!
//! Sixteen output columns make a panel: `[n / 16][k][16]`, the last one filled up with zeros. A vector register then holds
//! one step of sixteen columns, and a product reads the weights once, front to back. Weights of bfloat16 lie otherwise
//! ([`bf16`]), as the matrix unit takes them.

mod bf16;
mod tile;

use half::f16;

use super::{
    activation::Activation,
    aligned::Aligned,
    cpu::Cpu,
    dtype::{Dtype, Element},
    quantized::{self, blocks::Quantization, rows::Rows},
    simd::LANES,
    split::Split,
};

/// Panels that one task multiplies: 128 columns, eight accumulators for a single row.
const GROUP: usize = 8;

/// Rows that one task multiplies, where it need not be all of them: whole tiles.
const ROWS: usize = 60;

/// Weights of `n` outputs by `k` inputs in the types they came in, packed.
pub struct Matrix {
    n: usize,
    k: usize,
    segments: Vec<Segment>,
}

/// Outputs of one type, one after the other.
struct Segment {
    first: usize,
    n: usize,
    panels: Panels,
}

enum Panels {
    F32(Aligned<f32>),
    F16(Aligned<f16>),
    Bf16(bf16::Panels),
    Quantized(quantized::Panels),
}

/// The `k` weights of one output: elements `first`, `first + step`, … of little-endian data. Of quantized types they are
/// whole blocks, and `step` is 1.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    pub data: &'a [u8],
    pub dtype: Dtype,
    pub first: usize,
    pub step: usize,
}

impl Matrix {
    /// Packs rows of `k` weights each, which keep their types.
    ///
    /// # Panics
    /// When a row's data end early, or a quantized row is not of whole blocks.
    #[must_use]
    pub fn pack(cpu: &Cpu, k: usize, rows: &[Row<'_>]) -> Self {
        let mut segments = Vec::new();
        let mut first = 0;
        for rows in rows.chunk_by(|a, b| a.dtype == b.dtype) {
            let panels = match rows[0].dtype {
                Dtype::F32 => Panels::F32(pack(cpu, k, rows, |row, i| row.dtype.read(row.data, i))),
                Dtype::F16 => Panels::F16(pack(cpu, k, rows, |row, i| f16::read(row.data, i))),
                Dtype::Bf16 => Panels::Bf16(bf16::Panels::pack(cpu, k, rows)),
                Dtype::Quantized(kind) => {
                    let rows: Vec<&[u8]> = rows.iter().map(|row| blocks(row, kind)).collect();
                    Panels::Quantized(quantized::Panels::pack(cpu, kind, k, &rows))
                }
            };
            segments.push(Segment { first, n: rows.len(), panels });
            first += rows.len();
        }
        Self { n: rows.len(), k, segments }
    }

    /// Bytes that packed weights of `n` outputs and `k` inputs of one type take.
    #[must_use]
    pub fn bytes(n: usize, k: usize, dtype: Dtype) -> usize {
        match dtype {
            Dtype::Bf16 => bf16::Panels::bytes(n, k),
            Dtype::Quantized(kind) => quantized::Panels::bytes(kind, n, k),
            Dtype::F32 | Dtype::F16 => n.next_multiple_of(LANES) * k * dtype.block().1,
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

    /// The weights of output `n`, as an embedding table that is also the head has to give them.
    ///
    /// # Panics
    /// When there is no such output, or `out` is not `k` long.
    pub fn row(&self, n: usize, out: &mut [f32]) {
        assert!(n < self.n && out.len() == self.k, "a row of the matrix");
        let within = |segment: &&Segment| (segment.first..segment.first + segment.n).contains(&n);
        let Some(segment) = self.segments.iter().find(within) else { return };
        let n = n - segment.first;
        let first = n / LANES * self.k * LANES + n % LANES;
        match &segment.panels {
            Panels::F32(panels) => gather(panels, first, out),
            Panels::F16(panels) => gather(panels, first, out),
            Panels::Bf16(panels) => panels.row(n, out),
            Panels::Quantized(panels) => panels.row(n, out),
        }
    }

    /// `x` [m, k] times the weights, plus `bias` [n], into `out` [m, n]. Quantized weights are multiplied by rows that are
    /// quantized too: their error is that of 8 bits with a scale for each 32 inputs.
    ///
    /// # Panics
    /// When a length does not fit.
    pub fn matmul(&self, cpu: &Cpu, x: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        let m = x.len() / self.k;
        assert_eq!((x.len(), out.len()), (m * self.k, m * self.n), "rows of the matrix's lengths");
        assert!(bias.is_none_or(|bias| bias.len() == self.n), "a bias for each output");
        let quantized = |segment: &Segment| matches!(segment.panels, Panels::Quantized(_));
        let quantized = self.segments.iter().any(quantized).then(|| Rows::quantize(cpu, x, self.k));
        let out = Split::new(out);
        let product = |narrowed: &[half::bf16]| {
            let inputs = Inputs { m, x, quantized: quantized.as_ref(), narrowed };
            self.product(cpu, &inputs, bias, out);
        };
        if self.segments.iter().any(|segment| matches!(segment.panels, Panels::Bf16(_))) {
            bf16::Panels::narrowed(cpu, self.k, x, product);
        } else {
            product(&[]);
        }
    }

    /// `down(activation(gate) · values)` of `x` [m, k] into `out` [m, down's n], where this matrix's outputs are the gates and
    /// then as many values: the same bits as step by step, with less to write and to read again. `false`: nothing was done,
    /// because nothing is gained with these weights, so few rows, or on this CPU.
    ///
    /// # Panics
    /// When a length does not fit.
    #[must_use]
    pub fn gated(&self, cpu: &Cpu, activation: Activation, down: &Self, x: &[f32], out: &mut [f32]) -> bool {
        let m = x.len() / self.k;
        assert_eq!((x.len(), out.len()), (m * self.k, m * down.n), "rows of the matrices' lengths");
        assert_eq!(self.n, 2 * down.k, "a gate and a value for each input of the second");
        let (Some(first), Some(_)) = (self.bf16(), down.bf16()) else { return false };
        m >= MANY
            && first.gated(cpu, activation, x, |narrowed| {
                down.product(cpu, &Inputs { m, x: &[], quantized: None, narrowed }, None, Split::new(out));
            })
    }

    /// The panels, where all are of bfloat16.
    fn bf16(&self) -> Option<&bf16::Panels> {
        match &self.segments[..] {
            [Segment { panels: Panels::Bf16(panels), .. }] => Some(panels),
            _ => None,
        }
    }

    fn product(&self, cpu: &Cpu, inputs: &Inputs<'_>, bias: Option<&[f32]>, out: Split<'_, f32>) {
        let (rows, threads) = (inputs.m, cpu.pool.threads());
        let tasks = self.segments.iter().map(|segment| segment.tasks(rows, threads)).sum();
        cpu.pool.run(tasks, &|mut task| {
            for segment in &self.segments {
                let own = segment.tasks(rows, threads);
                if task < own {
                    return segment.run(cpu, task, self, inputs, bias, out);
                }
                task -= own;
            }
        });
    }
}

/// The rows that are multiplied, as the segments want them.
struct Inputs<'a> {
    m: usize,
    /// [m, k], where a segment is of `f32` or `f16`.
    x: &'a [f32],
    /// Where a segment is quantized.
    quantized: Option<&'a Rows>,
    /// Where a segment is of bfloat16; else empty.
    narrowed: &'a [half::bf16],
}

/// From so many rows on the arithmetic takes longer than reading.
const MANY: usize = 64;
/// Panels that make a stretch.
const LONG: usize = 32;

impl Segment {
    /// Panels in a task, of a product of so many rows. A few rows wait for the memory, which gives most to threads that read
    /// on and on: each has as few stretches as leave no thread without one for long at the end.
    fn group(&self, rows: usize, threads: usize) -> usize {
        let panels = self.n.div_ceil(LANES);
        let together = match &self.panels {
            Panels::F32(_) | Panels::F16(_) => GROUP,
            Panels::Bf16(_) => bf16::GROUP,
            Panels::Quantized(_) => quantized::GROUP,
        };
        if rows >= MANY {
            return match &self.panels {
                Panels::Bf16(own) => own.together(rows, threads),
                _ => together,
            };
        }
        let stretches = (panels / (threads * LONG)).clamp(1, 4);
        let pairs = if matches!(self.panels, Panels::Quantized(_)) { 2 } else { together };
        panels.div_ceil(threads * stretches).next_multiple_of(pairs)
    }

    fn groups(&self, rows: usize, threads: usize) -> usize {
        self.n.div_ceil(LANES * self.group(rows, threads))
    }

    /// Parts that the rows of a product are taken in.
    fn parts(&self, rows: usize) -> usize {
        match self.panels {
            Panels::F32(_) | Panels::F16(_) => rows.div_ceil(ROWS),
            Panels::Bf16(_) | Panels::Quantized(_) => 1,
        }
    }

    fn tasks(&self, rows: usize, threads: usize) -> usize {
        self.groups(rows, threads) * self.parts(rows)
    }

    fn run(
        &self,
        cpu: &Cpu,
        task: usize,
        matrix: &Matrix,
        inputs: &Inputs<'_>,
        bias: Option<&[f32]>,
        out: Split<'_, f32>,
    ) {
        let Self { first, n, .. } = *self;
        let rows = inputs.m;
        let groups = self.groups(rows, cpu.pool.threads());
        let (part, task) = (task / groups, task % groups);
        let group = self.group(rows, cpu.pool.threads());
        let group = task * group..((task + 1) * group).min(n.div_ceil(LANES));
        let rows = part * ROWS..((part + 1) * ROWS).min(rows);
        let (k, width, x) = (matrix.k, matrix.n, inputs.x);
        match &self.panels {
            Panels::F32(panels) => {
                let (panels, _) = panels.as_chunks();
                cpu.isa.run(tile::Columns { n, first, width, k, x, rows, panels, bias, out, group });
            }
            Panels::F16(panels) => {
                let (panels, _) = panels.as_chunks();
                cpu.isa.run(tile::Columns { n, first, width, k, x, rows, panels, bias, out, group });
            }
            Panels::Bf16(panels) => {
                panels.columns(cpu, inputs.narrowed, group, bf16::Columns { first, width, bias, out });
            }
            Panels::Quantized(panels) => {
                if let Some(rows) = inputs.quantized {
                    let columns = quantized::Columns { n, first, width, bias, out, group };
                    panels.columns(cpu, rows, columns);
                }
            }
        }
    }
}

/// A quantized row's bytes.
fn blocks<'a>(row: &Row<'a>, kind: Quantization) -> &'a [u8] {
    let (elements, size) = kind.block();
    assert!(row.step == 1 && row.first.is_multiple_of(elements), "whole blocks in a row");
    &row.data[row.first / elements * size..]
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
