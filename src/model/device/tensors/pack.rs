//! Weights on a device.

use candle_core::{DType, Device, Result, Tensor, WithDType};

use crate::{
    kernels::{
        Cpu, Dtype, Row,
        dtype::Element,
        norm::{self, NormKind},
    },
    model::{
        builder::{self, Pack},
        description::Description,
        error::LoadError,
        tensors::Tensors,
    },
};

impl From<candle_core::Error> for LoadError {
    fn from(error: candle_core::Error) -> Self {
        Self::Device(error.to_string())
    }
}

/// What weights and the KV cache are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    F32,
    F16,
    Bf16,
}

impl Kept {
    /// As the file has its embedding table; quantized weights need the range of bfloat16. candle's CPU device has no
    /// products of half types that are worth it.
    pub(super) fn of(description: &Description, tensors: &dyn Tensors, host: bool) -> Self {
        let name = format!("{}.weight", description.embedding.tokens);
        let bare = name.strip_prefix(description.prefix).unwrap_or(&name);
        let stored = tensors.shape(&name).or_else(|| tensors.shape(bare)).map(|(dtype, _)| dtype);
        match stored {
            _ if host => Self::F32,
            Some(Dtype::F16) => Self::F16,
            Some(Dtype::Bf16 | Dtype::Quantized(_)) => Self::Bf16,
            Some(Dtype::F32) | None => Self::F32,
        }
    }

    /// Bytes of an element.
    pub(super) fn size(self) -> usize {
        self.dtype().size_in_bytes()
    }

    pub(super) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// Puts matrices on a device.
pub(in crate::model) struct Packer {
    pub(super) device: Device,
    /// Converts the rows.
    pub(super) cpu: Cpu,
    pub(super) kept: Kept,
}

impl Pack for Packer {
    /// [outputs, inputs].
    type Matrix = Tensor;

    fn pack(&self, k: usize, rows: &[Row<'_>]) -> std::result::Result<Tensor, LoadError> {
        let shape = (rows.len(), k);
        Ok(match self.kept {
            Kept::F32 => Tensor::from_vec(self.gather::<f32>(Dtype::F32, k, rows), shape, &self.device),
            Kept::F16 => Tensor::from_vec(self.gather::<half::f16>(Dtype::F16, k, rows), shape, &self.device),
            Kept::Bf16 => {
                Tensor::from_vec(self.gather::<half::bf16>(Dtype::Bf16, k, rows), shape, &self.device)
            }
        }?)
    }
}

impl Packer {
    /// Keeps weights in the model's own type, as far as the device has it.
    pub(in crate::model) fn new(
        device: Device,
        cpu: Cpu,
        description: &Description,
        tensors: &dyn Tensors,
    ) -> Self {
        let kept = Kept::of(description, tensors, device.is_cpu());
        Self { device, cpu, kept }
    }

    /// The rows one after the other as `T`, which is `dtype`.
    fn gather<T: Element + WithDType>(&self, dtype: Dtype, k: usize, rows: &[Row<'_>]) -> Vec<T> {
        let mut all = vec![<T as Default>::default(); rows.len() * k];
        self.cpu.for_rows(&mut all, k, |i, out| {
            let row = rows[i];
            if row.dtype == dtype {
                for (j, out) in out.iter_mut().enumerate() {
                    *out = T::read(row.data, row.first + j * row.step);
                }
            } else if row.step == 1 {
                let mut wide = vec![0.0; k];
                row.dtype.widen(row.data, row.first, &mut wide);
                for (out, wide) in out.iter_mut().zip(wide) {
                    *out = T::narrow(wide);
                }
            } else {
                for (j, out) in out.iter_mut().enumerate() {
                    *out = T::narrow(row.dtype.read(row.data, row.first + j * row.step));
                }
            }
        });
        all
    }

    pub(super) fn linear(&self, linear: builder::Linear<Tensor>) -> Result<Linear> {
        let bias = linear.bias.map(|bias| Tensor::new(bias, &self.device)).transpose()?;
        Ok(Linear { matrix: linear.matrix, bias })
    }

    pub(super) fn norm(&self, norm: norm::Norm) -> Result<Norm> {
        let norm::Norm { kind, eps, weight, bias, width } = norm;
        let upload = |values: Vec<f32>| {
            let shape = (1, values.len() / width, width);
            Tensor::from_vec(values, shape, &self.device)
        };
        let (weight, bias) = (weight.map(upload).transpose()?, bias.map(upload).transpose()?);
        Ok(Norm { kind, eps: f64::from(eps), weight, bias, width })
    }

    pub(super) fn optional_norm(&self, norm: Option<norm::Norm>) -> Result<Option<Norm>> {
        norm.map(|norm| self.norm(norm)).transpose()
    }
}

/// A matrix [outputs, inputs] as it is kept, and its bias in f32.
pub(super) struct Linear {
    pub(super) matrix: Tensor,
    pub(super) bias: Option<Tensor>,
}

impl Linear {
    /// `x` [rows, inputs] to [rows, outputs], both f32.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.to_dtype(self.matrix.dtype())?.matmul(&self.matrix.t()?)?.to_dtype(DType::F32)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// A norm whose parameters [1, 1 or heads, width] are on the device.
pub(super) struct Norm {
    kind: NormKind,
    eps: f64,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    width: usize,
}

impl Norm {
    /// Normalises each `width` values of the rows of `x` [rows, n].
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, n) = x.dims2()?;
        let x = x.reshape((rows, n / self.width, self.width))?;
        let x = match self.kind {
            NormKind::Rms => x,
            NormKind::Layer => x.broadcast_sub(&x.mean_keepdim(2)?)?,
        };
        let scale = (x.sqr()?.mean_keepdim(2)? + self.eps)?.sqrt()?;
        let mut y = x.broadcast_div(&scale)?;
        if let Some(weight) = &self.weight {
            y = y.broadcast_mul(weight)?;
        }
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(bias)?;
        }
        y.reshape((rows, n))
    }
}

/// `x` normalised, or as it is where there is no norm.
pub(super) fn normalise(norm: Option<&Norm>, x: &Tensor) -> Result<Tensor> {
    norm.map_or_else(|| Ok(x.clone()), |norm| norm.apply(x))
}
