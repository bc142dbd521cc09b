//! Phi 3 and 4: Llama with fused projections and LongRoPE (`modeling_phi3.py`).

use super::base::{Base, layer_name, slide};
use crate::model::{
    config::{Config, ConfigError},
    description::{Description, FeedForward, FusedOrder, Linear, Projections, Up},
};

pub(super) fn describe(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let mut description = Base { norm_eps: 1e-5, ..Base::new(config, context_length) }.describe()?;
    slide(config, &mut description, |_| true)?;
    description.each(|i, layer| {
        let name = layer_name("model.", "layers.", i);
        let linear = Linear::new(format!("{name}self_attn.qkv_proj"), false);
        layer.attention.projections = Projections::Fused { linear, order: FusedOrder::Sections };
        if let FeedForward::Dense(mlp) = &mut layer.feed_forward {
            mlp.up = Up::FusedGated(Linear::new(format!("{name}mlp.gate_up_proj"), false));
        }
    });
    Ok(description)
}
