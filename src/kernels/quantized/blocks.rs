//! Quantized blocks as files have them. Layouts are ggml's (`ggml-common.h`, `ggml-quants.c`).

use half::f16;

/// A type of quantized blocks, by ggml's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Quantization {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
    Mxfp4,
}

impl Quantization {
    pub const ALL: [Self; 9] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Mxfp4,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Mxfp4 => "MXFP4",
        }
    }

    /// Elements and bytes of a block.
    #[must_use]
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
            Self::Mxfp4 => (32, 17),
        }
    }

    /// The values of one block.
    ///
    /// # Panics
    /// When `block` or `out` is not of a block's length.
    pub fn widen(self, block: &[u8], out: &mut [f32]) {
        assert_eq!((out.len(), block.len()), self.block(), "a whole block");
        let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        for (sub, out) in out.chunks_exact_mut(32).enumerate() {
            let quants = self.quants(block, sub);
            // Scales, minima and what they are multiplied by are short enough for these products to be exact.
            let line = |scale: f32, minimum: f32, out: &mut [f32], quants: &[u8], zero: f32| {
                for (out, quant) in out.iter_mut().zip(quants) {
                    *out = scale * (f32::from(*quant) - zero) - minimum;
                }
            };
            match self {
                Self::Q4_0 => line(half(0), 0.0, out, &quants, 8.0),
                Self::Q5_0 => line(half(0), 0.0, out, &quants, 16.0),
                Self::Q8_0 => line(half(0), 0.0, out, &quants, 128.0),
                Self::Q4_1 | Self::Q5_1 => line(half(0), -half(2), out, &quants, 0.0),
                Self::Q4K | Self::Q5K => {
                    let (scale, minimum) = sub_block(block, sub);
                    line(half(0) * f32::from(scale), half(2) * f32::from(minimum), out, &quants, 0.0);
                }
                Self::Q6K => {
                    for part in 0..2 {
                        let own = f32::from(block[192 + 2 * sub + part].cast_signed());
                        let within = part * 16..part * 16 + 16;
                        line(half(208) * own, 0.0, &mut out[within.clone()], &quants[within], 32.0);
                    }
                }
                Self::Mxfp4 => {
                    let values = quants.map(e2m1);
                    line(half_power(block[0]), 0.0, out, &values, 16.0);
                }
            }
        }
    }

    /// The quants of 32 elements of a block as numbers from 0 up, in the elements' order: what is stored, plus 128 where
    /// that has a sign. MXFP4's are codes.
    #[inline(always)]
    pub(super) fn quants(self, block: &[u8], sub: usize) -> [u8; 32] {
        let nibble = |bytes: &[u8], i: usize| bytes[i % 16] >> (i / 16 * 4) & 15;
        let mut quants = [0; 32];
        for (i, quant) in quants.iter_mut().enumerate() {
            *quant = match self {
                Self::Q4_0 => nibble(&block[2..], i),
                Self::Q4_1 => nibble(&block[4..], i),
                Self::Q5_0 => nibble(&block[6..], i) | (block[2 + i / 8] >> (i % 8) & 1) << 4,
                Self::Q5_1 => nibble(&block[8..], i) | (block[4 + i / 8] >> (i % 8) & 1) << 4,
                Self::Q8_0 => block[2 + i] ^ 0x80,
                // Pairs of sub-blocks share bytes.
                Self::Q4K => block[16 + sub / 2 * 32 + i] >> (sub % 2 * 4) & 15,
                Self::Q5K => {
                    (block[48 + sub / 2 * 32 + i] >> (sub % 2 * 4) & 15) | (block[16 + i] >> sub & 1) << 4
                }
                // Halves of 128 elements; in each, four runs of 32 share bytes.
                Self::Q6K => {
                    let (half, run) = (sub / 4, sub % 4);
                    let low = block[half * 64 + run % 2 * 32 + i] >> (run / 2 * 4) & 15;
                    low | (block[128 + half * 32 + i] >> (run * 2) & 3) << 4
                }
                Self::Mxfp4 => nibble(&block[1..], i),
            };
        }
        quants
    }
}

/// The six-bit scale and minimum of one of eight sub-blocks of Q4_K and Q5_K.
#[inline]
pub(super) fn sub_block(block: &[u8], sub: usize) -> (u8, u8) {
    let bytes = &block[4..16];
    if sub < 4 {
        (bytes[sub] & 63, bytes[sub + 4] & 63)
    } else {
        let low = bytes[sub + 4];
        ((low & 15) | (bytes[sub - 4] >> 6 << 4), (low >> 4) | (bytes[sub] >> 6 << 4))
    }
}

/// Twice the value of four bits with two of exponent and one of mantissa (OCP Microscaling Formats 1.0, 5.3.3), plus 16:
/// 0, 1, 2, 3, 4, 6, 8, 12 and the same below zero. Arithmetic, for compilers to see vectors in.
#[inline(always)]
pub(super) fn e2m1(code: u8) -> u8 {
    let m = code & 7;
    let doubled = m + m.saturating_sub(4) + 2 * m.saturating_sub(6);
    if code > 7 { 16 - doubled } else { 16 + doubled }
}

/// Half of 2^(e - 127), since [`e2m1`] is doubled.
#[inline(always)]
pub(super) fn half_power(e: u8) -> f32 {
    let e = u32::from(e);
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e - 1) << 23 })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::Quantization;
    use crate::kernels::Dtype;

    #[derive(Deserialize)]
    struct Block {
        kind: String,
        bytes: Vec<u8>,
        values: Vec<f32>,
    }

    /// Blocks and what the `gguf` Python package reads in them (tests/fixtures/gguf_files.py).
    #[test]
    fn as_the_public_package_reads_them() {
        let blocks: Vec<Block> =
            serde_json::from_str(include_str!("../../../tests/fixtures/gguf_blocks.json")).unwrap();
        let floats = [Dtype::F32, Dtype::F16, Dtype::Bf16];
        for block in &blocks {
            let dtypes = || floats.into_iter().chain(Quantization::ALL.map(Dtype::Quantized));
            let dtype = dtypes().find(|dtype| dtype.name() == block.kind).unwrap();
            let mut values = vec![0.0; block.values.len()];
            dtype.widen(&block.bytes, 0, &mut values);
            assert_eq!(values, block.values, "{dtype:?}");
            let one_by_one: Vec<f32> = (0..values.len()).map(|i| dtype.read(&block.bytes, i)).collect();
            assert_eq!(one_by_one, block.values, "{dtype:?}");
        }
        assert_eq!(blocks.len(), floats.len() + Quantization::ALL.len());
    }
}
