//! Named tensors, wherever they come from.

use std::{
    ops::{Deref, Range},
    sync::Arc,
};

use super::{error::LoadError, summary::Stored};
use crate::kernels::{Dtype, mapped::Mapped};

/// A checkpoint's tensors.
pub(super) trait Tensors {
    fn names(&self) -> Vec<String>;
    /// Bytes of all of them, as stored.
    fn bytes(&self) -> u64;
    fn stored(&self, name: &str) -> Option<Stored>;
    /// None: there is no such tensor.
    fn shape(&self, name: &str) -> Option<(Dtype, &[usize])>;
    /// None: there is no such tensor.
    fn tensor(&self, name: &str) -> Result<Option<Tensor>, LoadError>;
}

/// Numbers in row-major order, little-endian; quantized blocks lie along the innermost dimension.
#[derive(Clone)]
pub(super) struct Tensor {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Bytes,
}

/// Part of a mapped file or of the program, or bytes made from one.
#[derive(Clone)]
pub(super) enum Bytes {
    Mapped(Arc<Mapped>, Range<usize>),
    Embedded(&'static [u8]),
    Owned(Arc<[u8]>),
}

impl Bytes {
    /// Whoever has packed them wants them no more, as far as one knows: a file's pages go.
    pub(super) fn release(&self) {
        if let Self::Mapped(file, range) = self {
            file.release(range.clone());
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(file, range) => &file[range.clone()],
            Self::Embedded(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Tensor {
    /// Row `index` of a table.
    pub(super) fn row(&self, index: usize, out: &mut [f32]) {
        self.dtype.widen(&self.bytes, index * out.len(), out);
    }

    /// Adds row `index` of a table.
    pub(super) fn add_row(&self, index: usize, out: &mut [f32]) {
        const PART: usize = 256;
        let first = index * out.len();
        for (i, out) in out.chunks_mut(PART).enumerate() {
            let mut row = [0.0; PART];
            let row = &mut row[..out.len()];
            self.dtype.widen(&self.bytes, first + i * PART, row);
            out.iter_mut().zip(row).for_each(|(out, x)| *out += *x);
        }
    }

    /// All elements.
    pub(super) fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.shape.iter().product()];
        self.dtype.widen(&self.bytes, 0, &mut values);
        values
    }
}
