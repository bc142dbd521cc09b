//! Qwen 1.5 to 2.5, dense and with experts (`modeling_qwen2.py`, `modeling_qwen2_moe.py`).

use super::base::{Base, layer_name, slide};
use crate::model::{
    config::{Config, ConfigError},
    description::{Description, ExpertWeights, Experts, FeedForward, Linear, Mlp, Up},
};

pub(super) fn dense(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let mut description = Base::new(config, context_length).describe()?;
    upper_layers_slide(config, &mut description)?;
    description.each(|_, layer| layer.bias_projections(true));
    Ok(description)
}

pub(super) fn experts(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let mut description = Base::new(config, context_length).describe()?;
    upper_layers_slide(config, &mut description)?;
    let bias = config.flag_or("qkv_bias", true)?;
    description.each(|_, layer| layer.bias_projections(bias));
    let shared = config.size(&["shared_expert_intermediate_size"])?;
    sparse_layers(config, &mut description, Some(shared))?;
    Ok(description)
}

/// Windows from layer `max_window_layers` on, if at all.
pub(super) fn upper_layers_slide(config: &Config, description: &mut Description) -> Result<(), ConfigError> {
    if !config.flag_or("use_sliding_window", false)? {
        return Ok(());
    }
    let first = config.find_size(&["max_window_layers"])?.unwrap_or(28);
    slide(config, description, |i| i >= first)
}

/// Replaces the feed-forwards of sparse layers by experts, with a shared one of that inner size.
pub(super) fn sparse_layers(
    config: &Config,
    description: &mut Description,
    shared: Option<usize>,
) -> Result<(), ConfigError> {
    let count = config.size(&["num_experts", "num_local_experts"])?;
    let top_k = config.size(&["num_experts_per_tok"])?;
    let inner = config.size(&["moe_intermediate_size"])?;
    let renormalise = config.flag_or("norm_topk_prob", false)?;
    let step = config.find_size(&["decoder_sparse_step"])?.unwrap_or(1).max(1);
    let dense = config.numbers("mlp_only_layers")?.unwrap_or_default();
    description.each(|i, layer| {
        #[expect(clippy::cast_precision_loss, reason = "a layer's number")]
        let is_dense = dense.contains(&(i as f64)) || (i + 1) % step != 0;
        if is_dense {
            return;
        }
        let name = format!("{}mlp.", layer_name("model.", "layers.", i));
        let mlp = |part: &str, inner: usize| {
            let linear = |which: &str| Linear::new(format!("{name}{part}{which}_proj"), false);
            Mlp { inner, up: Up::Gated { gate: linear("gate"), up: linear("up") }, down: linear("down") }
        };
        layer.feed_forward = FeedForward::Experts(Experts {
            router: Linear::new(format!("{name}gate"), false),
            weights: ExpertWeights::Each((0..count).map(|e| mlp(&format!("experts.{e}."), inner)).collect()),
            top_k,
            renormalise,
            shared: shared.map(|inner| {
                (mlp("shared_expert.", inner), Linear::new(format!("{name}shared_expert_gate"), false))
            }),
        });
    });
    Ok(())
}
