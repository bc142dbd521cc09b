//! Weights out of their tensors' names, as `weights` in tests/fixtures/golden.py makes them.

/// FNV-1a of the name seeds splitmix64; 24 bits an element, so that every value is exact in f32.
///
/// Matrices within 1/4 of 0, norms' weights within 1/4 of 1, other vectors within 1/4 of 0.
pub(crate) fn weights(name: &str, shape: &[usize]) -> Vec<f32> {
    let mut seed = 0xCBF2_9CE4_8422_2325u64;
    for byte in name.bytes() {
        seed = (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    }
    let lower = name.to_lowercase();
    let norm = lower.ends_with(".weight")
        && (lower.contains("norm") || lower.contains(".ln_") || lower.contains("emb_ln"));
    let centre = if norm { 1.0 } else { 0.0 };
    let value = |i: usize| {
        let mut x = seed.wrapping_add((i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
        ((x >> 40) as i64 - (1 << 23)) as f32 / (1u64 << 23) as f32 * 0.25 + centre
    };
    (0..shape.iter().product()).map(value).collect()
}
