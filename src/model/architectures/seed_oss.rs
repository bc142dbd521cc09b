//! Seed-OSS: Llama with biases of its own choice (`modeling_seed_oss.py`).

use super::base::Base;
use crate::model::{
    config::{Config, ConfigError},
    description::Description,
};

pub(super) fn describe(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let mut description = Base::new(config, context_length).describe()?;
    let attention = config.flag_or("attention_bias", true)?;
    let output = config.flag_or("attention_out_bias", false)?;
    let mlp = config.flag_or("mlp_bias", false)?;
    description.each(|_, layer| {
        layer.bias_projections(attention);
        layer.attention.output.bias = output;
        layer.bias_feed_forward(mlp);
    });
    Ok(description)
}
