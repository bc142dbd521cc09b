//! What the tests of this room share: numbers out of nothing, and every way to compute the same.

use super::{cpu::Cpu, isa::Isa, pool::Pool};

/// Numbers within ±1, the same on every run.
pub(super) fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Every instruction set that this CPU has, with 1, 2 and 3 threads; the scalar one comes first.
pub(super) fn all_ways() -> Vec<Cpu> {
    let way = |isa| [1, 2, 3].map(|threads| Cpu { isa, pool: Pool::new(threads) });
    Isa::available().into_iter().flat_map(way).collect()
}

pub(super) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
