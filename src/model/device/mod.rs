//! Where a model runs: on the CPU's kernels, or on one of candle's devices.

#[cfg(feature = "tensors")]
pub(super) mod tensors;

use std::{fmt, str::FromStr};

/// Where a forward pass runs, of those that this build has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The CPU's kernels.
    #[default]
    Cpu,
    /// candle's own CPU device, for tests: it is slow, and it holds the code of the GPUs against the CPU's answers.
    #[cfg(feature = "tensors")]
    Tensors,
    /// NVIDIA's GPU of that number.
    #[cfg(feature = "cuda")]
    Cuda(usize),
    /// Apple's GPU.
    #[cfg(feature = "metal")]
    Metal,
}

impl Device {
    /// Its kind, without a number.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            #[cfg(feature = "tensors")]
            Self::Tensors => "tensors",
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => "cuda",
            #[cfg(feature = "metal")]
            Self::Metal => "metal",
        }
    }

    /// Whether it has no memory of its own but takes the system's.
    #[must_use]
    pub fn is_host(self) -> bool {
        match self {
            Self::Cpu => true,
            #[cfg(feature = "tensors")]
            Self::Tensors => true,
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => false,
            #[cfg(feature = "metal")]
            Self::Metal => false,
        }
    }

    /// Bytes that its own memory has left. `None`: it has none of its own, or does not tell.
    #[must_use]
    pub fn free_memory(self) -> Option<u64> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "tensors")]
            Self::Tensors => None,
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => {
                let context = candle_core::cuda_backend::cudarc::driver::CudaContext::new(number).ok()?;
                context.mem_get_info().ok().map(|(free, _)| free as u64)
            }
            #[cfg(feature = "metal")]
            Self::Metal => {
                let device = candle_core::MetalDevice::new(0).ok()?;
                let device = device.metal_device();
                let most = device.recommended_max_working_set_size();
                Some(most.saturating_sub(device.current_allocated_size()) as u64)
            }
        }
    }

    /// `None`: the CPU's kernels, which are no device of candle's.
    #[cfg(feature = "tensors")]
    pub(super) fn open(self) -> candle_core::Result<Option<candle_core::Device>> {
        Ok(Some(match self {
            Self::Cpu => return Ok(None),
            Self::Tensors => candle_core::Device::Cpu,
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => candle_core::Device::new_cuda(number)?,
            #[cfg(feature = "metal")]
            Self::Metal => candle_core::Device::new_metal(0)?,
        }))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(number) if *number > 0 => write!(f, "cuda:{number}"),
            other => f.write_str(other.kind()),
        }
    }
}

/// A device that this build has not, or that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lacking {
    #[error("this build lacks it: build with the cargo feature `{0}`, or take `cpu`")]
    Feature(&'static str),
    #[error("no such device; write `cpu`, `cuda`, `cuda:1` for the second GPU, or `metal`")]
    Unknown,
}

impl FromStr for Device {
    type Err = Lacking;

    fn from_str(text: &str) -> Result<Self, Lacking> {
        let cuda = text.strip_prefix("cuda:").map_or((text == "cuda").then_some(0), |n| n.parse::<u8>().ok());
        match (text, cuda) {
            ("cpu", _) => Ok(Self::Cpu),
            #[cfg(feature = "tensors")]
            ("tensors", _) => Ok(Self::Tensors),
            #[cfg(feature = "cuda")]
            (_, Some(number)) => Ok(Self::Cuda(number.into())),
            #[cfg(feature = "metal")]
            ("metal", _) => Ok(Self::Metal),
            #[cfg(not(feature = "cuda"))]
            (_, Some(_)) => Err(Lacking::Feature("cuda")),
            #[cfg(not(feature = "metal"))]
            ("metal", _) => Err(Lacking::Feature("metal")),
            _ => Err(Lacking::Unknown),
        }
    }
}
