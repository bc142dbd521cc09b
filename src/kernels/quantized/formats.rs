//! Packed records: sixteen columns by up to 256 inputs.
//!
//! A record holds the quants of its blocks of 32 inputs, then further bits of them where they have more than four, then
//! scales. Four inputs of each column make a group of 64 bytes, `[16 columns][4 inputs]`, and eight groups a block. Of
//! quants below 16, two groups share 64 bytes: group `g` lies in the lower nibbles, group `g + 4` in the upper ones.

use half::f16;

use super::{
    blocks::{self, Quantization},
    rows,
};
use crate::kernels::simd::{LANES, Simd};

/// Blocks of 32 in a full record.
pub(super) const RECORD: usize = 8;
/// Groups in a block.
pub(super) const GROUPS: usize = 8;

/// Four inputs of sixteen columns.
pub(super) type Group = [u8; 4 * LANES];

/// A record, unpacked.
#[repr(align(64))]
pub(super) struct Unpacked {
    /// Of each block; not used by formats of whole bytes, whose groups lie in the record as they are.
    pub(super) groups: [[Group; GROUPS]; RECORD],
    /// Of each block, or of both halves of each block.
    pub(super) scales: [[f32; LANES]; 2 * RECORD],
    /// Of each block.
    pub(super) minima: [[f32; LANES]; RECORD],
}

impl Unpacked {
    pub(super) const ZERO: Self = Self {
        groups: [[[0; 4 * LANES]; GROUPS]; RECORD],
        scales: [[0.0; LANES]; 2 * RECORD],
        minima: [[0.0; LANES]; RECORD],
    };
}

/// How a type of blocks is packed. A weight is `scale · (quant - ZERO) - minimum`.
pub(super) trait Format: Send + Sync + 'static {
    const KIND: Quantization;
    /// Of a quant in a record: 4, 5, 6 or 8.
    const BITS: usize;
    /// A power of two.
    const ZERO: u8;
    type Scales: Scales;

    /// What a quant in a record stands for.
    #[inline(always)]
    fn quant(stored: u8) -> u8 {
        stored
    }

    /// Bytes of the quants of `count` blocks.
    #[inline(always)]
    fn quant_bytes(count: usize) -> usize {
        count * rows::BLOCK * LANES * Self::BITS / 8
    }

    /// Bytes of a record of `count` blocks: a whole number of cache lines.
    #[inline(always)]
    fn bytes(count: usize) -> usize {
        (Self::quant_bytes(count) + Self::Scales::bytes(count)).next_multiple_of(64)
    }

    /// Places the quants of block `at` of `count`, of sixteen rows.
    #[inline(always)]
    fn put(record: &mut [u8], count: usize, at: usize, quants: &[[u8; rows::BLOCK]; LANES]) {
        // Four inputs of a row lie together in rows and in groups.
        let four =
            |lane: usize, group: usize| -> [u8; 4] { [0, 1, 2, 3].map(|i| quants[lane][group * 4 + i]) };
        let (lines, _) = record.as_chunks_mut::<64>();
        for lane in 0..LANES {
            for group in 0..GROUPS / 2 {
                let (lower, upper) = (four(lane, group), four(lane, group + 4));
                for i in 0..4 {
                    let byte = lane * 4 + i;
                    if Self::BITS == 8 {
                        lines[at * GROUPS + group][byte] = lower[i];
                        lines[at * GROUPS + group + 4][byte] = upper[i];
                        continue;
                    }
                    lines[at * 4 + group][byte] = lower[i] & 15 | upper[i] << 4;
                    let more = count * 4;
                    if Self::BITS == 5 {
                        lines[more + at][byte] |= (lower[i] >> 4) << group | (upper[i] >> 4) << (group + 4);
                    }
                    if Self::BITS == 6 {
                        lines[more + at * 2][byte] |= (lower[i] >> 4) << (group * 2);
                        lines[more + at * 2 + 1][byte] |= (upper[i] >> 4) << (group * 2);
                    }
                }
            }
        }
    }

    /// Unpacks a record of `count` blocks: its groups, unless they are whole bytes, its scales and minima. `SIGNED` groups
    /// are less [`Format::ZERO`], also those of whole bytes.
    #[inline(always)]
    fn unpack<S: Simd, const SIGNED: bool>(s: S, record: &[u8], count: usize, out: &mut Unpacked) {
        let (quants, scales) = record.split_at(Self::quant_bytes(count));
        Self::Scales::unpack(s, scales, count, out);
        let (lines, _) = quants.as_chunks::<64>();
        let zero = if SIGNED { Self::ZERO } else { 0 };
        if Self::BITS == 8 {
            if SIGNED {
                for (group, line) in out.groups.as_flattened_mut().iter_mut().zip(lines) {
                    for i in 0..64 {
                        group[i] = line[i].wrapping_sub(zero);
                    }
                }
            }
            return;
        }
        let (low, more) = lines.split_at(count * 4);
        for at in 0..count {
            for g in 0..4 {
                let line = &low[at * 4 + g];
                let mut lower = [0; 64];
                let mut upper = [0; 64];
                for i in 0..64 {
                    lower[i] = line[i] & 15;
                    upper[i] = line[i] >> 4;
                }
                if Self::BITS == 5 {
                    let line = &more[at];
                    for i in 0..64 {
                        lower[i] |= (line[i] >> g & 1) << 4;
                        upper[i] |= (line[i] >> (g + 4) & 1) << 4;
                    }
                }
                if Self::BITS == 6 {
                    let (first, second) = (&more[at * 2], &more[at * 2 + 1]);
                    for i in 0..64 {
                        lower[i] |= (first[i] >> (g * 2) & 3) << 4;
                        upper[i] |= (second[i] >> (g * 2) & 3) << 4;
                    }
                }
                for i in 0..64 {
                    out.groups[at][g][i] = Self::quant(lower[i]).wrapping_sub(zero);
                    out.groups[at][g + 4][i] = Self::quant(upper[i]).wrapping_sub(zero);
                }
            }
        }
    }
}

