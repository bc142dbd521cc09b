//! Falcon: three generations under one name (`modeling_falcon.py`).

use super::base::{Base, layer_name, plain_mlp, slopes};
use crate::{
    kernels::norm::NormKind,
    model::{
        config::{Config, ConfigError},
        description::{Description, FusedOrder, Linear, Projections},
    },
};

pub(super) fn describe(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let alibi = config.flag_or("alibi", false)?;
    let base = Base {
        prefix: "transformer.",
        layers: "h.",
        tokens: "word_embeddings",
        final_norm: "ln_f",
        tied: true,
        norm: NormKind::Layer,
        norm_bias: true,
        norm_eps: 1e-5,
        activation: "gelu",
        rotary: !alibi,
        ..Base::new(config, context_length)
    };
    let mut description = base.describe()?;
    let new = config.flag_or("new_decoder_architecture", false)?;
    let multi_query = config.flag_or("multi_query", true)?;
    let parallel = new || config.flag_or("parallel_attn", true)?;
    let two_norms = new && config.find_size(&["num_ln_in_parallel_attn"])?.unwrap_or(2) == 2;
    let heads = base.heads()?;
    let kv_heads = match (new, multi_query) {
        (true, _) => config.find_size(&["num_kv_heads", "n_head_kv"])?.unwrap_or(heads),
        (false, true) => 1,
        (false, false) => heads,
    };
    if kv_heads == 0 || heads % kv_heads != 0 {
        return Err(ConfigError::Unsupported(format!("{heads} heads with {kv_heads} of keys and values")));
    }
    let bias = config.flag_or("bias", false)?;
    let inner = config.find_size(&["ffn_hidden_size"])?.unwrap_or(4 * description.hidden);
    for (i, layer) in description.layers.iter_mut().enumerate() {
        let name = layer_name("transformer.", "h.", i);
        let linear = Linear::new(format!("{name}self_attention.query_key_value"), bias);
        layer.attention.kv_heads = kv_heads;
        layer.attention.projections = Projections::Fused { linear, order: FusedOrder::Groups };
        layer.attention.output = Linear::new(format!("{name}self_attention.dense"), bias);
        layer.feed_forward = plain_mlp(&name, ["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"], inner, bias);
        layer.parallel = parallel;
        if alibi {
            // Scores are scaled after the bias is added.
            let scale = layer.attention.scale;
            layer.attention.slopes = Some(slopes(heads).iter().map(|slope| slope * scale).collect());
        }
        if two_norms {
            layer.before_attention = Some(base.norm(format!("{name}ln_attn"))?);
            layer.before_feed_forward = Some(base.norm(format!("{name}ln_mlp"))?);
        } else if parallel {
            layer.before_feed_forward = None;
        }
    }
    Ok(description)
}
