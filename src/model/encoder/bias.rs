//! What is added to the scores of attention by distance.

use super::description::Bias;
use crate::{
    kernels::{attention::DistanceBias, precise},
    model::{builder::Builder, error::LoadError},
};

pub(super) fn build(
    builder: &Builder<'_>,
    bias: &Bias,
    heads: usize,
    longest: usize,
) -> Result<DistanceBias, LoadError> {
    Ok(match bias {
        #[expect(clippy::cast_precision_loss, reason = "distances below 2^24")]
        Bias::Slopes(slopes) => {
            DistanceBias::new(heads, longest, |head, distance| -slopes[head] * distance.unsigned_abs() as f32)
        }
        Bias::Buckets { name, buckets } => {
            let table = builder.tensor(&format!("{name}.weight"), &[*buckets, heads])?.values();
            DistanceBias::new(heads, longest, |head, distance| {
                table[bucket(distance, *buckets) * heads + head]
            })
        }
    })
}

/// Half of the buckets are for keys behind the row; of each half, one half is for single distances and the other for
/// ranges that grow as the logarithm does, up to 128 (Raffel et al. 2020, section 2.1).
fn bucket(distance: isize, buckets: usize) -> usize {
    const FARTHEST: f64 = 128.0;
    let side = buckets / 2;
    let first = if distance > 0 { side } else { 0 };
    let (away, exact) = (distance.unsigned_abs(), side / 2);
    if away < exact {
        return first + away;
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rounded to f32 before it is cut, as `torch.log` of f32 is"
    )]
    let beyond = {
        let part = (precise::ln(away as f64 / exact as f64) as f32)
            / precise::ln(FARTHEST / exact as f64) as f32
            * (side - exact) as f32;
        part as usize
    };
    first + (exact + beyond).min(side - 1)
}
