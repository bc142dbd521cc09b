//! Qwen 3, dense and with experts: as Qwen 2 with norms of queries and keys (`modeling_qwen3.py`,
//! `modeling_qwen3_moe.py`).

use super::{base::Base, base::layer_name, qwen2};
use crate::model::{
    config::{Config, ConfigError},
    description::{Description, HeadNorm},
};

pub(super) fn dense(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let base = Base::new(config, context_length);
    let mut description = base.describe()?;
    qwen2::upper_layers_slide(config, &mut description)?;
    let bias = config.flag_or("attention_bias", false)?;
    description.each(|_, layer| {
        layer.bias_projections(bias);
        layer.attention.output.bias = bias;
    });
    norm_heads(&base, &mut description, HeadNorm::Head)?;
    Ok(description)
}

pub(super) fn experts(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let mut description = dense(config, context_length)?;
    qwen2::sparse_layers(config, &mut description, None)?;
    Ok(description)
}

/// Norms of queries and keys under their usual names.
pub(super) fn norm_heads(
    base: &Base<'_>,
    description: &mut Description,
    kind: impl Fn(crate::model::description::Norm) -> HeadNorm,
) -> Result<(), ConfigError> {
    let norm = base.norm("")?;
    description.each(|i, layer| {
        let name = layer_name(base.prefix, base.layers, i);
        let named = |part: &str| {
            let name = Some(format!("{name}self_attn.{part}_norm"));
            Some(kind(crate::model::description::Norm { name, ..norm.clone() }))
        };
        layer.attention.query_norm = named("q");
        layer.attention.key_norm = named("k");
    });
    Ok(())
}
