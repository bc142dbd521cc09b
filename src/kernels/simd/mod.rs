//! Sixteen lanes of `f32` or `i32`, written once for each instruction set.
//!
//! A value of a type that implements [`Simd`] is proof that the CPU has its instructions: only
//! [`super::isa::Isa::run`] makes one, after asking the CPU. The operations are therefore safe.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
pub(super) mod scalar;
#[cfg(target_arch = "x86_64")]
mod subnormal;

use half::{bf16, f16};

/// Lanes in a vector, columns in a panel of packed weights, positions in a block of the KV cache.
pub const LANES: usize = 16;

/// Operations on sixteen lanes. Each is IEEE 754's, rounded once, or exact in integers, so that all implementations agree bit
/// for bit.
///
/// All but `max`, `min` and `select_less` propagate NaN; those compare with "false" when either side is NaN.
pub trait Simd: Copy {
    /// Sixteen `f32`.
    type Lanes: Copy;
    /// Sixteen `i32`.
    type Ints: Copy;
    /// Whether there are registers for an 8 × 2 tile of accumulators.
    const WIDE: bool;

    fn splat(self, x: f32) -> Self::Lanes;
    fn load(self, x: &[f32; LANES]) -> Self::Lanes;
    /// bfloat16 is the upper half of an `f32`.
    fn load_bf16(self, x: &[bf16; LANES]) -> Self::Lanes;
    fn load_f16(self, x: &[f16; LANES]) -> Self::Lanes;
    fn load_u8(self, x: &[u8; LANES]) -> Self::Lanes;
    fn load_i8(self, x: &[i8; LANES]) -> Self::Lanes;
    fn store(self, x: Self::Lanes, out: &mut [f32; LANES]);

    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    fn sub(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    fn div(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes;
    /// Pairs of bfloat16: the first of each, and the second.
    fn load_pairs(self, x: &[[bf16; 2]; LANES]) -> [Self::Lanes; 2];
    /// From here to [`Simd::end_flushing`], operations that end in `_flushed` are called, and no others.
    fn begin_flushing(self) -> u32;
    /// `before` is what [`Simd::begin_flushing`] gave.
    fn end_flushing(self, before: u32);
    /// As [`Simd::add`], with subnormal operands and results as zero: by what [`Simd::begin_flushing`] told the CPU, where
    /// there is such a thing.
    #[inline(always)]
    fn add_flushed(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        self.add(a, b)
    }
    /// As [`Simd::mul_add`], likewise.
    #[inline(always)]
    fn mul_add_flushed(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        self.mul_add(a, b, c)
    }
    /// `a > b ? a : b`: the second operand where either is NaN.
    fn max(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// `a < b ? a : b`: the second operand where either is NaN.
    fn min(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// `a < b ? x : y`.
    fn select_less(self, a: Self::Lanes, b: Self::Lanes, x: Self::Lanes, y: Self::Lanes) -> Self::Lanes;
    /// `2^n` of whole numbers between -126 and 127.
    fn pow2(self, n: Self::Lanes) -> Self::Lanes;

    /// Asks for the cache line at an address, which need not exist.
    #[inline(always)]
    fn prefetch(self, line: *const u8) {
        let _ = line;
    }
    fn ints(self, x: i32) -> Self::Ints;
    fn load_ints(self, x: &[i32; LANES]) -> Self::Ints;
    /// The nearest `f32`; exact within ±2^24.
    fn floats(self, x: Self::Ints) -> Self::Lanes;
    /// Adds to lane `i` the dot product of bytes `4i` to `4i + 3` of `weights`, none over 127, with `x`. Exact.
    fn dot(self, sums: Self::Ints, weights: &[u8; 4 * LANES], x: [i8; 4]) -> Self::Ints;
    /// As [`Simd::dot`], of any bytes less 128, on sums that began with [`Simd::signed_start`]. No `x` is -128.
    fn dot_signed(self, sums: Self::Ints, weights: &[u8; 4 * LANES], x: [i8; 4]) -> Self::Ints;
    /// 0 of a lane, for a sum whose `x` add up to `total`: instructions that take bytes without sign lack 128 times that.
    fn signed_start(self, total: i32) -> Self::Ints;

    /// The first lanes from `x`, at most sixteen; the others 0.
    #[inline(always)]
    fn load_part(self, x: &[f32]) -> Self::Lanes {
        if let Some(whole) = x.first_chunk() {
            return self.load(whole);
        }
        let mut padded = [0.0; LANES];
        padded[..x.len()].copy_from_slice(x);
        self.load(&padded)
    }

    /// The first lanes to `out`, as many as it has places for.
    #[inline(always)]
    fn store_part(self, x: Self::Lanes, out: &mut [f32]) {
        if let Some(whole) = out.first_chunk_mut() {
            return self.store(x, whole);
        }
        let mut padded = [0.0; LANES];
        self.store(x, &mut padded);
        out.copy_from_slice(&padded[..out.len()]);
    }

    /// The lanes' sum: halves are added until one is left, lane `i` to lane `i + 8`, then `i + 4`, `i + 2`, `i + 1`.
    #[inline(always)]
    fn sum(self, x: Self::Lanes) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(x, &mut lanes);
        fold(lanes, |a, b| a + b)
    }

    /// The largest lane.
    #[inline(always)]
    fn largest(self, x: Self::Lanes) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(x, &mut lanes);
        fold(lanes, |a, b| if a > b { a } else { b })
    }
}

#[inline(always)]
fn fold(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = join(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}
