//! GLM 4 (`modeling_glm4.py`).

use super::base::{Base, layer_name};
use crate::{
    kernels::rotary::Pairing,
    model::{
        config::{Config, ConfigError},
        description::{Description, FeedForward, Linear, Norm, Up},
    },
};

pub(super) fn describe(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let base = Base {
        pairing: Pairing::Neighbours,
        partial: 0.5,
        norm_eps: 1.5625e-7,
        ..Base::new(config, context_length)
    };
    let mut description = base.describe()?;
    let bias = config.flag_or("attention_bias", false)?;
    let norm = base.norm("")?;
    description.each(|i, layer| {
        let name = layer_name("model.", "layers.", i);
        let named = |part: &str| Some(Norm { name: Some(format!("{name}{part}_layernorm")), ..norm.clone() });
        layer.bias_projections(bias);
        layer.after_attention = named("post_self_attn");
        layer.after_feed_forward = named("post_mlp");
        if let FeedForward::Dense(mlp) = &mut layer.feed_forward {
            mlp.up = Up::FusedGated(Linear::new(format!("{name}mlp.gate_up_proj"), false));
        }
    });
    Ok(description)
}
