//! Deterministic embeddings: a point on the unit sphere for each text, by hash.

use sha2::{Digest, Sha256};

/// A vector of length 1 with `dimensions` components. Equal texts have equal vectors, and a shorter vector points
/// where the longer one's first components do, as with matryoshka embeddings.
pub(super) fn unit_vector(text: &str, dimensions: usize) -> Vec<f32> {
    let seed = Sha256::digest(text.as_bytes());
    let mut vector: Vec<f64> = (0u64..)
        .flat_map(|block| {
            let digest = Sha256::new().chain_update(seed).chain_update(block.to_le_bytes()).finalize();
            let words: [u8; 32] = digest.into();
            words
                .as_chunks::<4>()
                .0
                .iter()
                .map(|word| f64::from(i32::from_le_bytes(*word)))
                .collect::<Vec<_>>()
        })
        .take(dimensions)
        .collect();
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    if length == 0.0 {
        vector[0] = 1.0;
    }
    let scale = if length == 0.0 { 1.0 } else { length.recip() };
    vector.iter().map(|x| (x * scale) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_of_length_one_and_told_apart_by_their_text() {
        for dimensions in [1, 7, 256, 3072] {
            let vector = unit_vector("hello", dimensions);
            assert_eq!(vector.len(), dimensions);
            let length: f32 = vector.iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() < 1e-5, "{length}");
        }
        assert_eq!(unit_vector("hello", 64), unit_vector("hello", 64));
        assert_ne!(unit_vector("hello", 64), unit_vector("hullo", 64));
    }

    #[test]
    fn a_shorter_vector_is_the_longer_one_cut_and_renormalised() {
        let (long, short) = (unit_vector("x", 32), unit_vector("x", 8));
        let norm = long[..8].iter().map(|x| x * x).sum::<f32>().sqrt();
        for (l, s) in long.iter().zip(&short) {
            assert!((l / norm - s).abs() < 1e-5);
        }
    }
}
