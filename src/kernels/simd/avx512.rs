//! The lanes in one register of 512 bits.
#![expect(
    unsafe_code,
    reason = "intrinsics; a value of `Avx512` proves that the CPU has AVX-512F, BW and VL, and VNNI"
)]

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{LANES, Simd, subnormal};

/// Proof that the CPU has AVX-512F, BW and VL, and VNNI where it says so.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct Avx512<const VNNI: bool>(());

impl<const VNNI: bool> Avx512<VNNI> {
    /// # Safety
    /// The CPU has AVX-512F, BW and VL, and VNNI where this says so.
    pub(in crate::kernels) unsafe fn assume() -> Self {
        Self(())
    }
}

/// Applies an intrinsic.
macro_rules! op {
    ($op:ident($($x:expr),+)) => {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { $op($($x),+) }
    };
}

impl<const VNNI: bool> Simd for Avx512<VNNI> {
    type Lanes = __m512;
    type Ints = __m512i;
    const WIDE: bool = true;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Lanes {
        op!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::Lanes {
        op!(_mm512_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16; LANES]) -> Self::Lanes {
        // SAFETY: as in `op`; the load lies within the sixteen elements.
        unsafe {
            let halves = _mm256_loadu_si256(x.as_ptr().cast());
            _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16))
        }
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16; LANES]) -> Self::Lanes {
        // SAFETY: as in `load_bf16`.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> Self::Lanes {
        // SAFETY: as in `load_bf16`.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::Lanes {
        // SAFETY: as in `load_bf16`.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn store(self, x: Self::Lanes, out: &mut [f32; LANES]) {
        op!(_mm512_storeu_ps(out.as_mut_ptr(), x));
    }
    #[inline(always)]
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        op!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        op!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        op!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        op!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        op!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        op!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        op!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn select_less(self, a: Self::Lanes, b: Self::Lanes, x: Self::Lanes, y: Self::Lanes) -> Self::Lanes {
        // SAFETY: as in `op`.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x) }
    }
    #[inline(always)]
    fn pow2(self, n: Self::Lanes) -> Self::Lanes {
        // SAFETY: as in `op`.
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvttps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23))
        }
    }
    #[inline(always)]
    fn load_pairs(self, x: &[[bf16; 2]; LANES]) -> [Self::Lanes; 2] {
        // SAFETY: as in `load_bf16`. The second of a pair is the upper half as it lies.
        unsafe {
            let both = _mm512_loadu_si512(x.as_ptr().cast());
            let first = _mm512_slli_epi32(both, 16);
            let second = _mm512_and_si512(both, _mm512_set1_epi32(!0xffff));
            [_mm512_castsi512_ps(first), _mm512_castsi512_ps(second)]
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
        op!(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    fn load_ints(self, x: &[i32; LANES]) -> Self::Ints {
        op!(_mm512_loadu_si512(x.as_ptr().cast()))
    }
    #[inline(always)]
    fn floats(self, x: Self::Ints) -> Self::Lanes {
        op!(_mm512_cvtepi32_ps(x))
    }
    #[inline(always)]
    fn dot(self, sums: Self::Ints, weights: &[u8; 4 * LANES], x: [i8; 4]) -> Self::Ints {
        // SAFETY: as in `op`; the load lies within the 64 bytes.
        unsafe {
            let weights = _mm512_loadu_si512(weights.as_ptr().cast());
            let x = _mm512_set1_epi32(i32::from_le_bytes(x.map(i8::cast_unsigned)));
            if VNNI {
                return _mm512_dpbusd_epi32(sums, weights, x);
            }
            // Pairs saturate at 2^15, which 2 · 127 · 128 does not reach.
            let pairs = _mm512_maddubs_epi16(weights, x);
            _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
        }
    }
    #[inline(always)]
    fn dot_signed(self, sums: Self::Ints, weights: &[u8; 4 * LANES], x: [i8; 4]) -> Self::Ints {
        // SAFETY: as in `dot`.
        unsafe {
            let bytes = _mm512_loadu_si512(weights.as_ptr().cast());
            let x = _mm512_set1_epi32(i32::from_le_bytes(x.map(i8::cast_unsigned)));
            if VNNI {
                return _mm512_dpbusd_epi32(sums, bytes, x);
            }
            // The weight's sign goes over to `x`, so that pairs stay below 2 · 128 · 127.
            let signed = _mm512_xor_si512(bytes, _mm512_set1_epi8(-128));
            let x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(signed), _mm512_setzero_si512(), x);
            let pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(signed), x);
            _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
        }
    }
    #[inline(always)]
    fn signed_start(self, total: i32) -> Self::Ints {
        self.ints(if VNNI { -(total << 7) } else { 0 })
    }
}
