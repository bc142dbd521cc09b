//! The lanes as an array: the meaning of the operations, and what runs where nothing better is known.

use half::{bf16, f16};

use super::{LANES, Simd};

/// Needs nothing of the CPU.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct Scalar;

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> [f32; LANES] {
    std::array::from_fn(f)
}

/// Zero, with its sign, for a subnormal number.
#[inline(always)]
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0.0_f32.copysign(x) } else { x }
}

impl Simd for Scalar {
    type Lanes = [f32; LANES];
    type Ints = [i32; LANES];
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Lanes {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::Lanes {
        *x
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16; LANES]) -> Self::Lanes {
        each(|i| x[i].to_f32())
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16; LANES]) -> Self::Lanes {
        each(|i| x[i].to_f32())
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> Self::Lanes {
        each(|i| f32::from(x[i]))
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::Lanes {
        each(|i| f32::from(x[i]))
    }
    #[inline(always)]
    fn store(self, x: Self::Lanes, out: &mut [f32; LANES]) {
        *out = x;
    }
    #[inline(always)]
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        each(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn select_less(self, a: Self::Lanes, b: Self::Lanes, x: Self::Lanes, y: Self::Lanes) -> Self::Lanes {
        each(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    fn pow2(self, n: Self::Lanes) -> Self::Lanes {
        #[expect(clippy::cast_possible_truncation, reason = "whole numbers between -126 and 127")]
        each(|i| f32::from_bits(((n[i] as i32).wrapping_add(127) as u32) << 23))
    }
    #[inline(always)]
    fn load_pairs(self, x: &[[bf16; 2]; LANES]) -> [Self::Lanes; 2] {
        [0, 1].map(|half| each(|i| x[i][half].to_f32()))
    }
    #[inline(always)]
    fn begin_flushing(self) -> u32 {
        0
    }
    #[inline(always)]
    fn end_flushing(self, _: u32) {}
    #[inline(always)]
    fn add_flushed(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each(|i| flushed(flushed(a[i]) + flushed(b[i])))
    }
    #[inline(always)]
    fn mul_add_flushed(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        each(|i| flushed(flushed(a[i]).mul_add(flushed(b[i]), flushed(c[i]))))
    }
    #[inline(always)]
    fn ints(self, x: i32) -> Self::Ints {
        [x; LANES]
    }
    #[inline(always)]
    fn load_ints(self, x: &[i32; LANES]) -> Self::Ints {
        *x
    }
    #[inline(always)]
    fn floats(self, x: Self::Ints) -> Self::Lanes {
        #[expect(clippy::cast_precision_loss, reason = "to nearest, as the instructions do")]
        each(|i| x[i] as f32)
    }
    #[inline(always)]
    fn dot(self, mut sums: Self::Ints, weights: &[u8; 4 * LANES], x: [i8; 4]) -> Self::Ints {
        for (i, sum) in sums.iter_mut().enumerate() {
            for j in 0..4 {
                *sum += i32::from(weights[4 * i + j]) * i32::from(x[j]);
            }
        }
        sums
    }
    #[inline(always)]
    fn dot_signed(self, mut sums: Self::Ints, weights: &[u8; 4 * LANES], x: [i8; 4]) -> Self::Ints {
        for (i, sum) in sums.iter_mut().enumerate() {
            for j in 0..4 {
                *sum += (i32::from(weights[4 * i + j]) - 128) * i32::from(x[j]);
            }
        }
        sums
    }
    #[inline(always)]
    fn signed_start(self, _: i32) -> Self::Ints {
        self.ints(0)
    }
}
