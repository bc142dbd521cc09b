//! Quantized blocks to `f32`. Layouts are ggml's (`ggml-common.h`, `ggml-quants.c`).

use half::f16;

/// An element type of GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
    Mxfp4,
}

impl Kind {
    pub(super) fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            39 => Self::Mxfp4,
            _ => return None,
        })
    }

    /// As ggml spells it.
    pub(super) fn name(self) -> String {
        let name = format!("{self:?}").to_uppercase();
        name.strip_suffix('K').map_or_else(|| name.clone(), |bits| format!("{bits}_K"))
    }

    /// Elements and bytes of a block.
    pub(super) fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q8_0 => (32, 34),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
            Self::Mxfp4 => (32, 17),
        }
    }

    /// The values of whole blocks.
    pub(super) fn dequantize(self, bytes: &[u8]) -> Vec<f32> {
        let (elements, size) = self.block();
        let mut out = Vec::with_capacity(bytes.len() / size * elements);
        for block in bytes.chunks_exact(size) {
            match self {
                Self::F32 => out.push(f32::from_le_bytes([block[0], block[1], block[2], block[3]])),
                Self::F16 => out.push(half(block)),
                Self::Bf16 => out.push(half::bf16::from_le_bytes([block[0], block[1]]).to_f32()),
                Self::Q4_0 => {
                    let scale = half(block);
                    out.extend(nibbles(&block[2..]).map(|q| scale * (f32::from(q) - 8.0)));
                }
                Self::Q8_0 => {
                    let scale = half(block);
                    out.extend(block[2..].iter().map(|q| scale * f32::from(q.cast_signed())));
                }
                Self::Q4K => q4k(block, &mut out),
                Self::Q5K => q5k(block, &mut out),
                Self::Q6K => q6k(block, &mut out),
                Self::Mxfp4 => {
                    let scale = half_power(block[0]);
                    out.extend(nibbles(&block[1..]).map(|q| scale * MXFP4[usize::from(q)]));
                }
            }
        }
        out
    }
}

/// The doubled values of four bits with two of exponent and one of mantissa (OCP Microscaling Formats 1.0, 5.3.3).
const MXFP4: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

/// Half of 2^(e - 127), since [`MXFP4`] is doubled.
fn half_power(e: u8) -> f32 {
    match e {
        0 | 1 => f32::from_bits(0x0020_0000 << e),
        _ => f32::from_bits(u32::from(e - 1) << 23),
    }
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// All lower halves, then all upper ones.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    bytes.iter().map(|byte| byte & 15).chain(bytes.iter().map(|byte| byte >> 4))
}

/// The six-bit scale and minimum of each of eight sub-blocks, from twelve bytes.
fn scales(bytes: &[u8]) -> [(f32, f32); 8] {
    std::array::from_fn(|i| {
        let (scale, minimum) = if i < 4 {
            (bytes[i] & 63, bytes[i + 4] & 63)
        } else {
            let low = bytes[i + 4];
            ((low & 15) | (bytes[i - 4] >> 6 << 4), (low >> 4) | (bytes[i] >> 6 << 4))
        };
        (f32::from(scale), f32::from(minimum))
    })
}

/// Scale and minimum in f16, twelve bytes of sub-blocks' scales, 256 nibbles.
fn q4k(block: &[u8], out: &mut Vec<f32>) {
    let (scale, minimum) = (half(block), half(&block[2..]));
    let quants = block[16..].chunks_exact(32).flat_map(nibbles);
    sub_blocks(quants, scale, minimum, &block[4..16], out);
}

/// As Q4_K, with 32 bytes of fifth bits before the nibbles.
fn q5k(block: &[u8], out: &mut Vec<f32>) {
    let (scale, minimum) = (half(block), half(&block[2..]));
    let high = &block[16..48];
    let low = block[48..].chunks_exact(32).flat_map(nibbles);
    let quants = low.enumerate().map(|(i, q)| q | (high[i % 32] >> (i / 32) & 1) << 4);
    sub_blocks(quants, scale, minimum, &block[4..16], out);
}

fn sub_blocks(quants: impl Iterator<Item = u8>, scale: f32, minimum: f32, packed: &[u8], out: &mut Vec<f32>) {
    let scales = scales(packed);
    out.extend(quants.enumerate().map(|(i, q)| {
        let (own_scale, own_minimum) = scales[i / 32];
        scale * own_scale * f32::from(q) - minimum * own_minimum
    }));
}

/// 128 bytes of lower nibbles, 64 of upper pairs of bits, sixteen signed scales, the scale in f16.
fn q6k(block: &[u8], out: &mut Vec<f32>) {
    let scale = half(&block[208..]);
    for i in 0..256 {
        // Halves of 128 elements; in each, four runs of 32 share bytes.
        let (part, run, lane) = (i / 128, i % 128 / 32, i % 32);
        let low = block[part * 64 + run % 2 * 32 + lane] >> (run / 2 * 4) & 15;
        let high = block[128 + part * 32 + lane] >> (run * 2) & 3;
        let own_scale = f32::from(block[192 + i / 16].cast_signed());
        out.push(scale * own_scale * (f32::from(low | high << 4) - 32.0));
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::Kind;

    #[derive(Deserialize)]
    struct Block {
        kind: u32,
        bytes: Vec<u8>,
        values: Vec<f32>,
    }

    /// Blocks and what the `gguf` Python package reads in them (tests/fixtures/gguf_files.py).
    #[test]
    fn as_the_public_package_reads_them() {
        let blocks: Vec<Block> =
            serde_json::from_str(include_str!("../../../tests/fixtures/gguf_blocks.json")).unwrap();
        for block in &blocks {
            let kind = Kind::from_number(block.kind).unwrap();
            assert_eq!(kind.dequantize(&block.bytes), block.values, "{kind:?}");
        }
        assert_eq!(blocks.len(), 9);
    }
}
