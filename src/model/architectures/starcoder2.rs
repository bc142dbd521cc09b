//! StarCoder 2 (`modeling_starcoder2.py`).

use super::base::{Base, layer_name, plain_mlp, slide};
use crate::{
    kernels::norm::NormKind,
    model::{
        config::{Config, ConfigError},
        description::Description,
    },
};

pub(super) fn describe(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let base = Base {
        tied: true,
        norm: NormKind::Layer,
        norm_bias: true,
        norm_eps: 1e-5,
        activation: "gelu_pytorch_tanh",
        ..Base::new(config, context_length)
    };
    let mut description = base.describe()?;
    slide(config, &mut description, |_| true)?;
    let bias = config.flag_or("use_bias", true)?;
    let inner = config.size(&["intermediate_size"])?;
    description.each(|i, layer| {
        let name = layer_name("model.", "layers.", i);
        layer.bias_projections(bias);
        layer.attention.output.bias = bias;
        layer.feed_forward = plain_mlp(&name, ["mlp.c_fc", "mlp.c_proj"], inner, bias);
    });
    Ok(description)
}
