//! Rows of activations as small whole numbers.

use crate::kernels::{cpu::Cpu, isa::Kernel, simd::Simd, split::Split};

/// Elements that share a scale. Weights' blocks are 32 long or made of such; longer ones here would save no step of the
/// products, which scale each 32 anyway, and lose accuracy to the largest of more elements.
pub(super) const BLOCK: usize = 32;

/// Below it a block counts as zeros: the inverse of its scale would leave the range of `f32`.
const TINY: f32 = f32::from_bits((127 - 100) << 23);

/// 1.5 · 2^23: the sum with a small number holds that number, rounded, in its lowest bits.
const ROUND: f32 = 12_582_912.0;

/// 32 elements: `scale · quants`, with `scale` the largest magnitude / 127.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub(super) struct Block {
    /// Groups of four, as the products take them.
    pub(super) quants: [[i8; 4]; 8],
    /// NaN where an element is not finite.
    pub(super) scale: f32,
    /// The scale times the sum of the quants, negated: what a minimum of the weights is multiplied by.
    pub(super) minus_sum: f32,
    /// The sum of the quants, and of the first half of them.
    pub(super) sum: i32,
    pub(super) first: i32,
}

/// Rows of `k` elements, quantized.
pub(in crate::kernels) struct Rows {
    k: usize,
    blocks: Vec<Block>,
}

impl Rows {
    /// Quantizes `x` [m, k].
    ///
    /// # Panics
    /// When `k` is no multiple of 32.
    pub(in crate::kernels) fn quantize(cpu: &Cpu, x: &[f32], k: usize) -> Self {
        assert!(k.is_multiple_of(BLOCK), "whole blocks");
        const NONE: Block = Block { quants: [[0; 4]; 8], scale: 0.0, minus_sum: 0.0, sum: 0, first: 0 };
        let mut blocks = vec![NONE; x.len() / BLOCK];
        // A fork costs about as much as some thousand elements.
        const GRAIN: usize = 512;
        let tasks = blocks.len().div_ceil(GRAIN);
        let count = blocks.len();
        let split = Split::new(&mut blocks);
        cpu.pool.run(tasks, &|task| {
            let range = task * GRAIN..((task + 1) * GRAIN).min(count);
            let x = &x[range.start * BLOCK..range.end * BLOCK];
            #[expect(unsafe_code, reason = "blocks lent to several threads")]
            // SAFETY: each block belongs to one task.
            let out = unsafe { split.part(range) };
            cpu.isa.run(Quantize { x, out });
        });
        Self { k, blocks }
    }

    pub(super) fn count(&self) -> usize {
        self.blocks.len() * BLOCK / self.k
    }

    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &[Block] {
        let blocks = self.k / BLOCK;
        &self.blocks[row * blocks..(row + 1) * blocks]
    }

    /// What the quantized element stands for.
    #[cfg(test)]
    pub(super) fn value(&self, row: usize, i: usize) -> f64 {
        let block = self.row(row)[i / BLOCK];
        f64::from(block.scale) * f64::from(block.quants.as_flattened()[i % BLOCK])
    }
}

struct Quantize<'a> {
    x: &'a [f32],
    out: &'a mut [Block],
}

impl Kernel for Quantize<'_> {
    type Output = ();

    /// Plain loops, in which the compiler sees the instruction set's vectors: elementwise operations, and a largest and
    /// sums of whole numbers, which have no order.
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (x, out) in self.x.as_chunks::<BLOCK>().0.iter().zip(self.out) {
            // Magnitudes compare as their bits do, infinity and NaN above all numbers.
            let mut largest = 0;
            for x in x {
                largest = largest.max(x.to_bits() & 0x7FFF_FFFF);
            }
            let largest = f32::from_bits(largest);
            let (scale, inverse) = if !largest.is_finite() {
                (f32::NAN, 0.0)
            } else if largest < TINY {
                (0.0, 0.0)
            } else {
                (largest / 127.0, 127.0 / largest)
            };
            let mut quants = [0i8; BLOCK];
            for (quant, x) in quants.iter_mut().zip(x) {
                #[expect(clippy::cast_possible_truncation, reason = "the lowest byte is meant")]
                let lowest = (x * inverse + ROUND).to_bits() as i8;
                *quant = lowest;
            }
            if !scale.is_finite() {
                quants = [0; BLOCK];
            }
            let (mut first, mut second) = (0, 0);
            for i in 0..BLOCK / 2 {
                first += i32::from(quants[i]);
                second += i32::from(quants[i + BLOCK / 2]);
            }
            let sum = first + second;
            #[expect(clippy::cast_precision_loss, reason = "below 2^13")]
            let minus_sum = -(scale * sum as f32);
            let (groups, _) = quants.as_chunks::<4>();
            for (group, quants) in out.quants.iter_mut().zip(groups) {
                *group = *quants;
            }
            (out.scale, out.minus_sum, out.sum, out.first) = (scale, minus_sum, sum, first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{all_ways, numbers};

    #[test]
    fn within_half_a_step_and_the_same_everywhere() {
        let x = numbers(40 * 96, 3);
        let mut expected: Option<Vec<Block>> = None;
        for cpu in all_ways() {
            let rows = Rows::quantize(&cpu, &x, 96);
            for (i, x) in x.iter().enumerate() {
                let error = (rows.value(i / 96, i % 96) - f64::from(*x)).abs();
                assert!(error <= 0.500_01 * f64::from(rows.row(i / 96)[i % 96 / 32].scale), "{i}: {error}");
            }
            let expected = expected.get_or_insert_with(|| rows.blocks.clone());
            for (a, b) in rows.blocks.iter().zip(expected) {
                assert_eq!(a.quants, b.quants);
                assert_eq!(
                    (a.scale.to_bits(), a.minus_sum.to_bits()),
                    (b.scale.to_bits(), b.minus_sum.to_bits())
                );
                assert_eq!((a.sum, a.first), (b.sum, b.first));
            }
        }
    }

    #[test]
    fn what_is_not_finite_becomes_nan_and_what_is_tiny_nothing() {
        for cpu in all_ways() {
            for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = numbers(64, 4);
                x[40] = odd;
                let rows = Rows::quantize(&cpu, &x, 64);
                assert!(rows.row(0)[0].scale.is_finite());
                assert!(rows.row(0)[1].scale.is_nan() && rows.row(0)[1].minus_sum.is_nan());
            }
            for tiny in [0.0, -0.0, f32::MIN_POSITIVE / 8.0, 1e-31] {
                let rows = Rows::quantize(&cpu, &[tiny; 32], 32);
                assert_eq!((rows.row(0)[0].scale, rows.row(0)[0].sum), (0.0, 0));
            }
            for large in [1e-30, f32::MAX] {
                let rows = Rows::quantize(&cpu, &[large; 32], 32);
                assert_eq!(rows.row(0)[0].quants, [[127; 4]; 8]);
            }
        }
    }
}
