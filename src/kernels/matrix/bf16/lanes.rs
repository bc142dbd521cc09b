//! The product by fused multiply-adds of sixteen lanes.
#![expect(unsafe_code, reason = "the innermost loop goes without bounds checks")]

use half::bf16;

use super::{DEPTH, GROUP, Product};
use crate::kernels::{
    dtype::Element,
    isa::Kernel,
    simd::{LANES, Simd},
};

/// All rows of four panels.
pub(super) struct Group<'a> {
    pub(super) product: &'a Product<'a>,
    pub(super) first: usize,
}

impl Kernel for Group<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut row = 0;
        while row < self.product.factors.rows.m {
            row += match self.product.factors.rows.m - row {
                left if S::WIDE && left >= 4 => self.panels::<S, 4, 2>(s, row),
                left if left >= 2 => self.panels::<S, 2, 1>(s, row),
                _ if S::WIDE => self.panels::<S, 1, 4>(s, row),
                _ => self.panels::<S, 1, 2>(s, row),
            };
        }
    }
}

impl Group<'_> {
    #[inline(always)]
    fn panels<S: Simd, const R: usize, const P: usize>(&self, s: S, row: usize) -> usize {
        for panel in (self.first..self.first + GROUP).step_by(P) {
            self.tile::<S, R, P>(s, row, panel);
        }
        R
    }

    #[inline(always)]
    fn tile<S: Simd, const R: usize, const P: usize>(&self, s: S, row: usize, panel: usize) {
        let weights: [&[[[bf16; 2]; LANES]]; P] =
            std::array::from_fn(|p| self.product.factors.weights(panel + p, 0).as_chunks().0.as_chunks().0);
        let before = s.begin_flushing();
        let zero = s.splat(0.0);
        let mut sums = [[zero; P]; R];
        for step in 0..self.product.factors.rows.steps {
            let x: [&[[bf16; 2]]; R] =
                std::array::from_fn(|r| self.product.factors.rows.line(row + r, step).as_chunks().0);
            let mut parts = [[[zero; 2]; P]; R];
            for i in 0..DEPTH / 2 {
                let mut pairs = [[zero; 2]; P];
                for p in 0..P {
                    // SAFETY: each slice has a pair for each two of the padded inputs.
                    pairs[p] = s.load_pairs(unsafe { weights[p].get_unchecked(step * DEPTH / 2 + i) });
                }
                for r in 0..R {
                    // SAFETY: as above.
                    let [even, odd] = unsafe { x[r].get_unchecked(i) }.map(|x| s.splat(x.widen()));
                    for p in 0..P {
                        parts[r][p][0] = s.mul_add_flushed(pairs[p][0], even, parts[r][p][0]);
                        parts[r][p][1] = s.mul_add_flushed(pairs[p][1], odd, parts[r][p][1]);
                    }
                }
            }
            for r in 0..R {
                for p in 0..P {
                    let both = s.add_flushed(parts[r][p][0], parts[r][p][1]);
                    sums[r][p] = s.add_flushed(sums[r][p], both);
                }
            }
        }
        let mut out = [[[0.0; LANES]; P]; R];
        for (out, sums) in out.iter_mut().zip(sums) {
            for (out, sum) in out.iter_mut().zip(sums) {
                s.store(sum, out);
            }
        }
        s.end_flushing(before);
        for (r, out) in out.iter().enumerate() {
            for (p, out) in out.iter().enumerate() {
                self.product.finish(s, row + r, panel + p, out);
            }
        }
    }
}
