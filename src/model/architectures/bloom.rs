//! BLOOM: ALiBi and a norm of the embeddings (`modeling_bloom.py`).

use super::base::{Base, layer_name, plain_mlp, slopes};
use crate::{
    kernels::norm::NormKind,
    model::{
        config::{Config, ConfigError},
        description::{Description, FusedOrder, Linear, Projections},
    },
};

pub(super) fn describe(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    const OTHER: &str = "apply_residual_connection_post_layernorm";
    if config.flag_or(OTHER, false)? {
        return Err(ConfigError::Unsupported(OTHER.to_owned()));
    }
    let base = Base {
        prefix: "transformer.",
        layers: "h.",
        tokens: "word_embeddings",
        final_norm: "ln_f",
        tied: true,
        norm: NormKind::Layer,
        norm_bias: true,
        norm_eps: 1e-5,
        activation: "gelu_tanh",
        rotary: false,
        ..Base::new(config, context_length)
    };
    let mut description = base.describe()?;
    description.embedding.norm = Some(base.norm("transformer.word_embeddings_layernorm")?);
    let inner = 4 * description.hidden;
    let slopes = slopes(base.heads()?);
    description.each(|i, layer| {
        let name = layer_name("transformer.", "h.", i);
        let linear = Linear::new(format!("{name}self_attention.query_key_value"), true);
        layer.attention.projections = Projections::Fused { linear, order: FusedOrder::Groups };
        layer.attention.output = Linear::new(format!("{name}self_attention.dense"), true);
        layer.attention.slopes = Some(slopes.clone());
        layer.feed_forward = plain_mlp(&name, ["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"], inner, true);
    });
    Ok(description)
}
