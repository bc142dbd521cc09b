//! The lanes in two registers of 256 bits.
#![expect(unsafe_code, reason = "intrinsics; a value of `Avx2` proves that the CPU has its instructions")]

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{LANES, Simd, subnormal};

/// Proof that the CPU has AVX2, FMA and F16C, and AVX-VNNI where it says so.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct Avx2<const VNNI: bool>(());

impl<const VNNI: bool> Avx2<VNNI> {
    /// # Safety
    /// The CPU has AVX2, FMA and F16C, and AVX-VNNI where this says so.
    pub(in crate::kernels) unsafe fn assume() -> Self {
        Self(())
    }
}

/// Applies an intrinsic to both halves.
macro_rules! halves {
    ($op:ident($($x:expr),+)) => {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { [$op($($x[0]),+), $op($($x[1]),+)] }
    };
}

impl<const VNNI: bool> Simd for Avx2<VNNI> {
    type Lanes = [__m256; 2];
    type Ints = [__m256i; 2];
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Lanes {
        // SAFETY: as in `halves`.
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::Lanes {
        // SAFETY: as in `halves`; both loads lie within the sixteen elements.
        unsafe { [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))] }
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16; LANES]) -> Self::Lanes {
        // SAFETY: as in `load`.
        unsafe {
            let widen =
                |p| _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
            [widen(x.as_ptr().cast()), widen(x.as_ptr().add(8).cast())]
        }
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16; LANES]) -> Self::Lanes {
        // SAFETY: as in `load`.
        unsafe {
            let widen = |p| _mm256_cvtph_ps(_mm_loadu_si128(p));
            [widen(x.as_ptr().cast()), widen(x.as_ptr().add(8).cast())]
        }
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> Self::Lanes {
        // SAFETY: as in `load`.
        unsafe {
            let widen = |p| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p)));
            [widen(x.as_ptr().cast()), widen(x.as_ptr().add(8).cast())]
        }
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::Lanes {
        // SAFETY: as in `load`.
        unsafe {
            let widen = |p| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p)));
            [widen(x.as_ptr().cast()), widen(x.as_ptr().add(8).cast())]
        }
    }
    #[inline(always)]
    fn store(self, x: Self::Lanes, out: &mut [f32; LANES]) {
        // SAFETY: as in `load`.
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), x[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), x[1]);
        }
    }
    #[inline(always)]
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        halves!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        halves!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        halves!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        halves!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        halves!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        halves!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        halves!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn select_less(self, a: Self::Lanes, b: Self::Lanes, x: Self::Lanes, y: Self::Lanes) -> Self::Lanes {
        // SAFETY: as in `halves`.
        unsafe {
            let pick = |i: usize| _mm256_blendv_ps(y[i], x[i], _mm256_cmp_ps(a[i], b[i], _CMP_LT_OQ));
            [pick(0), pick(1)]
        }
    }
    #[inline(always)]
    fn pow2(self, n: Self::Lanes) -> Self::Lanes {
        // SAFETY: as in `halves`.
        unsafe {
            let bias = _mm256_set1_epi32(127);
            let power = |i: usize| _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvttps_epi32(n[i]), bias), 23);
            [_mm256_castsi256_ps(power(0)), _mm256_castsi256_ps(power(1))]
        }
    }
    #[inline(always)]
    fn load_pairs(self, x: &[[bf16; 2]; LANES]) -> [Self::Lanes; 2] {
        // SAFETY: as in `load`. The second of a pair is the upper half as it lies.
        unsafe {
            let low = _mm256_loadu_si256(x.as_ptr().cast());
            let high = _mm256_loadu_si256(x.as_ptr().add(8).cast());
            let first = |both| _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
            let second = |both| _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(!0xffff)));
            [[first(low), first(high)], [second(low), second(high)]]
        }
    }
    #[inline(always)]
    fn begin_flushing(self) -> u32 {
        subnormal::flush()
    }
    #[inline(always)]
    fn end_flushing(self, before: u32) {
        subnormal::restore(before);
    }
    #[inline(always)]
    fn prefetch(self, line: *const u8) {
        // SAFETY: an address that is not there is not fetched.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }
    #[inline(always)]
    fn ints(self, x: i32) -> Self::Ints {
        // SAFETY: as in `halves`.
        unsafe { [_mm256_set1_epi32(x); 2] }
    }
    #[inline(always)]
    fn load_ints(self, x: &[i32; LANES]) -> Self::Ints {
        // SAFETY: as in `load_bf16`; each half lies within the sixteen.
        unsafe { [_mm256_loadu_si256(x.as_ptr().cast()), _mm256_loadu_si256(x[8..].as_ptr().cast())] }
    }
    #[inline(always)]
    fn floats(self, x: Self::Ints) -> Self::Lanes {
        halves!(_mm256_cvtepi32_ps(x))
    }
    #[inline(always)]
    fn dot(self, sums: Self::Ints, weights: &[u8; 4 * LANES], x: [i8; 4]) -> Self::Ints {
        // SAFETY: as in `halves`; both loads lie within the 64 bytes.
        unsafe {
            let weights: *const __m256i = weights.as_ptr().cast();
            let x = _mm256_set1_epi32(i32::from_le_bytes(x.map(i8::cast_unsigned)));
            let dot = |sums, weights| {
                if VNNI {
                    return _mm256_dpbusd_avx_epi32(sums, weights, x);
                }
                // Pairs saturate at 2^15, which 2 · 127 · 128 does not reach.
                let pairs = _mm256_maddubs_epi16(weights, x);
                _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
            };
            [dot(sums[0], _mm256_loadu_si256(weights)), dot(sums[1], _mm256_loadu_si256(weights.add(1)))]
        }
    }
    #[inline(always)]
    fn dot_signed(self, sums: Self::Ints, weights: &[u8; 4 * LANES], x: [i8; 4]) -> Self::Ints {
        // SAFETY: as in `dot`.
        unsafe {
            let weights: *const __m256i = weights.as_ptr().cast();
            let x = _mm256_set1_epi32(i32::from_le_bytes(x.map(i8::cast_unsigned)));
            let dot = |sums, weights| {
                if VNNI {
                    return _mm256_dpbusd_avx_epi32(sums, weights, x);
                }
                // The weight's sign goes over to `x`, so that pairs stay below 2 · 128 · 127.
                let signed = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
                let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(signed), _mm256_sign_epi8(x, signed));
                _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
            };
            [dot(sums[0], _mm256_loadu_si256(weights)), dot(sums[1], _mm256_loadu_si256(weights.add(1)))]
        }
    }
    #[inline(always)]
    fn signed_start(self, total: i32) -> Self::Ints {
        self.ints(if VNNI { -(total << 7) } else { 0 })
    }
}
