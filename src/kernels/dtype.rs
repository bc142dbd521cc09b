//! Element types of weights and of the KV cache.

use half::{bf16, f16};

use super::{
    aligned::Plain,
    quantized::blocks::Quantization,
    simd::{LANES, Simd},
};

/// A type that weights are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dtype {
    F32,
    F16,
    Bf16,
    Quantized(Quantization),
}

impl Dtype {
    /// The name that GGUF's documentation and safetensors give it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Quantized(kind) => kind.name(),
        }
    }

    /// Elements and bytes of a block; numbers that stand alone are blocks of one.
    #[must_use]
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Quantized(kind) => kind.block(),
        }
    }

    /// The elements of little-endian `bytes` from `first` on, as many as `out` has places for.
    ///
    /// # Panics
    /// When the bytes end before.
    pub fn widen(self, bytes: &[u8], first: usize, out: &mut [f32]) {
        if self == Self::F32 {
            let bytes = &bytes[first * 4..(first + out.len()) * 4];
            let values = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            return out.iter_mut().zip(values).for_each(|(out, value)| *out = value);
        }
        let Self::Quantized(kind) = self else {
            return out.iter_mut().enumerate().for_each(|(i, out)| *out = self.read(bytes, first + i));
        };
        let (elements, size) = kind.block();
        if !first.is_multiple_of(elements) || !out.len().is_multiple_of(elements) {
            return out.iter_mut().enumerate().for_each(|(i, out)| *out = self.read(bytes, first + i));
        }
        let blocks = bytes[first / elements * size..].chunks_exact(size);
        assert!(blocks.len() >= out.len() / elements, "bytes for all elements");
        for (block, out) in blocks.zip(out.chunks_exact_mut(elements)) {
            kind.widen(block, out);
        }
    }

    /// Element `index` of little-endian `bytes`.
    ///
    /// # Panics
    /// When the bytes end before it.
    #[must_use]
    #[inline]
    pub fn read(self, bytes: &[u8], index: usize) -> f32 {
        match self {
            Self::F32 => <f32 as Element>::read(bytes, index),
            Self::F16 => <f16 as Element>::read(bytes, index).widen(),
            Self::Bf16 => <bf16 as Element>::read(bytes, index).widen(),
            Self::Quantized(kind) => {
                let (elements, size) = kind.block();
                let mut values = [0.0; 256];
                let values = &mut values[..elements];
                kind.widen(&bytes[index / elements * size..][..size], values);
                values[index % elements]
            }
        }
    }
}

/// An element type that kernels read sixteen at a time.
pub trait Element: Plain + Default + Send + Sync {
    fn lanes<S: Simd>(s: S, x: &[Self; LANES]) -> S::Lanes;
    /// Element `index` of little-endian `bytes`; panics when they end before it.
    fn read(bytes: &[u8], index: usize) -> Self;
    fn widen(self) -> f32;
    /// The nearest value, ties to even.
    fn narrow(x: f32) -> Self;
}

impl Element for f32 {
    #[inline(always)]
    fn lanes<S: Simd>(s: S, x: &[Self; LANES]) -> S::Lanes {
        s.load(x)
    }
    #[inline]
    fn read(bytes: &[u8], index: usize) -> Self {
        let at = &bytes[index * 4..index * 4 + 4];
        Self::from_le_bytes([at[0], at[1], at[2], at[3]])
    }
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
    #[inline(always)]
    fn narrow(x: f32) -> Self {
        x
    }
}

/// The two bytes of element `index`.
#[inline]
fn half(bytes: &[u8], index: usize) -> [u8; 2] {
    [bytes[index * 2], bytes[index * 2 + 1]]
}

impl Element for f16 {
    #[inline(always)]
    fn lanes<S: Simd>(s: S, x: &[Self; LANES]) -> S::Lanes {
        s.load_f16(x)
    }
    #[inline]
    fn read(bytes: &[u8], index: usize) -> Self {
        Self::from_le_bytes(half(bytes, index))
    }
    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
    #[inline(always)]
    fn narrow(x: f32) -> Self {
        Self::from_f32(x)
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn lanes<S: Simd>(s: S, x: &[Self; LANES]) -> S::Lanes {
        s.load_bf16(x)
    }
    #[inline]
    fn read(bytes: &[u8], index: usize) -> Self {
        Self::from_le_bytes(half(bytes, index))
    }
    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
    #[inline(always)]
    fn narrow(x: f32) -> Self {
        Self::from_f32(x)
    }
}
