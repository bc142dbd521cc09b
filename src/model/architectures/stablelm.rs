//! StableLM (`modeling_stablelm.py`).

use super::base::{Base, layer_name};
use crate::{
    kernels::norm::NormKind,
    model::{
        config::{Config, ConfigError},
        description::{Description, HeadNorm, Norm},
    },
};

pub(super) fn describe(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let base = Base {
        norm: NormKind::Layer,
        norm_bias: true,
        norm_eps: 1e-5,
        partial: 0.25,
        ..Base::new(config, context_length)
    };
    let mut description = base.describe()?;
    let norm = base.norm("")?;
    let bias = config.flag_or("use_qkv_bias", false)?;
    let norm_heads = config.flag_or("qk_layernorm", false)?;
    let parallel = config.flag_or("use_parallel_residual", false)?;
    description.each(|i, layer| {
        let name = layer_name("model.", "layers.", i);
        layer.bias_projections(bias);
        if norm_heads {
            let named = |part: &str| {
                let name = Some(format!("{name}self_attn.{part}_layernorm.norms"));
                Some(HeadNorm::TensorEachHead(Norm { name, bias: false, ..norm.clone() }))
            };
            layer.attention.query_norm = named("q");
            layer.attention.key_norm = named("k");
        }
        if parallel {
            layer.parallel = true;
            layer.before_feed_forward = None;
        }
    });
    Ok(description)
}
