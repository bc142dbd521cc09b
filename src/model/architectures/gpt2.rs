//! GPT-2 (`modeling_gpt2.py`).

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
        prefix: "transformer.",
        layers: "h.",
        tokens: "wte",
        final_norm: "ln_f",
        tied: true,
        norm: NormKind::Layer,
        norm_bias: true,
        norm_eps: 1e-5,
        activation: "gelu_new",
        rotary: false,
        ..Base::new(config, context_length)
    };
    let mut description = base.describe()?;
    description.transposed = true;
    description.embedding.positions = Some(("transformer.wpe".to_owned(), 0));
    let inner = config.find_size(&["n_inner"])?.unwrap_or(4 * description.hidden);
    let norm = |name: String| base.norm(name).map(Some);
    let by_layer = config.flag_or("scale_attn_by_inverse_layer_idx", false)?;
    let scaled = config.flag_or("scale_attn_weights", true)?;
    for (i, layer) in description.layers.iter_mut().enumerate() {
        let name = layer_name("transformer.", "h.", i);
        layer.before_attention = norm(format!("{name}ln_1"))?;
        layer.before_feed_forward = norm(format!("{name}ln_2"))?;
        let linear = Linear::new(format!("{name}attn.c_attn"), true);
        layer.attention.projections = Projections::Fused { linear, order: FusedOrder::Sections };
        layer.attention.output = Linear::new(format!("{name}attn.c_proj"), true);
        layer.feed_forward = plain_mlp(&name, ["mlp.c_fc", "mlp.c_proj"], inner, true);
        if !scaled {
            layer.attention.scale = 1.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "a layer's number")]
        if by_layer {
            layer.attention.scale /= (i + 1) as f32;
        }
    }
    Ok(description)
}
