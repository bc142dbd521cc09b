//! Log-probabilities of raw logits.

use super::{
    math::{exp, ln},
    sampling::Logprob,
};

/// The row is a distribution: no logit is not a number, and the highest is finite.
#[must_use]
pub fn is_finite(row: &[f32]) -> bool {
    !row.iter().any(|logit| logit.is_nan()) && highest(row).is_finite()
}

/// The logprob of `id` in a row of logits and those of the `top` likeliest tokens (the lower id first of equals):
/// log-softmax in f64, summed in token order.
#[must_use]
pub fn logprob(row: &[f32], id: u32, top: usize) -> Logprob {
    let highest = highest(row);
    let relative = |logit: f32| f64::from(logit) - f64::from(highest);
    let normaliser = ln(row.iter().map(|&logit| exp(relative(logit))).sum());
    let value =
        |id: u32| row.get(id as usize).map_or(f64::NEG_INFINITY, |&logit| relative(logit) - normaliser);
    let top = likeliest(row, top).into_iter().map(|id| (id, value(id))).collect();
    Logprob { value: value(id), top }
}

fn highest(row: &[f32]) -> f32 {
    row.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// The ids of the `n` highest logits, highest first, the lower id first of equals.
fn likeliest(row: &[f32], n: usize) -> Vec<u32> {
    let n = n.min(row.len());
    if n == 0 {
        return Vec::new();
    }
    // Adding 0 makes a negative zero equal to zero in the total order too.
    let logit = |id: u32| row[id as usize] + 0.0;
    let order = |a: &u32, b: &u32| logit(*b).total_cmp(&logit(*a)).then(a.cmp(b));
    let mut ids: Vec<u32> = (0u32..).take(row.len()).collect();
    ids.select_nth_unstable_by(n - 1, order);
    ids.truncate(n);
    ids.sort_unstable_by(order);
    ids
}
