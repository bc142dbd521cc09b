//! gpt-oss: attention sinks and experts with a clamped activation (`modeling_gpt_oss.py`).

use super::base::{Base, layer_name, slide};
use crate::{
    kernels::activation::Activation,
    model::{
        config::{Config, ConfigError},
        description::{Description, ExpertWeights, Experts, FeedForward, Linear},
    },
};

pub(super) fn describe(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let base = Base { norm_eps: 1e-5, theta: 150_000.0, ..Base::new(config, context_length) };
    let mut description = base.describe()?;
    slide(config, &mut description, |i| i % 2 == 0)?;
    let bias = config.flag_or("attention_bias", true)?;
    let count = config.size(&["num_local_experts", "num_experts"])?;
    let top_k = config.size(&["num_experts_per_tok", "experts_per_token"])?;
    let inner = config.size(&["intermediate_size"])?;
    for (key, only) in [("swiglu_alpha", 1.702), ("swiglu_limit", 7.0)] {
        if config.find_number(key)?.is_some_and(|number| number != only) {
            return Err(ConfigError::Unsupported(format!("{key} other than {only}")));
        }
    }
    let quantized = config.has("quantization_config");
    description.each(|i, layer| {
        let name = layer_name("model.", "layers.", i);
        layer.bias_projections(bias);
        layer.attention.output.bias = bias;
        layer.attention.sinks = Some(format!("{name}self_attn.sinks"));
        layer.activation = Activation::GptOss;
        layer.feed_forward = FeedForward::Experts(Experts {
            router: Linear::new(format!("{name}mlp.router"), true),
            weights: ExpertWeights::Stacked {
                name: format!("{name}mlp.experts"),
                count,
                inner,
                outputs_first: quantized,
            },
            top_k,
            renormalise: true,
            shared: None,
        });
    });
    Ok(description)
}
