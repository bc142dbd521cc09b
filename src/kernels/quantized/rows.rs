//! Rows of activations as small whole numbers.

#[cfg(target_arch = "x86_64")]
use crate::kernels::matrix_unit::SIDE;
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

impl Block {
    const NONE: Self = Self { quants: [[0; 4]; 8], scale: 0.0, minus_sum: 0.0, sum: 0, first: 0 };
}

/// A block of sixteen rows, as the matrix unit takes them.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Tile {
    pub(super) quants: [[i8; BLOCK]; SIDE],
    pub(super) scales: [f32; SIDE],
    pub(super) minus_sums: [f32; SIDE],
}

/// From so many rows on the matrix unit is faster than the lanes: measured with Q4_K, and of Q8_0 between this and its double.
#[cfg(target_arch = "x86_64")]
const LEAST: usize = 8;

/// Rows of `k` elements, quantized.
pub(in crate::kernels) struct Rows {
    k: usize,
    count: usize,
    /// `[count][k / 32]`, where the lanes multiply.
    blocks: Vec<Block>,
    /// `[count / 16][k / 32]`, where the matrix unit does; rows that are not there are zeros.
    #[cfg(target_arch = "x86_64")]
    tiles: Vec<Tile>,
}

impl Rows {
    /// Quantizes `x` [m, k].
    ///
    /// # Panics
    /// When `k` is no multiple of 32.
    pub(in crate::kernels) fn quantize(cpu: &Cpu, x: &[f32], k: usize) -> Self {
        assert!(k.is_multiple_of(BLOCK), "whole blocks");
        let count = x.len() / k;
        #[cfg(target_arch = "x86_64")]
        if count >= LEAST && cpu.isa.matrix_unit().is_some() {
            return Self { k, count, blocks: Vec::new(), tiles: tiles(cpu, x, k) };
        }
        Self {
            k,
            count,
            blocks: Self::blocks(cpu, x),
            #[cfg(target_arch = "x86_64")]
            tiles: Vec::new(),
        }
    }

    fn blocks(cpu: &Cpu, x: &[f32]) -> Vec<Block> {
        let mut blocks = vec![Block::NONE; x.len() / BLOCK];
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
        blocks
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The rows as the matrix unit takes them, and how many there are, where that is to multiply them.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn tiles(&self) -> Option<(&[Tile], usize)> {
        (!self.tiles.is_empty()).then_some((&self.tiles, self.count))
    }

    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &[Block] {
        let blocks = self.k / BLOCK;
        &self.blocks[row * blocks..(row + 1) * blocks]
    }

    /// The quants of a block, its scale, and that negated times their sum.
    #[cfg(test)]
    fn block(&self, row: usize, block: usize) -> ([i8; BLOCK], f32, f32) {
        #[cfg(target_arch = "x86_64")]
        if let Some((tiles, _)) = self.tiles() {
            let (tile, row) = (&tiles[row / SIDE * (self.k / BLOCK) + block], row % SIDE);
            return (tile.quants[row], tile.scales[row], tile.minus_sums[row]);
        }
        let block = self.row(row)[block];
        let sum = |quants: &[[i8; 4]]| quants.as_flattened().iter().map(|quant| i32::from(*quant)).sum();
        assert_eq!((block.first, block.sum), (sum(&block.quants[..4]), sum(&block.quants)));
        (std::array::from_fn(|i| block.quants[i / 4][i % 4]), block.scale, block.minus_sum)
    }

    /// What the quantized element stands for.
    #[cfg(test)]
    pub(super) fn value(&self, row: usize, i: usize) -> f64 {
        let (quants, scale, _) = self.block(row, i / BLOCK);
        f64::from(scale) * f64::from(quants[i % BLOCK])
    }
}

/// The rows as the matrix unit takes them.
#[cfg(target_arch = "x86_64")]
fn tiles(cpu: &Cpu, x: &[f32], k: usize) -> Vec<Tile> {
    const NONE: Tile = Tile { quants: [[0; BLOCK]; SIDE], scales: [0.0; SIDE], minus_sums: [0.0; SIDE] };
    /// Blocks of a row at a time.
    const STRETCH: usize = 32;
    let blocks = k / BLOCK;
    let mut tiles = vec![NONE; (x.len() / k).div_ceil(SIDE) * blocks];
    let split = Split::new(&mut tiles);
    cpu.pool.run((x.len() / k).div_ceil(SIDE), &|task| {
        #[expect(unsafe_code, reason = "tiles lent to several threads")]
        // SAFETY: each row of tiles belongs to one task.
        let tiles = unsafe { split.part(task * blocks..(task + 1) * blocks) };
        let mut stretch = [Block::NONE; STRETCH];
        for (r, x) in x[task * SIDE * k..].chunks(k).take(SIDE).enumerate() {
            for (x, tiles) in x.chunks(STRETCH * BLOCK).zip(tiles.chunks_mut(STRETCH)) {
                let stretch = &mut stretch[..tiles.len()];
                cpu.isa.run(Quantize { x, out: stretch });
                for (block, tile) in stretch.iter().zip(tiles) {
                    tile.quants[r].copy_from_slice(block.quants.as_flattened());
                    (tile.scales[r], tile.minus_sums[r]) = (block.scale, block.minus_sum);
                }
            }
        }
    });
    tiles
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
        type Seen = ([i8; BLOCK], u32, u32);
        let x = numbers(40 * 96, 3);
        let mut expected: Option<Vec<Seen>> = None;
        for cpu in all_ways() {
            // Few enough for the lanes, and so many that the matrix unit takes them where there is one.
            for count in [40, 5] {
                let rows = Rows::quantize(&cpu, &x[..count * 96], 96);
                let mut seen = Vec::new();
                for (i, x) in x[..count * 96].as_chunks::<BLOCK>().0.iter().enumerate() {
                    let (quants, scale, minus_sum) = rows.block(i / 3, i % 3);
                    for (quant, x) in quants.iter().zip(x) {
                        let error = (f64::from(scale) * f64::from(*quant) - f64::from(*x)).abs();
                        assert!(error <= 0.500_01 * f64::from(scale), "{x}: {error}");
                    }
                    let sum: i32 = quants.iter().map(|quant| i32::from(*quant)).sum();
                    assert_eq!(minus_sum, -(scale * sum as f32));
                    seen.push((quants, scale.to_bits(), minus_sum.to_bits()));
                }
                let expected = expected.get_or_insert_with(|| seen.clone());
                assert!(seen == expected[..seen.len()], "{count} rows, {}", cpu.isa.name());
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
                assert_eq!(rows.block(0, 0).0, [127; BLOCK]);
            }
        }
    }
}
