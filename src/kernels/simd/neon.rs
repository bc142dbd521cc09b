//! The lanes in four registers of 128 bits.
#![expect(unsafe_code, reason = "intrinsics; a value of `Neon` proves that the CPU has its instructions")]

use std::arch::{aarch64::*, asm};

use half::{bf16, f16};

use super::{LANES, Simd};

/// Proof that the CPU has NEON, and its dot products of bytes where it says so.
///
/// Products of bfloat16 flush subnormal numbers in software, by the trait's own operations: FPCR.FZ looks at a result before
/// it is rounded, x86 after that.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct Neon<const DOT: bool>(());

impl<const DOT: bool> Neon<DOT> {
    /// # Safety
    /// The CPU has NEON, and FEAT_DotProd where this says so.
    pub(in crate::kernels) unsafe fn assume() -> Self {
        Self(())
    }
}

/// Applies an intrinsic to each quarter.
macro_rules! quarters {
    ($op:ident($($x:expr),+)) => {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { [$op($($x[0]),+), $op($($x[1]),+), $op($($x[2]),+), $op($($x[3]),+)] }
    };
}

/// Four by four dot products of bytes, added to the sums (FEAT_DotProd; the intrinsic is not stable).
///
/// # Safety
/// The CPU has the instruction.
#[inline(always)]
unsafe fn sdot(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the caller's.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

impl<const DOT: bool> Neon<DOT> {
    /// Adds the dot products of four bytes each.
    #[inline(always)]
    fn dot_quarter(self, sums: int32x4_t, weights: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe {
            if DOT {
                return sdot(sums, weights, x);
            }
            let low = vpaddlq_s16(vmull_s8(vget_low_s8(weights), vget_low_s8(x)));
            let high = vpaddlq_s16(vmull_high_s8(weights, x));
            vaddq_s32(sums, vpaddq_s32(low, high))
        }
    }

    /// The same of all sixteen lanes; `flip` is exclusive-ored into each weight.
    #[inline(always)]
    fn dots(self, sums: [int32x4_t; 4], weights: &[u8; 4 * LANES], x: [i8; 4], flip: u8) -> [int32x4_t; 4] {
        // SAFETY: as in `quarters`; each load lies within the 64 bytes.
        unsafe {
            let x = vreinterpretq_s8_s32(vdupq_n_s32(i32::from_le_bytes(x.map(i8::cast_unsigned))));
            let dot = |i: usize| {
                let weights = veorq_u8(vld1q_u8(weights[16 * i..].as_ptr()), vdupq_n_u8(flip));
                self.dot_quarter(sums[i], vreinterpretq_s8_u8(weights), x)
            };
            [dot(0), dot(1), dot(2), dot(3)]
        }
    }

    /// Zero, with its sign, for subnormal numbers.
    #[inline(always)]
    fn flushed(self, x: [float32x4_t; 4]) -> [float32x4_t; 4] {
        // SAFETY: as in `quarters`.
        unsafe {
            let smallest = vdupq_n_f32(f32::MIN_POSITIVE);
            let sign = vdupq_n_u32(1 << 31);
            let flush = |x: float32x4_t| {
                // "Not smaller" also holds for NaN, which stays as it is.
                let stays = vmvnq_u32(vcaltq_f32(x, smallest));
                vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), vorrq_u32(stays, sign)))
            };
            [flush(x[0]), flush(x[1]), flush(x[2]), flush(x[3])]
        }
    }
}

