//! Rotary position embedding (Su et al. 2021) applied to heads.

use super::precise;

/// Which elements of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// Element `i` with `i + dim / 2` (GPT-NeoX, Llama in HF's layout).
    Halves,
    /// Element `2 i` with `2 i + 1` (GPT-J).
    Neighbours,
}

/// Frequencies of one kind of layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    /// Angle a position, one for each pair. The first `2 * frequencies.len()` elements of a head turn.
    pub frequencies: Vec<f32>,
    pub pairing: Pairing,
    /// Scales the result, as YaRN and LongRoPE do to sharpen attention.
    pub factor: f32,
}

impl Rotary {
    /// Values that [`Rotary::angles`] writes: a cosine and a sine for each pair.
    #[must_use]
    pub fn width(&self) -> usize {
        self.frequencies.len() * 2
    }

    /// The cosines, then the sines, at a position. The angle is rounded to `f32` as HF does before its sine is taken,
    /// which matters at positions beyond a thousand.
    ///
    /// # Panics
    /// When `out` is not [`Rotary::width`] long.
    pub fn angles(&self, position: usize, out: &mut [f32]) {
        let (cosines, sines) = out.split_at_mut(self.frequencies.len());
        #[expect(clippy::cast_precision_loss, reason = "positions below 2^24")]
        let position = position as f32;
        #[expect(clippy::cast_possible_truncation, reason = "a table of f32")]
        for ((frequency, cosine), sine) in self.frequencies.iter().zip(cosines).zip(sines) {
            let (s, c) = precise::sin_cos(f64::from(position * frequency));
            *cosine = c as f32 * self.factor;
            *sine = s as f32 * self.factor;
        }
    }

    /// Turns one head in place by the [`Rotary::angles`] of its position.
    ///
    /// # Panics
    /// When the head is shorter than the pairs.
    pub fn turn(&self, angles: &[f32], head: &mut [f32]) {
        let half = self.frequencies.len();
        let (cosines, sines) = angles.split_at(half);
        let turned =
            |a: f32, b: f32, i: usize| (a * cosines[i] - b * sines[i], b * cosines[i] + a * sines[i]);
        match self.pairing {
            Pairing::Halves => {
                let (first, second) = head[..2 * half].split_at_mut(half);
                for (i, (a, b)) in first.iter_mut().zip(second).enumerate() {
                    (*a, *b) = turned(*a, *b, i);
                }
            }
            Pairing::Neighbours => {
                for (i, pair) in head[..2 * half].chunks_exact_mut(2).enumerate() {
                    (pair[0], pair[1]) = turned(pair[0], pair[1], i);
                }
            }
        }
    }
}
