//! Exponential and logarithm that give the same bits on every system.
//!
//! `f64::exp` and `f64::ln` come from the platform's libm and differ in the last place between systems, enough to turn
//! a draw. These use additions, multiplications and divisions alone, which IEEE 754 rounds in one way only. Both stay
//! within one unit in the last place of a correctly rounded result.

use std::f64::consts::{LOG2_E, SQRT_2};

/// The first 32 bits of ln 2, so that its product with an exponent (11 bits) is exact, and what they leave
/// (Cody and Waite's reduction).
const LN_2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN_2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);

/// 1/n! from n = 2 to 13: what Taylor's series of e^r needs for |r| ≤ ln 2 / 2 (the next term is below 2^-57).
const FACTORIALS: [f64; 12] = [
    1.0 / 2.0,
    1.0 / 6.0,
    1.0 / 24.0,
    1.0 / 120.0,
    1.0 / 720.0,
    1.0 / 5_040.0,
    1.0 / 40_320.0,
    1.0 / 362_880.0,
    1.0 / 3_628_800.0,
    1.0 / 39_916_800.0,
    1.0 / 479_001_600.0,
    1.0 / 6_227_020_800.0,
];

/// 2/(2n+1) from n = 1 to 11: the series of 2·artanh(s) - 2s, divided by s, for |s| ≤ 0.1716.
const ODD: [f64; 11] = [
    2.0 / 3.0,
    2.0 / 5.0,
    2.0 / 7.0,
    2.0 / 9.0,
    2.0 / 11.0,
    2.0 / 13.0,
    2.0 / 15.0,
    2.0 / 17.0,
    2.0 / 19.0,
    2.0 / 21.0,
    2.0 / 23.0,
];

/// e to the power of `x`: infinity above the range of f64, 0 below it.
#[must_use]
pub fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x > 709.79 {
        return f64::INFINITY;
    }
    if x < -745.14 {
        return 0.0;
    }
    // x = k·ln 2 + r, |r| ≤ ln 2 / 2, r known to more bits than one f64 has: `r` and `rest`.
    let k = (x * LOG2_E).round_ties_even();
    let high = x - k * LN_2_HIGH;
    let low = k * LN_2_LOW;
    let r = high - low;
    let rest = (high - r) - low;
    let tail = FACTORIALS.iter().rev().fold(0.0, |sum, term| sum * r + term) * r * r;
    let value = 1.0 + (r + (rest + tail));
    // In two steps: 2^k alone is outside the range of f64 at both ends of it.
    #[expect(clippy::cast_possible_truncation, reason = "|k| is at most 1076")]
    let k = k as i32;
    value * power_of_two(k / 2) * power_of_two(k - k / 2)
}

/// Natural logarithm: negative infinity of 0, not a number below.
#[must_use]
pub fn ln(x: f64) -> f64 {
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x < 0.0 {
        return f64::NAN;
    }
    // A subnormal has no exponent to split off until it is scaled.
    let (x, scaled) = if x < f64::MIN_POSITIVE { (x * power_of_two(54), 54) } else { (x, 0) };
    let bits = x.to_bits();
    let mut k = i32::from((bits >> 52) as u16 & 0x7ff) - 1023 - scaled;
    let mut m = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
    if m > SQRT_2 {
        m *= 0.5;
        k += 1;
    }
    // ln(1 + f) = 2·artanh(s), s = f / (2 + f); and 2s = f - s·f, where f is exact and s is not.
    let f = m - 1.0;
    let s = f / (2.0 + f);
    let square = s * s;
    let tail = ODD.iter().rev().fold(0.0, |sum, term| sum * square + term) * square;
    let k = f64::from(k);
    k * LN_2_HIGH + (f - (s * (f - tail) - k * LN_2_LOW))
}

/// 2^k of a k that is an exponent of a normal f64.
fn power_of_two(k: i32) -> f64 {
    #[expect(clippy::cast_sign_loss, reason = "k is above -1023")]
    let exponent = (k + 1023) as u64;
    f64::from_bits(exponent << 52)
}
