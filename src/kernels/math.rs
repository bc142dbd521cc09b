//! exp, tanh and erfc of sixteen lanes: our own, since the C library's differ between systems.

use std::f32::consts::LOG2_E;

use super::simd::Simd;

/// ln 2 in two parts; the upper has few enough bits that its product with a small whole number is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Adding and subtracting 1.5 · 2^23 rounds to a whole number, ties to even.
const ROUND: f32 = 12_582_912.0;
/// 1/k! for k from 7 down to 0: beyond r^7 the series of exp adds less than 6e-9 for |r| ≤ ln 2 / 2.
const EXP: [f32; 8] = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
/// tanh x = x · P(x²) by its Taylor series, highest power first; used below 1/4.
const TANH: [f32; 5] = [62.0 / 2835.0, -17.0 / 315.0, 2.0 / 15.0, -1.0 / 3.0, 1.0];

/// A polynomial by Horner's rule, highest power first.
#[inline(always)]
fn polynomial<S: Simd>(s: S, coefficients: &[f32], x: S::Lanes) -> S::Lanes {
    let mut sum = s.splat(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        sum = s.mul_add(sum, x, s.splat(coefficient));
    }
    sum
}

#[inline(always)]
fn round<S: Simd>(s: S, x: S::Lanes) -> S::Lanes {
    s.sub(s.add(x, s.splat(ROUND)), s.splat(ROUND))
}

/// e^x within 1.5 units in the last place; 0 below -104, infinite above 89, NaN of NaN.
#[inline(always)]
pub(super) fn exp<S: Simd>(s: S, x: S::Lanes) -> S::Lanes {
    // The bounds are first operands, so that a NaN in `x` comes through.
    let x = s.min(s.splat(89.0), s.max(s.splat(-105.0), x));
    let n = round(s, s.mul(x, s.splat(LOG2_E)));
    let r = s.mul_add(n, s.splat(-LN2_HIGH), x);
    let r = s.mul_add(n, s.splat(-LN2_LOW), r);
    let y = polynomial(s, &EXP, r);
    // Two factors, since 2^n alone may lie beyond the normal numbers.
    let half = round(s, s.mul(n, s.splat(0.5)));
    s.mul(s.mul(y, s.pow2(half)), s.pow2(s.sub(n, half)))
}

