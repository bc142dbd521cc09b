//! What a feed-forward layer does between its two products.

use super::{
    cpu::Cpu,
    isa::Kernel,
    math,
    simd::{LANES, Simd},
};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// x · sigmoid(x).
    Silu,
    /// x · Φ(x).
    Gelu,
    /// x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))), Hendrycks & Gimpel 2016.
    GeluTanh,
    Relu,
    Tanh,
    /// Of a pair only: gate · sigmoid(1.702 gate) · (up + 1), the gate at most 7 and up within ±7
    /// (`modeling_gpt_oss.py`, `GptOssExperts`).
    GptOss,
}

impl Activation {
    /// Each row of `pairs` holds `width` gates, then `width` values; each row of `out` gets activation(gate) · value.
    ///
    /// # Panics
    /// When `pairs` does not have the rows of `out`.
    pub fn gate(self, cpu: &Cpu, pairs: &[f32], width: usize, out: &mut [f32]) {
        assert_eq!(pairs.len(), out.len() * 2, "two values for each place");
        cpu.for_rows(out, width, |i, out| {
            let (gate, up) = pairs[i * 2 * width..(i + 1) * 2 * width].split_at(width);
            cpu.isa.run(Row { activation: self, gate, up: Some(up), out });
        });
    }

    /// The activation of every value of `x`, row-major of `width`, into `out`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn apply(self, cpu: &Cpu, x: &[f32], width: usize, out: &mut [f32]) {
        assert_eq!(x.len(), out.len(), "as many values as places");
        cpu.for_rows(out, width, |i, out| {
            cpu.isa.run(Row { activation: self, gate: &x[i * width..(i + 1) * width], up: None, out });
        });
    }
}

struct Row<'a> {
    activation: Activation,
    gate: &'a [f32],
    up: Option<&'a [f32]>,
    out: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (i, out) in self.out.chunks_mut(LANES).enumerate() {
            let part = i * LANES..i * LANES + out.len();
            let gate = s.load_part(&self.gate[part.clone()]);
            let y = match self.up {
                None => activate(s, self.activation, gate),
                Some(up) => pair(s, self.activation, gate, s.load_part(&up[part])),
            };
            s.store_part(y, out);
        }
    }
}

#[inline(always)]
pub(super) fn pair<S: Simd>(s: S, activation: Activation, gate: S::Lanes, up: S::Lanes) -> S::Lanes {
    if activation == Activation::GptOss {
        let limit = s.splat(7.0);
        let up = s.add(s.min(limit, s.max(s.splat(-7.0), up)), s.splat(1.0));
        return s.mul(activate(s, activation, s.min(limit, gate)), up);
    }
    s.mul(activate(s, activation, gate), up)
}

#[inline(always)]
fn activate<S: Simd>(s: S, activation: Activation, x: S::Lanes) -> S::Lanes {
    match activation {
        Activation::Silu => s.mul(x, math::sigmoid(s, x)),
        Activation::GptOss => s.mul(x, math::sigmoid(s, s.mul(x, s.splat(1.702)))),
        Activation::Relu => s.max(s.splat(0.0), x),
        Activation::Tanh => math::tanh(s, x),
        Activation::Gelu => s.mul(x, math::normal(s, x)),
        Activation::GeluTanh => {
            let cube = s.mul(s.mul(x, x), x);
            let inner = s.mul(s.splat(0.797_884_6), s.mul_add(cube, s.splat(0.044_715), x));
            s.mul(s.mul(s.splat(0.5), x), s.add(s.splat(1.0), math::tanh(s, inner)))
        }
    }
}
