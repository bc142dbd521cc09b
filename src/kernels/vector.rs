//! Sums and products of whole rows.

use super::{
    cpu::Cpu,
    isa::{Isa, Kernel},
    math,
    simd::{LANES, Simd},
};

/// x += factor · y, one fused multiply-add each. Rows are `width` long.
///
/// # Panics
/// When the lengths differ.
pub fn add_scaled(cpu: &Cpu, x: &mut [f32], y: &[f32], width: usize, factor: f32) {
    assert_eq!(x.len(), y.len(), "as many values");
    cpu.for_rows(x, width, |i, x| add_row(cpu.isa, x, &y[i * width..(i + 1) * width], factor));
}

/// As [`add_scaled`], of one row.
pub fn add_row(isa: Isa, x: &mut [f32], y: &[f32], factor: f32) {
    isa.run(AddScaled { x, y, factor });
}

struct AddScaled<'a> {
    x: &'a mut [f32],
    y: &'a [f32],
    factor: f32,
}

impl Kernel for AddScaled<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let factor = s.splat(self.factor);
        for (x, y) in self.x.chunks_mut(LANES).zip(self.y.chunks(LANES)) {
            let sum = s.mul_add(s.load_part(y), factor, s.load_part(x));
            s.store_part(sum, x);
        }
    }
}

/// 1 / (1 + e^-x) of each value.
pub struct Sigmoid<'a>(pub &'a mut [f32]);

impl Kernel for Sigmoid<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for x in self.0.chunks_mut(LANES) {
            let y = math::sigmoid(s, s.load_part(x));
            s.store_part(y, x);
        }
    }
}

/// Divides by the length, or by 1e-12 where that is more (`torch.nn.functional.normalize`). Squares are added in 16 lanes
/// by index.
pub struct UnitLength<'a>(pub &'a mut [f32]);

impl Kernel for UnitLength<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut squares = s.splat(0.0);
        for x in self.0.chunks(LANES) {
            let x = s.load_part(x);
            squares = s.mul_add(x, x, squares);
        }
        let length = s.splat(s.sum(squares).sqrt().max(1e-12));
        for x in self.0.chunks_mut(LANES) {
            let y = s.div(s.load_part(x), length);
            s.store_part(y, x);
        }
    }
}