/// tanh x, within 3 units in the last place.
#[inline(always)]
pub(super) fn tanh<S: Simd>(s: S, x: S::Lanes) -> S::Lanes {
    let zero = s.splat(0.0);
    let one = s.splat(1.0);
    let negative = s.sub(zero, x);
    let size = s.select_less(x, zero, negative, x);
    let e = exp(s, s.mul(size, s.splat(-2.0)));
    let far = s.div(s.sub(one, e), s.add(one, e));
    let signed = s.select_less(x, zero, s.sub(zero, far), far);
    let near = s.mul(x, polynomial(s, &TANH, s.mul(x, x)));
    s.select_less(size, s.splat(0.25), near, signed)
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(super) fn sigmoid<S: Simd>(s: S, x: S::Lanes) -> S::Lanes {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

/// e^(x²) · erfc(x) = P(1 / (1 + x/2)) for x ≥ 0, highest power first: our own least-squares fit in the Chebyshev basis
/// on [0, 10.6], relative error below 4e-8. Beyond, e^(-x²) is 0.
const ERFC: [f32; 11] = [
    0.033_861_105,
    -0.244_099_45,
    0.724_069_1,
    -1.082_875_7,
    0.786_568_9,
    -0.311_344_9,
    0.308_240_35,
    0.217_593_03,
    0.286_213_7,
    0.281_762_13,
    1.168_231_5e-5,
];

/// The normal distribution function Φ(x) = erfc(-x/√2) / 2.
#[inline(always)]
pub(super) fn normal<S: Simd>(s: S, x: S::Lanes) -> S::Lanes {
    let zero = s.splat(0.0);
    let one = s.splat(1.0);
    let size = s.select_less(x, zero, s.sub(zero, x), x);
    let z = s.mul(size, s.splat(std::f32::consts::FRAC_1_SQRT_2));
    let t = s.div(one, s.mul_add(z, s.splat(0.5), one));
    // x² with its rounding error, which exp would else magnify far out in the tail.
    let square = s.mul(size, size);
    let error = s.mul_add(size, size, s.sub(zero, square));
    let minus_half = s.splat(-0.5);
    let tail = exp(s, s.mul(square, minus_half));
    let tail = s.mul_add(tail, s.mul(error, minus_half), tail);
    let upper = s.mul(s.splat(0.5), s.mul(tail, polynomial(s, &ERFC, t)));
    s.select_less(x, zero, upper, s.sub(one, upper))
}

#[cfg(test)]
mod tests {
    use crate::kernels::{
        isa::{Isa, Kernel},
        simd::{LANES, Simd},
    };

    #[derive(Clone, Copy)]
    enum Function {
        Exp,
        Tanh,
        Sigmoid,
        Normal,
    }

    #[derive(Clone, Copy)]
    struct Apply(Function, [f32; LANES]);

    impl Kernel for Apply {
        type Output = [f32; LANES];

        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> [f32; LANES] {
            let x = s.load(&self.1);
            let y = match self.0 {
                Function::Exp => super::exp(s, x),
                Function::Tanh => super::tanh(s, x),
                Function::Sigmoid => super::sigmoid(s, x),
                Function::Normal => super::normal(s, x),
            };
            let mut out = [0.0; LANES];
            s.store(y, &mut out);
            out
        }
    }

    /// The largest relative error over the numbers, and every instruction set the same bits.
    fn worst(function: Function, numbers: impl Iterator<Item = f32>, exact: impl Fn(f64) -> f64) -> f64 {
        let numbers: Vec<f32> = numbers.collect();
        let mut worst = 0f64;
        for x in numbers.chunks_exact(LANES) {
            let apply = Apply(function, std::array::from_fn(|i| x[i]));
            let scalar = Isa::SCALAR.run(apply);
            for isa in Isa::available() {
                assert_eq!(
                    isa.run(apply).map(f32::to_bits),
                    scalar.map(f32::to_bits),
                    "{} {x:?}",
                    isa.name()
                );
            }
            for (&x, y) in x.iter().zip(scalar) {
                let exact = exact(f64::from(x));
                worst = worst.max(((f64::from(y) - exact) / exact).abs());
            }
        }
        worst
    }

    fn between(low: f32, high: f32) -> impl Iterator<Item = f32> {
        (0..16_000).map(move |i| low + (high - low) * (i as f32 + 0.5) / 16_000.0)
    }

    #[test]
    fn close_to_f64() {
        let found = [
            worst(Function::Exp, between(-87.0, 88.0), f64::exp),
            worst(Function::Tanh, between(-10.0, 10.0), f64::tanh),
            worst(Function::Tanh, between(-0.3, 0.3), f64::tanh),
            worst(Function::Sigmoid, between(-60.0, 60.0), |x| 1.0 / (1.0 + (-x).exp())),
        ];
        assert!(found.iter().all(|error| *error < 3e-7), "{found:?}");
    }

    /// Φ from an integral of the density by Simpson's rule.
    #[test]
    fn normal_distribution() {
        let exact = |x: f64| {
            let steps = 2000;
            let width = 12.0 / f64::from(steps);
            let density = |t: f64| (-(x - t) * (x - t) / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let simpson = |i: i32| if i == 0 { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
            (0..steps).map(|i| simpson(i) * density(f64::from(i) * width)).sum::<f64>() * width / 3.0
        };
        let error = worst(Function::Normal, between(-5.0, 5.0).step_by(67), exact);
        assert!(error < 1e-6, "{error}");
    }

    #[test]
    fn ends_of_the_line() {
        let x = [f32::NEG_INFINITY, -200.0, -104.0, -0.0, 0.0, 88.7, 89.0, 200.0, f32::INFINITY, f32::NAN];
        let x: [f32; LANES] = std::array::from_fn(|i| x.get(i).copied().unwrap_or(1.0));
        for isa in Isa::available() {
            let exp = isa.run(Apply(Function::Exp, x));
            assert_eq!(&exp[..5], &[0.0, 0.0, exp[2], 1.0, 1.0], "{}", isa.name());
            assert!(exp[2] < 1e-44 && exp[5] > 3.0e38 && exp[6..9].iter().all(|y| *y == f32::INFINITY));
            assert!(exp[9].is_nan());
            let tanh = isa.run(Apply(Function::Tanh, x));
            assert_eq!((tanh[0], tanh[1], tanh[3], tanh[8]), (-1.0, -1.0, 0.0, 1.0));
            assert!(tanh[9].is_nan());
        }
    }
}
