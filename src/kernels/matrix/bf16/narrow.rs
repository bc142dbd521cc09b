//! Rows of `f32` as bfloat16.

use half::bf16;

use crate::kernels::{cpu::Cpu, isa::Kernel, simd::Simd};

/// `x` [m, k] into `out` [m, padded], filled up with zeros.
pub(super) fn narrow(cpu: &Cpu, k: usize, x: &[f32], padded: usize, out: &mut [bf16]) {
    cpu.for_rows(out, padded, |i, out| cpu.isa.run(Narrow { x: &x[i * k..(i + 1) * k], out }));
}

struct Narrow<'a> {
    x: &'a [f32],
    out: &'a mut [bf16],
}

impl Kernel for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (values, padding) = self.out.split_at_mut(self.x.len());
        for (value, x) in values.iter_mut().zip(self.x) {
            *value = nearest(*x);
        }
        padding.fill(bf16::ZERO);
    }
}

/// The nearest value, ties to even; subnormal numbers become zero, as VCVTNEPS2BF16 has it.
#[inline(always)]
fn nearest(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    let quiet = (bits >> 16) as u16 | 0x40;
    let sign = (bits >> 16) as u16 & 0x8000;
    bf16::from_bits(if x.is_nan() {
        quiet
    } else if bits & 0x7f80_0000 == 0 {
        sign
    } else {
        rounded
    })
}
