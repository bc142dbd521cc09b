//! Element types of weights and of the KV cache.

use half::{bf16, f16};

use super::{
    aligned::Plain,
    simd::{LANES, Simd},
};

/// A floating point type that weights are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    F32,
    F16,
    Bf16,
}

impl Dtype {
    /// Bytes of an element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
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
