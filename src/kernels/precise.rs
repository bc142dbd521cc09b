//! exp, logarithm, sine and cosine in f64, for tables that are rounded to f32 afterwards.
//!
//! Our own, of additions, multiplications and divisions only, so that every system makes the same tables. The errors, a
//! few units of 1e-16, disappear in that rounding.

use std::f64::consts::{LN_2, PI, SQRT_2};

/// e^x for |x| below 700.
#[must_use]
pub fn exp(x: f64) -> f64 {
    let n = (x / LN_2).round();
    let r = x - n * LN_2;
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..20 {
        term *= r / f64::from(k);
        sum += term;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 1023 by the bound on x")]
    let power = f64::from_bits(((n as i64 + 1023) as u64) << 52);
    sum * power
}

/// The natural logarithm of a positive normal number: ln(m · 2^e) = e ln 2 + 2 artanh((m - 1) / (m + 1)).
#[must_use]
pub fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    #[expect(clippy::cast_possible_wrap, reason = "eleven bits")]
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let mut term = z;
    let mut sum = z;
    for k in 1..20 {
        term *= z * z;
        sum += term / f64::from(2 * k + 1);
    }
    #[expect(clippy::cast_precision_loss, reason = "eleven bits")]
    let whole = exponent as f64;
    whole * LN_2 + 2.0 * sum
}

/// `base` to the power of `exponent`, for a positive base.
#[must_use]
pub fn pow(base: f64, exponent: f64) -> f64 {
    exp(exponent * ln(base))
}

/// Sine and cosine of an angle below some millions, as positions times frequencies are.
#[must_use]
pub fn sin_cos(x: f64) -> (f64, f64) {
    // π/2 in two parts: the first has 33 bits, so that its product with a quadrant's number is exact.
    const HALF_PI_HIGH: f64 = 1.570_796_326_734_125_6;
    const HALF_PI_LOW: f64 = 6.077_100_506_506_192e-11;
    let quadrant = (x * (2.0 / PI)).round();
    let r = (x - quadrant * HALF_PI_HIGH) - quadrant * HALF_PI_LOW;
    let square = r * r;
    let (mut sine, mut cosine) = (0.0, 0.0);
    for k in (0..9).rev() {
        let k = f64::from(2 * k);
        sine = 1.0 - square / ((k + 2.0) * (k + 3.0)) * sine;
        cosine = 1.0 - square / ((k + 1.0) * (k + 2.0)) * cosine;
    }
    sine *= r;
    #[expect(clippy::cast_possible_truncation, reason = "below 2^53")]
    match (quadrant as i64).rem_euclid(4) {
        0 => (sine, cosine),
        1 => (cosine, -sine),
        2 => (-sine, -cosine),
        _ => (-cosine, sine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_to_the_c_library() {
        for i in 1..20_000 {
            let x = f64::from(i) * 0.37;
            assert!((ln(x) - x.ln()).abs() < 1e-14 * x.ln().abs().max(1.0), "ln {x}");
            assert!((exp(-x / 20.0) / (-x / 20.0).exp() - 1.0).abs() < 1e-13, "exp {x}");
            let (sine, cosine) = sin_cos(x * 53.0);
            assert!(
                (sine - (x * 53.0).sin()).abs() < 1e-11 && (cosine - (x * 53.0).cos()).abs() < 1e-11,
                "{x}"
            );
            assert!((pow(10_000.0, -x / 7400.0) / 10_000f64.powf(-x / 7400.0) - 1.0).abs() < 1e-14);
        }
    }
}
