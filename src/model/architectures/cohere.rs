//! Command R (`modeling_cohere.py`).

use super::{base::Base, qwen3::norm_heads};
use crate::{
    kernels::{norm::NormKind, rotary::Pairing},
    model::{
        config::{Config, ConfigError},
        description::{Description, HeadNorm},
    },
};

pub(super) fn describe(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let base = Base {
        tied: true,
        norm: NormKind::Layer,
        norm_eps: 1e-5,
        pairing: Pairing::Neighbours,
        ..Base::new(config, context_length)
    };
    let mut description = base.describe()?;
    description.logit_multiplier = config.number_or("logit_scale", 0.0625)?;
    let bias = config.flag_or("attention_bias", false)?;
    description.each(|_, layer| {
        layer.bias_projections(bias);
        layer.attention.output.bias = bias;
        layer.parallel = true;
        layer.before_feed_forward = None;
    });
    if config.flag_or("use_qk_norm", false)? {
        norm_heads(&base, &mut description, HeadNorm::EachHead)?;
    }
    Ok(description)
}
