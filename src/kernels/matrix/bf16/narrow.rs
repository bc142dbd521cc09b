//! Rows of `f32` as bfloat16.

use half::bf16;

use super::{BLOCK, DEPTH};
use crate::kernels::{cpu::Cpu, isa::Kernel, simd::Simd, split::Split};

/// `x` [m, k] into `out`, as [`super::Rows`] has them, filled up with zeros.
pub(super) fn narrow(cpu: &Cpu, k: usize, x: &[f32], out: &mut [bf16]) {
    let block = BLOCK * k.next_multiple_of(DEPTH);
    let (len, out) = (out.len(), Split::new(out));
    cpu.pool.run(len.div_ceil(block), &|task| {
        let rows = &x[task * BLOCK * k..((task + 1) * BLOCK * k).min(x.len())];
        #[expect(unsafe_code, reason = "blocks lent to several threads")]
        // SAFETY: each block belongs to one task.
        let out = unsafe { out.part(task * block..((task + 1) * block).min(len)) };
        cpu.isa.run(Narrow { k, rows, out });
    });
}

/// One block.
struct Narrow<'a> {
    k: usize,
    rows: &'a [f32],
    out: &'a mut [bf16],
}

impl Kernel for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let height = self.rows.len() / self.k;
        let (lines, _) = self.out.as_chunks_mut::<DEPTH>();
        for (r, row) in self.rows.chunks_exact(self.k).enumerate() {
            let (whole, rest) = row.as_chunks::<DEPTH>();
            for (step, inputs) in whole.iter().enumerate() {
                for (value, x) in lines[step * height + r].iter_mut().zip(inputs) {
                    *value = nearest(*x);
                }
            }
            if !rest.is_empty() {
                let (values, padding) = lines[whole.len() * height + r].split_at_mut(rest.len());
                for (value, x) in values.iter_mut().zip(rest) {
                    *value = nearest(*x);
                }
                padding.fill(bf16::ZERO);
            }
        }
    }
}

/// The nearest value, ties to even; subnormal numbers become zero, as VCVTNEPS2BF16 has it.
#[inline(always)]
pub(super) fn nearest(x: f32) -> bf16 {
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