impl<const DOT: bool> Simd for Neon<DOT> {
    type Lanes = [float32x4_t; 4];
    type Ints = [int32x4_t; 4];
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Lanes {
        // SAFETY: as in `quarters`.
        unsafe { [vdupq_n_f32(x); 4] }
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::Lanes {
        // SAFETY: as in `quarters`; the loads lie within the sixteen elements.
        unsafe { [0, 4, 8, 12].map(|first| vld1q_f32(x[first..].as_ptr())) }
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16; LANES]) -> Self::Lanes {
        // SAFETY: as in `load`.
        unsafe {
            let low = vld1q_u16(x.as_ptr().cast());
            let high = vld1q_u16(x[8..].as_ptr().cast());
            let widen = |x| vreinterpretq_f32_u32(vshll_n_u16::<16>(x));
            [
                widen(vget_low_u16(low)),
                widen(vget_high_u16(low)),
                widen(vget_low_u16(high)),
                widen(vget_high_u16(high)),
            ]
        }
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16; LANES]) -> Self::Lanes {
        let mut wide = [0.0; LANES];
        for (wide, x) in wide.iter_mut().zip(x) {
            *wide = x.to_f32();
        }
        self.load(&wide)
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> Self::Lanes {
        // SAFETY: as in `load`.
        unsafe {
            let bytes = vld1q_u8(x.as_ptr());
            let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes));
            let widen = |x| vcvtq_f32_u32(vmovl_u16(x));
            [
                widen(vget_low_u16(low)),
                widen(vget_high_u16(low)),
                widen(vget_low_u16(high)),
                widen(vget_high_u16(high)),
            ]
        }
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::Lanes {
        // SAFETY: as in `load`.
        unsafe {
            let bytes = vld1q_s8(x.as_ptr());
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
            let widen = |x| vcvtq_f32_s32(vmovl_s16(x));
            [
                widen(vget_low_s16(low)),
                widen(vget_high_s16(low)),
                widen(vget_low_s16(high)),
                widen(vget_high_s16(high)),
            ]
        }
    }
    #[inline(always)]
    fn store(self, x: Self::Lanes, out: &mut [f32; LANES]) {
        let (quarters, _) = out.as_chunks_mut::<4>();
        for (quarter, x) in quarters.iter_mut().zip(x) {
            // SAFETY: as in `quarters`; four elements have room for four.
            unsafe { vst1q_f32(quarter.as_mut_ptr(), x) };
        }
    }
    #[inline(always)]
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        quarters!(vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        quarters!(vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        quarters!(vmulq_f32(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        quarters!(vdivq_f32(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        quarters!(vfmaq_f32(c, a, b))
    }
    #[inline(always)]
    fn max(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        self.select_less(b, a, a, b)
    }
    #[inline(always)]
    fn min(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        self.select_less(a, b, a, b)
    }
    #[inline(always)]
    fn select_less(self, a: Self::Lanes, b: Self::Lanes, x: Self::Lanes, y: Self::Lanes) -> Self::Lanes {
        // SAFETY: as in `quarters`.
        unsafe {
            let pick = |i: usize| vbslq_f32(vcltq_f32(a[i], b[i]), x[i], y[i]);
            [pick(0), pick(1), pick(2), pick(3)]
        }
    }
    #[inline(always)]
    fn pow2(self, n: Self::Lanes) -> Self::Lanes {
        // SAFETY: as in `quarters`.
        unsafe {
            let power = |n| vshlq_n_s32::<23>(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)));
            let power = |n| vreinterpretq_f32_s32(power(n));
            [power(n[0]), power(n[1]), power(n[2]), power(n[3])]
        }
    }
    #[inline(always)]
    fn load_pairs(self, x: &[[bf16; 2]; LANES]) -> [Self::Lanes; 2] {
        // SAFETY: as in `load`. The second of a pair is the upper half as it lies.
        unsafe {
            let both = [0, 4, 8, 12].map(|first| vld1q_u32(x[first..].as_ptr().cast()));
            let first = |both| vreinterpretq_f32_u32(vshlq_n_u32::<16>(both));
            let second = |both| vreinterpretq_f32_u32(vandq_u32(both, vdupq_n_u32(0xffff_0000)));
            [
                [first(both[0]), first(both[1]), first(both[2]), first(both[3])],
                [second(both[0]), second(both[1]), second(both[2]), second(both[3])],
            ]
        }
    }
    #[inline(always)]
    fn begin_flushing(self) -> u32 {
        0
    }
    #[inline(always)]
    fn end_flushing(self, _: u32) {}
    #[inline(always)]
    fn add_flushed(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        self.flushed(self.add(self.flushed(a), self.flushed(b)))
    }
    #[inline(always)]
    fn mul_add_flushed(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        self.flushed(self.mul_add(self.flushed(a), self.flushed(b), self.flushed(c)))
    }
    #[inline(always)]
    fn prefetch(self, line: *const u8) {
        // SAFETY: an address that is not there is not fetched.
        unsafe { asm!("prfm pldl1keep, [{}]", in(reg) line, options(nostack, readonly, preserves_flags)) };
    }
    #[inline(always)]
    fn ints(self, x: i32) -> Self::Ints {
        // SAFETY: as in `quarters`.
        unsafe { [vdupq_n_s32(x); 4] }
    }
    #[inline(always)]
    fn load_ints(self, x: &[i32; LANES]) -> Self::Ints {
        // SAFETY: as in `load`.
        unsafe { [0, 4, 8, 12].map(|first| vld1q_s32(x[first..].as_ptr())) }
    }
    #[inline(always)]
    fn floats(self, x: Self::Ints) -> Self::Lanes {
        quarters!(vcvtq_f32_s32(x))
    }
    #[inline(always)]
    fn dot(self, sums: Self::Ints, weights: &[u8; 4 * LANES], x: [i8; 4]) -> Self::Ints {
        // Below 128 a byte is the same number with a sign.
        self.dots(sums, weights, x, 0)
    }
    #[inline(always)]
    fn dot_signed(self, sums: Self::Ints, weights: &[u8; 4 * LANES], x: [i8; 4]) -> Self::Ints {
        self.dots(sums, weights, x, 0x80)
    }
    #[inline(always)]
    fn signed_start(self, _: i32) -> Self::Ints {
        self.ints(0)
    }
}
