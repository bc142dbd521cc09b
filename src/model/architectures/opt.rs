//! OPT (`modeling_opt.py`).

use super::base::{Base, layer_name, plain_mlp};
use crate::{
    kernels::norm::NormKind,
    model::{
        config::{Config, ConfigError},
        description::{Description, Linear},
    },
};

pub(super) fn describe(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let base = Base {
        prefix: "model.decoder.",
        final_norm: "final_layer_norm",
        tied: true,
        norm: NormKind::Layer,
        norm_bias: true,
        norm_eps: 1e-5,
        activation: "relu",
        rotary: false,
        ..Base::new(config, context_length)
    };
    let mut description = base.describe()?;
    if config.find_size(&["word_embed_proj_dim"])?.is_some_and(|width| width != description.hidden) {
        return Err(ConfigError::Unsupported("word_embed_proj_dim other than hidden_size".to_owned()));
    }
    if !config.flag_or("do_layer_norm_before", true)? || config.flag_or("_remove_final_layer_norm", false)? {
        return Err(ConfigError::Unsupported("opt with norms after its layers".to_owned()));
    }
    let bias = config.flag_or("enable_bias", true)?;
    let inner = config.size(&["ffn_dim"])?;
    // The first two rows are for padding.
    description.embedding.positions = Some(("model.decoder.embed_positions".to_owned(), 2));
    for (i, layer) in description.layers.iter_mut().enumerate() {
        let name = layer_name("model.decoder.", "layers.", i);
        layer.before_attention = Some(base.norm(format!("{name}self_attn_layer_norm"))?);
        layer.before_feed_forward = Some(base.norm(format!("{name}final_layer_norm"))?);
        layer.bias_projections(bias);
        layer.attention.output = Linear::new(format!("{name}self_attn.out_proj"), bias);
        layer.feed_forward = plain_mlp(&name, ["fc1", "fc2"], inner, bias);
    }
    Ok(description)
}
