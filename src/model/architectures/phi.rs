//! Phi 1 to 2 (`modeling_phi.py`).

use super::base::{Base, layer_name, plain_mlp};
use crate::{
    kernels::norm::NormKind,
    model::{
        config::{Config, ConfigError},
        description::Description,
    },
};

pub(super) fn describe(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    if config.flag_or("qk_layernorm", false)? {
        return Err(ConfigError::Unsupported("qk_layernorm of phi".to_owned()));
    }
    let base = Base {
        final_norm: "final_layernorm",
        norm: NormKind::Layer,
        norm_bias: true,
        norm_eps: 1e-5,
        activation: "gelu_new",
        partial: 0.5,
        ..Base::new(config, context_length)
    };
    let mut description = base.describe()?;
    let inner = config.find_size(&["intermediate_size"])?.unwrap_or(4 * description.hidden);
    if let Some(head) = &mut description.head {
        head.bias = true;
    }
    description.each(|i, layer| {
        let name = layer_name("model.", "layers.", i);
        layer.bias_projections(true);
        layer.attention.output.name = format!("{name}self_attn.dense");
        layer.attention.output.bias = true;
        layer.parallel = true;
        layer.before_feed_forward = None;
        layer.feed_forward = plain_mlp(&name, ["mlp.fc1", "mlp.fc2"], inner, true);
    });
    Ok(description)
}
