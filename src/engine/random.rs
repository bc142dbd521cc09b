//! Random numbers that are a function of what they are for, not of what was drawn before.
//!
//! A generator with a state would make an answer depend on how many numbers its neighbours took. Philox4x32-10 has none:
//! it turns a counter and a key into 128 bits (J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy
//! as 1, 2, 3", SC11; doi 10.1145/2063384.2063405).

const ROUNDS: usize = 10;
const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
/// Added to the key after each round: the golden ratio and √3 - 1, as fractions of 2^32.
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

#[must_use]
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let (low0, high0) = multiply(MULTIPLIERS[0], counter[0]);
        let (low1, high1) = multiply(MULTIPLIERS[1], counter[2]);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// A number in [0, 1), a multiple of 2^-53: the one for this place of this choice of a request with this seed.
#[must_use]
pub fn uniform(seed: u64, choice: u32, position: u64) -> f64 {
    let [p0, p1] = halves(position);
    let [low, high, ..] = philox4x32([p0, p1, choice, 0], halves(seed));
    let bits = u64::from(high) << 32 | u64::from(low);
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let numerator = (bits >> 11) as f64;
    numerator / (1u64 << 53) as f64
}

/// Low word, high word.
#[expect(clippy::cast_possible_truncation, reason = "the low word is what is wanted")]
fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// The product's low word and high word.
fn multiply(a: u32, b: u32) -> (u32, u32) {
    let [low, high] = halves(u64::from(a) * u64::from(b));
    (low, high)
}
