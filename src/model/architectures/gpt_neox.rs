//! GPT-NeoX and Pythia (`modeling_gpt_neox.py`).

use super::base::{Base, layer_name, plain_mlp};
use crate::{
    kernels::norm::NormKind,
    model::{
        config::{Config, ConfigError},
        description::{Description, FusedOrder, Linear, Projections},
    },
};

pub(super) fn describe(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let base = Base {
        prefix: "gpt_neox.",
        tokens: "embed_in",
        final_norm: "final_layer_norm",
        head: "embed_out",
        norm: NormKind::Layer,
        norm_bias: true,
        norm_eps: 1e-5,
        activation: "gelu",
        partial: config.find_number("rotary_pct")?.unwrap_or(0.25),
        theta: config.find_number("rotary_emb_base")?.unwrap_or(10_000.0),
        ..Base::new(config, context_length)
    };
    let mut description = base.describe()?;
    let bias = config.flag_or("attention_bias", true)?;
    let parallel = config.flag_or("use_parallel_residual", true)?;
    let inner = config.size(&["intermediate_size"])?;
    description.each(|i, layer| {
        let name = layer_name("gpt_neox.", "layers.", i);
        let linear = Linear::new(format!("{name}attention.query_key_value"), bias);
        layer.attention.projections = Projections::Fused { linear, order: FusedOrder::Groups };
        layer.attention.output = Linear::new(format!("{name}attention.dense"), bias);
        layer.feed_forward = plain_mlp(&name, ["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"], inner, true);
        layer.parallel = parallel;
    });
    Ok(description)
}
