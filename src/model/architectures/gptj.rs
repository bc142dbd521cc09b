//! GPT-J (`modeling_gptj.py`).

use super::base::{Base, layer_name, plain_mlp};
use crate::{
    kernels::{norm::NormKind, rotary::Pairing},
    model::{
        config::{Config, ConfigError},
        description::{Description, Linear, Projections},
    },
};

pub(super) fn describe(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let mut base = Base {
        prefix: "transformer.",
        layers: "h.",
        tokens: "wte",
        final_norm: "ln_f",
        norm: NormKind::Layer,
        norm_bias: true,
        norm_eps: 1e-5,
        activation: "gelu_new",
        pairing: Pairing::Neighbours,
        ..Base::new(config, context_length)
    };
    #[expect(clippy::cast_precision_loss, reason = "a head's dimensions")]
    if let Some(dim) = config.find_size(&["rotary_dim"])? {
        base.partial = dim as f64 / base.head_dim()? as f64;
    }
    let mut description = base.describe()?;
    let inner = config.find_size(&["n_inner"])?.unwrap_or(4 * description.hidden);
    if let Some(head) = &mut description.head {
        head.bias = true;
    }
    for (i, layer) in description.layers.iter_mut().enumerate() {
        let name = layer_name("transformer.", "h.", i);
        let linear = |part: &str| Linear::new(format!("{name}attn.{part}_proj"), false);
        layer.before_attention = Some(base.norm(format!("{name}ln_1"))?);
        layer.before_feed_forward = None;
        layer.parallel = true;
        layer.attention.projections =
            Projections::Separate { query: linear("q"), key: linear("k"), value: linear("v") };
        layer.attention.output = linear("out");
        layer.feed_forward = plain_mlp(&name, ["mlp.fc_in", "mlp.fc_out"], inner, true);
    }
    Ok(description)
}
