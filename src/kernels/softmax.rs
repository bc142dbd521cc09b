//! Softmax, and the soft cap of logits.

use super::{
    isa::Kernel,
    math,
    simd::{LANES, Simd},
};

/// Replaces `x` by e^(x - m) for its maximum m, and returns m and the sum. Sums run in 16 lanes by index.
pub(super) struct Exponentials<'a> {
    pub(super) x: &'a mut [f32],
    /// A logit beside those of `x`, which takes part in the maximum and the sum.
    pub(super) sink: Option<f32>,
}

impl Kernel for Exponentials<'_> {
    /// The sum, the sink's part included.
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let largest = largest(s, self.x, self.sink.unwrap_or(f32::NEG_INFINITY));
        let shift = s.splat(largest);
        let mut sum = s.splat(0.0);
        let (whole, rest) = self.x.as_chunks_mut::<LANES>();
        for x in whole {
            let e = math::exp(s, s.sub(s.load(x), shift));
            s.store(e, x);
            sum = s.add(sum, e);
        }
        if !rest.is_empty() {
            s.store_part(math::exp(s, s.sub(s.load_part(rest), shift)), rest);
            // Read back, since lanes beyond the end hold no part of the sum.
            sum = s.add(sum, s.load_part(rest));
        }
        let sum = s.sum(sum);
        match self.sink {
            None => sum,
            Some(sink) => sum + s.sum(math::exp(s, s.sub(s.splat(sink), shift))) / 16.0,
        }
    }
}

#[inline(always)]
fn largest<S: Simd>(s: S, x: &[f32], at_least: f32) -> f32 {
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut largest = s.splat(at_least);
    for x in whole {
        largest = s.max(largest, s.load(x));
    }
    let mut largest = s.largest(largest);
    for &x in rest {
        largest = if largest > x { largest } else { x };
    }
    largest
}

/// cap · tanh(x / cap), as Gemma 2 bounds its logits.
pub struct SoftCap<'a> {
    pub x: &'a mut [f32],
    pub cap: f32,
}

impl Kernel for SoftCap<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let cap = s.splat(self.cap);
        for x in self.x.chunks_mut(LANES) {
            let y = s.mul(cap, math::tanh(s, s.div(s.load_part(x), cap)));
            s.store_part(y, x);
        }
    }
}

/// Softmax over a whole row, as routers of experts need it.
pub struct Softmax<'a>(pub &'a mut [f32]);

impl Kernel for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let sum = Exponentials { x: &mut *self.0, sink: None }.run(s);
        for x in self.0.iter_mut() {
            *x /= sum;
        }
    }
}
