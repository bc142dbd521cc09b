//! The product of some panels with all rows, by tiles of accumulators that stay in registers.
//!
//! Tiles differ in shape with the number of rows and of registers; what happens to one output does not: one accumulator,
//! `k` upwards, one fused multiply-add a step, then the bias.
#![expect(
    unsafe_code,
    reason = "the innermost loop goes without bounds checks, and tasks write one output together"
)]

use std::{hint::black_box, ops::Range};

use crate::kernels::{
    dtype::Element,
    isa::Kernel,
    simd::{LANES, Simd},
    split::Split,
};

/// Steps that weights are fetched before they are needed.
const AHEAD: usize = 8;

/// The columns of a group of panels, for some rows of `x`.
pub(super) struct Columns<'a, T> {
    pub(super) n: usize,
    /// The first column in `out`, and the width of `out`.
    pub(super) first: usize,
    pub(super) width: usize,
    pub(super) k: usize,
    pub(super) x: &'a [f32],
    pub(super) rows: Range<usize>,
    pub(super) panels: &'a [[T; LANES]],
    pub(super) bias: Option<&'a [f32]>,
    pub(super) out: Split<'a, f32>,
    pub(super) group: Range<usize>,
}

impl<T: Element> Kernel for Columns<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Range { start: mut row, end } = self.rows;
        if end - row == 1 {
            // One row waits for memory: many streams, and as many accumulators as hide the latency of an addition.
            if S::WIDE {
                self.sweep::<S, 1, 8>(s, row..end);
            } else {
                self.sweep::<S, 1, 4>(s, row..end);
            }
            return;
        }
        while row < end {
            row += match end - row {
                left if S::WIDE && left >= 12 => self.sweep_down::<S, 12, 2>(s, row, (left / 12).min(5)),
                left if S::WIDE && left >= 8 => self.sweep_down::<S, 8, 2>(s, row, (left / 8).min(8)),
                left if left >= 4 => {
                    if S::WIDE {
                        self.sweep_down::<S, 4, 4>(s, row, 1)
                    } else {
                        self.sweep_down::<S, 4, 1>(s, row, (left / 4).min(16))
                    }
                }
                left if left >= 2 => self.sweep_down::<S, 2, 2>(s, row, 1),
                _ => self.sweep_down::<S, 1, 4>(s, row, 1),
            };
        }
    }
}

impl<T: Element> Columns<'_, T> {
    /// `tiles` tiles of `R` rows below each other, panels first so that a panel stays in the cache; no more than 64 rows at
    /// a time, so that they stay there too. Returns the rows.
    #[inline(always)]
    fn sweep_down<S: Simd, const R: usize, const P: usize>(&self, s: S, row: usize, tiles: usize) -> usize {
        self.sweep::<S, R, P>(s, row..row + tiles * R);
        tiles * R
    }

    /// All panels of the group, `P` at a time and the rest one by one, over rows of which there are a multiple of `R`.
    #[inline(always)]
    fn sweep<S: Simd, const R: usize, const P: usize>(&self, s: S, rows: Range<usize>) {
        let mut panel = self.group.start;
        while panel + P <= self.group.end {
            for row in rows.clone().step_by(R) {
                self.tile::<S, R, P>(s, row, panel);
            }
            panel += P;
        }
        while panel < self.group.end {
            for row in rows.clone().step_by(R) {
                self.tile::<S, R, 1>(s, row, panel);
            }
            panel += 1;
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const R: usize, const P: usize>(&self, s: S, row: usize, panel: usize) {
        let k = self.k;
        // Hidden from the compiler, which would else make each row's address from the one before at every step, with
        // instructions that wait for the same ports as the products do.
        let x: [&[f32]; R] = std::array::from_fn(|r| black_box(&self.x[(row + r) * k..(row + r + 1) * k]));
        let weights: [&[[T; LANES]]; P] =
            std::array::from_fn(|p| &self.panels[(panel + p) * k..(panel + p + 1) * k]);
        let lines = weights.map(|panel| panel.as_ptr());
        let mut sums = [[s.splat(0.0); P]; R];
        for i in 0..k {
            if S::WIDE && R > 1 {
                // A panel is in the second cache: this many steps sooner.
                for line in lines {
                    s.prefetch(line.wrapping_add(i + AHEAD).cast());
                }
            }
            let mut step = [s.splat(0.0); P];
            for p in 0..P {
                // SAFETY: each slice has `k` elements.
                step[p] = T::lanes(s, unsafe { weights[p].get_unchecked(i) });
            }
            for r in 0..R {
                // SAFETY: as above.
                let value = s.splat(unsafe { *x[r].get_unchecked(i) });
                for p in 0..P {
                    sums[r][p] = s.mul_add(value, step[p], sums[r][p]);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (p, sum) in sums.into_iter().enumerate() {
                self.finish(s, row + r, panel + p, sum);
            }
        }
    }

    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, row: usize, panel: usize, sum: S::Lanes) {
        let columns = self.first + panel * LANES..self.first + ((panel + 1) * LANES).min(self.n);
        let bias = self.bias.map(|bias| &bias[columns.clone()]);
        // SAFETY: a panel belongs to one task, and its columns of a row to one tile.
        let out = unsafe { self.out.part(row * self.width + columns.start..row * self.width + columns.end) };
        if let Ok(out) = <&mut [f32; LANES]>::try_from(&mut *out) {
            let bias = bias.and_then(|bias| bias.try_into().ok());
            s.store(bias.map_or(sum, |bias| s.add(sum, s.load(bias))), out);
        } else {
            s.store_part(bias.map_or(sum, |bias| s.add(sum, s.load_part(bias))), out);
        }
    }
}