/// How a format keeps its scales in a record.
pub(super) trait Scales {
    /// Scales of a block: 1, or 2 for its halves.
    const PARTS: usize;
    const MINIMA: bool;
    /// Bytes for `count` blocks.
    fn bytes(count: usize) -> usize;
    /// Takes over those of 32 elements, the `sub`-th of a file's block, as block `at` of `count`.
    fn put(scales: &mut [u8], count: usize, at: usize, lane: usize, block: &[u8], sub: usize);
    fn unpack<S: Simd>(s: S, scales: &[u8], count: usize, out: &mut Unpacked);
}

#[inline(always)]
fn halves(bytes: &[u8], index: usize) -> [f16; LANES] {
    let bytes = &bytes[index * 32..index * 32 + 32];
    let mut halves = [f16::ZERO; LANES];
    for i in 0..LANES {
        halves[i] = f16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]);
    }
    halves
}

#[inline(always)]
fn bytes(bytes: &[u8], index: usize) -> [u8; LANES] {
    let mut line = [0; LANES];
    line.copy_from_slice(&bytes[index * LANES..(index + 1) * LANES]);
    line
}

fn put_half(scales: &mut [u8], index: usize, lane: usize, half: &[u8]) {
    scales[index * 32 + lane * 2..][..2].copy_from_slice(half);
}

/// A scale in f16 for each block, at the beginning of the file's block.
pub(super) struct Halves;

impl Scales for Halves {
    const PARTS: usize = 1;
    const MINIMA: bool = false;

    #[inline(always)]
    fn bytes(count: usize) -> usize {
        count * 32
    }
    fn put(scales: &mut [u8], _: usize, at: usize, lane: usize, block: &[u8], _: usize) {
        put_half(scales, at, lane, &block[..2]);
    }
    #[inline(always)]
    fn unpack<S: Simd>(s: S, scales: &[u8], count: usize, out: &mut Unpacked) {
        for at in 0..count {
            s.store(s.load_f16(&halves(scales, at)), &mut out.scales[at]);
        }
    }
}

/// A scale and what is added in f16 for each block.
pub(super) struct HalfPairs;

impl Scales for HalfPairs {
    const PARTS: usize = 1;
    const MINIMA: bool = true;

    #[inline(always)]
    fn bytes(count: usize) -> usize {
        count * 64
    }
    fn put(scales: &mut [u8], _: usize, at: usize, lane: usize, block: &[u8], _: usize) {
        put_half(scales, 2 * at, lane, &block[..2]);
        put_half(scales, 2 * at + 1, lane, &block[2..4]);
    }
    #[inline(always)]
    fn unpack<S: Simd>(s: S, scales: &[u8], count: usize, out: &mut Unpacked) {
        for at in 0..count {
            s.store(s.load_f16(&halves(scales, 2 * at)), &mut out.scales[at]);
            let added = s.load_f16(&halves(scales, 2 * at + 1));
            s.store(s.mul(added, s.splat(-1.0)), &mut out.minima[at]);
        }
    }
}

/// A power of two for each block, as its exponent.
pub(super) struct Exponents;

