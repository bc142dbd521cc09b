//! ERNIE 4.5, dense (`modeling_ernie4_5.py`).

use super::base::Base;
use crate::{
    kernels::rotary::Pairing,
    model::{
        config::{Config, ConfigError},
        description::Description,
    },
};

pub(super) fn describe(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let base = Base {
        tied: true,
        norm_eps: 1e-5,
        theta: 500_000.0,
        pairing: Pairing::Neighbours,
        ..Base::new(config, context_length)
    };
    let mut description = base.describe()?;
    let bias = config.flag_or("use_bias", false)?;
    description.each(|_, layer| {
        layer.bias_projections(bias);
        layer.attention.output.bias = bias;
        layer.bias_feed_forward(bias);
    });
    Ok(description)
}
