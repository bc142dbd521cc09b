//! Llama 1 to 3.3 and the many that took its names (`modeling_llama.py`).

use super::base::Base;
use crate::model::{
    config::{Config, ConfigError},
    description::Description,
};

pub(super) fn describe(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let mut description = Base::new(config, context_length).describe()?;
    let (attention, mlp) = (config.flag_or("attention_bias", false)?, config.flag_or("mlp_bias", false)?);
    description.each(|_, layer| {
        layer.bias_projections(attention);
        layer.attention.output.bias = attention;
        layer.bias_feed_forward(mlp);
    });
    Ok(description)
}
