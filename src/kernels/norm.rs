//! RMS norm (Zhang & Sennrich 2019) and layer norm (Ba et al. 2016) of rows.

use super::{
    cpu::Cpu,
    isa::{Isa, Kernel},
    simd::{LANES, Simd},
};

/// Which statistics a norm divides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// The root of the mean square.
    Rms,
    /// The mean is taken away first.
    Layer,
}

/// A norm's parameters. The weights, `width` of them, may repeat: a row of several heads has the same for each.
#[derive(Debug, Clone)]
pub struct Norm {
    pub kind: NormKind,
    pub eps: f32,
    /// None is 1 everywhere.
    pub weight: Option<Vec<f32>>,
    /// None is 0 everywhere.
    pub bias: Option<Vec<f32>>,
    /// Values that share their statistics.
    pub width: usize,
}

impl Norm {
    /// Normalises each `width` values of `x` into `out`, which is as long.
    ///
    /// # Panics
    /// When the lengths differ or are no whole number of widths.
    pub fn apply(&self, cpu: &Cpu, x: &[f32], out: &mut [f32]) {
        assert_eq!(x.len(), out.len(), "as many values as places");
        cpu.for_rows(out, self.width, |i, out| {
            let x = &x[i * self.width..(i + 1) * self.width];
            out.copy_from_slice(x);
            self.row(cpu.isa, i, out);
        });
    }

    /// As [`Norm::apply`], in place.
    ///
    /// # Panics
    /// When `x` holds no whole number of widths.
    pub fn apply_in_place(&self, cpu: &Cpu, x: &mut [f32]) {
        cpu.for_rows(x, self.width, |i, x| self.row(cpu.isa, i, x));
    }

    /// Normalises the heads of one row on this thread.
    pub fn apply_to_heads(&self, isa: Isa, heads: &mut [f32]) {
        for (i, head) in heads.chunks_exact_mut(self.width).enumerate() {
            self.row(isa, i, head);
        }
    }

    fn row(&self, isa: Isa, index: usize, row: &mut [f32]) {
        let part = |values: &[f32]| {
            index * self.width % values.len()..index * self.width % values.len() + self.width
        };
        let weight = self.weight.as_deref().map(|weight| &weight[part(weight)]);
        let bias = self.bias.as_deref().map(|bias| &bias[part(bias)]);
        isa.run(NormRow { kind: self.kind, eps: self.eps, weight, bias, row });
    }
}

struct NormRow<'a> {
    kind: NormKind,
    eps: f32,
    weight: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
    row: &'a mut [f32],
}

impl Kernel for NormRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        #[expect(clippy::cast_precision_loss, reason = "a row is shorter than 2^24")]
        let count = self.row.len() as f32;
        if self.kind == NormKind::Layer {
            let mut sum = s.splat(0.0);
            for x in self.row.chunks(LANES) {
                sum = s.add(sum, s.load_part(x));
            }
            let mean = s.splat(s.sum(sum) / count);
            for x in self.row.chunks_mut(LANES) {
                let centred = s.sub(s.load_part(x), mean);
                s.store_part(centred, x);
            }
        }
        let mut squares = s.splat(0.0);
        for x in self.row.chunks(LANES) {
            let x = s.load_part(x);
            squares = s.mul_add(x, x, squares);
        }
        let scale = s.splat(1.0 / (s.sum(squares) / count + self.eps).sqrt());
        for (i, x) in self.row.chunks_mut(LANES).enumerate() {
            let part = i * LANES..i * LANES + x.len();
            let mut y = s.mul(s.load_part(x), scale);
            if let Some(weight) = self.weight {
                y = s.mul(y, s.load_part(&weight[part.clone()]));
            }
            if let Some(bias) = self.bias {
                y = s.add(y, s.load_part(&bias[part]));
            }
            s.store_part(y, x);
        }
    }
}
