//! OLMo 1 to 3 (`modeling_olmo.py`, `modeling_olmo2.py`, `modeling_olmo3.py`).

use super::{
    base::{Base, layer_name, layer_types, slide},
    qwen3::norm_heads,
};
use crate::{
    kernels::norm::NormKind,
    model::{
        config::{Config, ConfigError},
        description::{Description, HeadNorm, Norm},
    },
};

/// Norms without parameters.
pub(super) fn one(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let mut description = Base::new(config, context_length).describe()?;
    let norm = Norm { name: None, kind: NormKind::Layer, eps: 1e-5, bias: false, unit_offset: false };
    let bias = config.flag_or("attention_bias", false)?;
    let clip = Some(config.number_or("clip_qkv", 0.0)?).filter(|clip| *clip > 0.0);
    description.norm = Some(norm.clone());
    description.each(|_, layer| {
        layer.before_attention = Some(norm.clone());
        layer.before_feed_forward = Some(norm.clone());
        layer.bias_projections(bias);
        layer.attention.output.bias = bias;
        layer.attention.clip = clip;
    });
    Ok(description)
}

/// Norms after attention and feed-forward, and of all queries and all keys.
pub(super) fn two(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let base = Base { norm_eps: 1e-5, ..Base::new(config, context_length) };
    let mut description = base.describe()?;
    norm_after(&base, &mut description)?;
    norm_heads(&base, &mut description, HeadNorm::Whole)?;
    let bias = config.flag_or("attention_bias", false)?;
    description.each(|_, layer| {
        layer.bias_projections(bias);
        layer.attention.output.bias = bias;
    });
    Ok(description)
}

/// Three layers of four slide.
pub(super) fn three(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let mut description = two(config, context_length)?;
    let sliding = |i: usize| !(i + 1).is_multiple_of(4);
    slide(config, &mut description, sliding)?;
    let base = Base { norm_eps: 1e-5, ..Base::new(config, context_length) };
    let local = if config.has("rope_parameters") {
        base.table(Some("sliding_attention"))?
    } else {
        // Version 4: scaling is for the layers that see everything.
        let theta = config.find_number("rope_theta")?.unwrap_or(base.theta);
        crate::model::rope::Rope { theta, ..base.rope()? }.table(config, &Config::default())?
    };
    description.rotary = vec![base.table(Some("full_attention"))?, local];
    let types = layer_types(config, description.layers.len(), sliding)?;
    description.each(|i, layer| layer.attention.rotary = Some(usize::from(types[i])));
    Ok(description)
}

/// Moves the norms behind attention and feed-forward.
pub(super) fn norm_after(base: &Base<'_>, description: &mut Description) -> Result<(), ConfigError> {
    let norm = base.norm("")?;
    description.each(|i, layer| {
        let name = layer_name("model.", "layers.", i);
        let named = |part: &str| Some(Norm { name: Some(format!("{name}{part}_layernorm")), ..norm.clone() });
        layer.before_attention = None;
        layer.before_feed_forward = None;
        layer.after_attention = named("post_attention");
        layer.after_feed_forward = named("post_feedforward");
    });
    Ok(())
}
