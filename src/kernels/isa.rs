//! Which instruction set runs, chosen at run time.
#![expect(
    unsafe_code,
    reason = "code for instructions that the compiler may not assume, entered after asking the CPU"
)]

#[cfg(target_arch = "aarch64")]
use super::simd::neon::Neon;
use super::simd::{Simd, scalar::Scalar};
#[cfg(target_arch = "x86_64")]
use super::{
    matrix_unit::Unit,
    simd::{avx2::Avx2, avx512::Avx512},
};

/// An instruction set that this CPU has. The answers do not depend on it, bit for bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scalar,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "aarch64")]
    NeonDotprod,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// AVX-512, VNNI and the matrix unit.
    #[cfg(target_arch = "x86_64")]
    Amx(Unit),
}

/// An instruction set that this CPU has not, or that nobody knows.
#[derive(Debug, Clone, thiserror::Error)]
#[error("there is no instruction set '{name}' here, but {}", names(available))]
pub struct Lacking {
    name: String,
    available: Vec<Isa>,
}

fn names(available: &[Isa]) -> String {
    available.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}

/// Work on sixteen lanes. `run` is written once and compiled for each instruction set, so it must be
/// `#[inline(always)]`, and so must everything it calls that takes a [`Simd`]. That excludes closures given to functions of
/// the standard library: one that is not inlined is compiled without the instructions, and each operation becomes a call.
pub trait Kernel {
    type Output;
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

impl Isa {
    pub const SCALAR: Self = Self(Kind::Scalar);

    /// The fastest that this CPU has.
    #[must_use]
    pub fn detect() -> Self {
        *Self::available().last().unwrap_or(&Self::SCALAR)
    }

    /// All that this CPU has, slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        #[cfg_attr(
            not(any(target_arch = "x86_64", target_arch = "aarch64")),
            expect(unused_mut, reason = "one kind only")
        )]
        let mut kinds = vec![Self::SCALAR];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            kinds.push(Self(Kind::Avx2));
            if is_x86_feature_detected!("avxvnni") {
                kinds.push(Self(Kind::AvxVnni));
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
            {
                kinds.push(Self(Kind::Avx512));
                if is_x86_feature_detected!("avx512vnni") {
                    kinds.push(Self(Kind::Avx512Vnni));
                    kinds.extend(Unit::detect().map(|unit| Self(Kind::Amx(unit))));
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            kinds.push(Self(Kind::Neon));
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                kinds.push(Self(Kind::NeonDotprod));
            }
        }
        kinds
    }

    /// The one of that name; without a name, the fastest.
    ///
    /// # Errors
    /// When this CPU has none of that name.
    pub fn choose(name: Option<&str>) -> Result<Self, Lacking> {
        let Some(name) = name else { return Ok(Self::detect()) };
        let lacking = || Lacking { name: name.to_owned(), available: Self::available() };
        Self::available().into_iter().find(|isa| isa.name() == name).ok_or_else(lacking)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDotprod => "neon-dotprod",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => "avx512-vnni",
            #[cfg(target_arch = "x86_64")]
            Kind::Amx(_) => "amx",
        }
    }

    #[cfg(target_arch = "x86_64")]
    pub(super) fn matrix_unit(self) -> Option<Unit> {
        match self.0 {
            Kind::Amx(unit) => Some(unit),
            _ => None,
        }
    }

    /// Runs what needs the matrix unit beside the lanes, where there is one.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(super) fn run_on_unit<K: Kernel>(self, kernel: impl FnOnce(Unit) -> K) -> Option<K::Output> {
        let unit = self.matrix_unit()?;
        // SAFETY: as in `run`: with the unit come AVX-512 and VNNI.
        Some(unsafe { run_avx512_vnni(kernel(unit)) })
    }

    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Kind::Scalar => kernel.run(Scalar),
            // SAFETY: `available` asked the CPU; nothing else makes these kinds.
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => unsafe { run_neon(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDotprod => unsafe { run_neon_dotprod(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { run_avx2(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => unsafe { run_avx_vnni(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { run_avx512(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni | Kind::Amx(_) => unsafe { run_avx512_vnni(kernel) },
        }
    }
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn run_neon<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function is entered on CPUs that have it.
    kernel.run(unsafe { Neon::<false>::assume() })
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon,dotprod")]
fn run_neon_dotprod<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function is entered on CPUs that have both.
    kernel.run(unsafe { Neon::<true>::assume() })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function is entered on CPUs that have them.
    kernel.run(unsafe { Avx2::<false>::assume() })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function is entered on CPUs that have them.
    kernel.run(unsafe { Avx512::<false>::assume() })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn run_avx_vnni<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function is entered on CPUs that have them.
    kernel.run(unsafe { Avx2::<true>::assume() })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn run_avx512_vnni<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function is entered on CPUs that have them.
    kernel.run(unsafe { Avx512::<true>::assume() })
}
