use sconce::engine::math::{exp, ln};

use crate::dice::Dice;

/// Representable numbers between the two.
fn distance(a: f64, b: f64) -> u64 {
    a.to_bits().abs_diff(b.to_bits())
}

#[test]
fn exp_is_within_two_places_of_the_systems() {
    let mut dice = Dice(1);
    let sweep = (-74_600..71_000).map(|step| f64::from(step) / 100.0);
    let near_zero = (0..2_000).map(|step| f64::from(step - 1_000) * 1e-12);
    let random: Vec<f64> = (0..400_000).map(|_| dice.fraction() * 1_450.0 - 744.0).collect();
    let small: Vec<f64> = (0..400_000).map(|_| dice.fraction() * -40.0).collect();
    let worst = sweep.chain(near_zero).chain(random).chain(small).map(|x| distance(exp(x), x.exp())).max();
    assert!(worst.unwrap() <= 1, "{worst:?} units in the last place");
}

#[test]
fn ln_is_within_two_places_of_the_systems() {
    let mut dice = Dice(2);
    let anywhere: Vec<f64> =
        (0..400_000).map(|_| f64::from_bits(dice.next() >> 1)).filter(|x| x.is_finite()).collect();
    let near_one: Vec<f64> = (0..400_000).map(|_| 0.5 + dice.fraction() * 1.5).collect();
    let sums: Vec<f64> = (0..400_000).map(|_| 1.0 + dice.fraction() * 200_000.0).collect();
    let worst =
        anywhere.into_iter().chain(near_one).chain(sums).map(|x| distance(ln(x), x.ln())).max().unwrap();
    assert!(worst <= 2, "{worst} units in the last place");
}

#[test]
fn both_are_right_at_the_borders() {
    assert_eq!(exp(0.0), 1.0);
    assert_eq!(exp(f64::NEG_INFINITY), 0.0);
    assert_eq!(exp(-746.0), 0.0);
    assert_eq!(exp(710.0), f64::INFINITY);
    assert_eq!(exp(f64::INFINITY), f64::INFINITY);
    assert!(exp(f64::NAN).is_nan());
    assert_eq!(ln(1.0), 0.0);
    assert_eq!(ln(0.0), f64::NEG_INFINITY);
    assert_eq!(ln(f64::INFINITY), f64::INFINITY);
    assert!(ln(-1.0).is_nan() && ln(f64::NAN).is_nan());
    // Subnormal on either side.
    assert!(distance(exp(-745.0), (-745.0_f64).exp()) <= 1);
    assert!(distance(ln(5e-324), 5e-324_f64.ln()) <= 1);
}
