//! Mistral and Mixtral (`modeling_mistral.py`, `modeling_mixtral.py`).

use super::base::{Base, layer_name, slide};
use crate::model::{
    config::{Config, ConfigError},
    description::{Description, ExpertWeights, Experts, FeedForward, Linear, Mlp, Up},
};

pub(super) fn dense(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let mut description = Base::new(config, context_length).describe()?;
    slide(config, &mut description, |_| true)?;
    Ok(description)
}

pub(super) fn experts(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let mut description =
        Base { norm_eps: 1e-5, theta: 1e6, ..Base::new(config, context_length) }.describe()?;
    slide(config, &mut description, |_| true)?;
    let count = config.size(&["num_local_experts"])?;
    let top_k = config.size(&["num_experts_per_tok"])?;
    let inner = config.size(&["intermediate_size"])?;
    description.each(|i, layer| {
        let name = format!("{}block_sparse_moe.", layer_name("model.", "layers.", i));
        let expert = |e: usize| {
            let linear = |part: &str| Linear::new(format!("{name}experts.{e}.{part}"), false);
            Mlp { inner, up: Up::Gated { gate: linear("w1"), up: linear("w3") }, down: linear("w2") }
        };
        layer.feed_forward = FeedForward::Experts(Experts {
            router: Linear::new(format!("{name}gate"), false),
            weights: ExpertWeights::Each((0..count).map(expert).collect()),
            top_k,
            renormalise: true,
            shared: None,
        });
    });
    Ok(description)
}
