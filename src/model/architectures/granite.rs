//! Granite: Llama with multipliers (`modeling_granite.py`).

use super::llama;
use crate::model::{
    config::{Config, ConfigError},
    description::Description,
};

pub(super) fn describe(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let mut description = llama::describe(config, context_length)?;
    description.embedding.multiplier = config.number_or("embedding_multiplier", 1.0)?;
    description.logit_multiplier = 1.0 / config.number_or("logits_scaling", 1.0)?;
    let residual = config.number_or("residual_multiplier", 1.0)?;
    let scale = config.number_or("attention_multiplier", 1.0)?;
    description.each(|_, layer| {
        layer.residual_multiplier = residual;
        layer.attention.scale = scale;
    });
    Ok(description)
}