impl Scales for Exponents {
    const PARTS: usize = 1;
    const MINIMA: bool = false;

    #[inline(always)]
    fn bytes(count: usize) -> usize {
        count * LANES
    }
    fn put(scales: &mut [u8], _: usize, at: usize, lane: usize, block: &[u8], _: usize) {
        scales[at * LANES + lane] = block[0];
    }
    #[inline(always)]
    fn unpack<S: Simd>(s: S, scales: &[u8], count: usize, out: &mut Unpacked) {
        for at in 0..count {
            // 2^(e - 128) from two powers, since it may be too small for a normal number.
            let (mut low, mut high) = (bytes(scales, at), [0; LANES]);
            for i in 0..LANES {
                high[i] = low[i] / 2;
                low[i] -= high[i];
            }
            let bias = s.splat(64.0);
            let low = s.pow2(s.sub(s.load_u8(&low), bias));
            let high = s.pow2(s.sub(s.load_u8(&high), bias));
            s.store(s.mul(low, high), &mut out.scales[at]);
        }
    }
}

/// Scale and minimum in f16 for a record, times whole numbers below 64 for each block: Q4_K and Q5_K.
pub(super) struct Pairs;

impl Scales for Pairs {
    const PARTS: usize = 1;
    const MINIMA: bool = true;

    #[inline(always)]
    fn bytes(count: usize) -> usize {
        64 + count * 2 * LANES
    }
    fn put(scales: &mut [u8], count: usize, at: usize, lane: usize, block: &[u8], sub: usize) {
        put_half(scales, 0, lane, &block[..2]);
        put_half(scales, 1, lane, &block[2..4]);
        let (scale, minimum) = blocks::sub_block(block, sub);
        scales[64 + at * LANES + lane] = scale;
        scales[64 + (count + at) * LANES + lane] = minimum;
    }
    #[inline(always)]
    fn unpack<S: Simd>(s: S, scales: &[u8], count: usize, out: &mut Unpacked) {
        let scale = s.load_f16(&halves(scales, 0));
        let minimum = s.load_f16(&halves(scales, 1));
        for at in 0..count {
            for (common, from, out) in
                [(scale, at, &mut out.scales[at]), (minimum, count + at, &mut out.minima[at])]
            {
                let own = s.load_u8(&bytes(&scales[64..], from));
                s.store(s.mul(common, own), out);
            }
        }
    }
}

/// A scale in f16 for a record, times a whole number of eight bits for each half of a block: Q6_K.
pub(super) struct Signed;

impl Scales for Signed {
    const PARTS: usize = 2;
    const MINIMA: bool = false;

    #[inline(always)]
    fn bytes(count: usize) -> usize {
        32 + count * 2 * LANES
    }
    fn put(scales: &mut [u8], _: usize, at: usize, lane: usize, block: &[u8], sub: usize) {
        put_half(scales, 0, lane, &block[208..210]);
        for part in 0..2 {
            scales[32 + (at * 2 + part) * LANES + lane] = block[192 + sub * 2 + part];
        }
    }
    #[inline(always)]
    fn unpack<S: Simd>(s: S, scales: &[u8], count: usize, out: &mut Unpacked) {
        let scale = s.load_f16(&halves(scales, 0));
        for at in 0..count * 2 {
            let own = s.load_i8(&bytes(&scales[32..], at).map(u8::cast_signed));
            s.store(s.mul(scale, own), &mut out.scales[at]);
        }
    }
}

macro_rules! format {
    ($name:ident, $bits:literal, $zero:literal, $scales:ident) => {
        pub(super) struct $name;
        impl Format for $name {
            const KIND: Quantization = Quantization::$name;
            const BITS: usize = $bits;
            const ZERO: u8 = $zero;
            type Scales = $scales;
        }
    };
}

format!(Q4_0, 4, 8, Halves);
format!(Q4_1, 4, 0, HalfPairs);
format!(Q5_0, 5, 16, Halves);
format!(Q5_1, 5, 0, HalfPairs);
format!(Q8_0, 8, 128, Halves);
format!(Q4K, 4, 0, Pairs);
format!(Q5K, 5, 0, Pairs);
format!(Q6K, 6, 32, Signed);

pub(super) struct Mxfp4;

impl Format for Mxfp4 {
    const KIND: Quantization = Quantization::Mxfp4;
    const BITS: usize = 4;
    const ZERO: u8 = 16;
    type Scales = Exponents;

    #[inline(always)]
    fn quant(code: u8) -> u8 {
        blocks::e2m1(code)
    }
}
