//! Gemma 1 to 3, text only (`modeling_gemma.py`, `modeling_gemma2.py`, `modeling_gemma3.py`).

use super::{
    base::{Base, inverse_root, layer_name, layer_types, slide},
    qwen3::norm_heads,
};
use crate::model::{
    config::{Config, ConfigError},
    description::{Description, HeadNorm},
};

pub(super) fn one(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let mut description = base(config, context_length).describe()?;
    scale_and_offset(&mut description);
    // Early configurations say "gelu" and mean the tanh form; transformers overrules them too.
    if !config.has("hidden_activation") {
        description.each(|_, layer| layer.activation = crate::kernels::activation::Activation::GeluTanh);
    }
    Ok(description)
}

pub(super) fn two(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let base = base(config, context_length);
    let mut description = base.describe()?;
    four_norms(&base, &mut description)?;
    slide(config, &mut description, |i| i % 2 == 0)?;
    scale_and_offset(&mut description);
    Ok(description)
}

pub(super) fn three(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let base = Base { theta: 1e6, ..base(config, context_length) };
    let mut description = base.describe()?;
    four_norms(&base, &mut description)?;
    norm_heads(&base, &mut description, HeadNorm::Head)?;
    let pattern =
        config.find_size(&["sliding_window_pattern", "_sliding_window_pattern"])?.unwrap_or(6).max(1);
    let sliding = |i: usize| !(i + 1).is_multiple_of(pattern);
    slide(config, &mut description, sliding)?;

    let local = if config.has("rope_parameters") {
        base.table(Some("sliding_attention"))?
    } else {
        // Version 4: scaling is for the global layers; the local ones have their own base.
        let theta = config.find_number("rope_local_base_freq")?.unwrap_or(10_000.0);
        crate::model::rope::Rope { theta, ..base.rope()? }.table(config, &Config::default())?
    };
    description.rotary = vec![base.table(Some("full_attention"))?, local];
    let types = layer_types(config, description.layers.len(), sliding)?;
    description.each(|i, layer| layer.attention.rotary = Some(usize::from(types[i])));
    scale_and_offset(&mut description);
    Ok(description)
}

fn base(config: &Config, context_length: usize) -> Base<'_> {
    Base { tied: true, activation: "gelu_pytorch_tanh", ..Base::new(config, context_length) }
}

/// Norms before and after both halves of a layer, and the soft caps, which came with Gemma 2.
fn four_norms(base: &Base<'_>, description: &mut Description) -> Result<(), ConfigError> {
    let norm = base.norm("")?;
    let scalar = base.config.find_size(&["query_pre_attn_scalar"])?.unwrap_or(base.head_dim()?);
    let cap = |key: &str| -> Result<Option<f32>, ConfigError> {
        Ok(Some(base.config.number_or(key, 0.0)?).filter(|cap| *cap > 0.0))
    };
    let soft_cap = cap("attn_logit_softcapping")?;
    description.logit_soft_cap = cap("final_logit_softcapping")?;
    description.each(|i, layer| {
        let name = layer_name("model.", "layers.", i);
        let named = |part: &str| {
            Some(crate::model::description::Norm {
                name: Some(format!("{name}{part}_layernorm")),
                ..norm.clone()
            })
        };
        layer.after_attention = named("post_attention");
        layer.before_feed_forward = named("pre_feedforward");
        layer.after_feed_forward = named("post_feedforward");
        layer.attention.scale = inverse_root(scalar);
        layer.attention.soft_cap = soft_cap;
    });
    Ok(())
}

/// Norms' weights are stored less 1, and embeddings are scaled by the root of their width.
fn scale_and_offset(description: &mut Description) {
    description.embedding.multiplier = 1.0 / inverse_root(description.hidden);
    let offset = |norm: &mut Option<crate::model::description::Norm>| {
        if let Some(norm) = norm {
            norm.unit_offset = true;
        }
    };
    offset(&mut description.norm);
    description.each(|_, layer| {
        offset(&mut layer.before_attention);
        offset(&mut layer.after_attention);
        offset(&mut layer.before_feed_forward);
        offset(&mut layer.after_feed_forward);
        for norm in [&mut layer.attention.query_norm, &mut layer.attention.key_norm] {
            if let Some(HeadNorm::Head(norm)) = norm {
                norm.unit_offset = true;
            }
        }
    });
}
