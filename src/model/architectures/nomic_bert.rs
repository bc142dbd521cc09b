//! Nomic's BERT (`modeling_nomic_bert.py`): rotary positions and a gated feed-forward, without biases. The configuration has
//! GPT-2's keys, or transformers' own.

use super::{
    base::Base,
    encoders::{BERT, Names, Wanted},
};
use crate::{
    kernels::activation::Activation,
    model::{
        config::ConfigError,
        description::{FusedOrder, Linear, Mlp, Projections, Up},
        encoder::description::{Description, Place},
    },
};

const NOMIC: Names = Names { layers: "encoder.layers.", ..BERT };

pub(super) fn describe(wanted: &Wanted<'_>) -> Result<Description, ConfigError> {
    let config = wanted.config;
    let refuse = |what: &str| Err(ConfigError::Unsupported(what.to_owned()));
    for key in ["prenorm", "rotary_emb_interleaved", "use_rms_norm"] {
        if config.flag_or(key, false)? {
            return refuse(key);
        }
    }
    for key in ["rotary_scaling_factor", "rotary_emb_scale_base"] {
        if config.has(key) {
            return refuse(key);
        }
    }
    if config.find_size(&["num_experts"])?.unwrap_or(0) > 1 {
        return refuse("num_experts");
    }
    if wanted.classifies {
        return refuse("a classifier of nomic_bert");
    }
    let activation = config.text("hidden_act")?.or(config.text("activation_function")?);
    if !matches!(activation, None | Some("silu" | "swiglu")) {
        return refuse(&format!("activation {activation:?}"));
    }
    let mut description = wanted.describe(&NOMIC, 0, Activation::Silu)?;
    description.embedding.positions = None;
    description.embedding.norm = Some(wanted.norm("bert.emb_ln")?);
    description.embedding.types = wanted.types("bert.embeddings.token_type_embeddings")?;
    let base = Base {
        theta: config.find_number("rotary_emb_base")?.unwrap_or(1000.0),
        partial: config.find_number("rotary_emb_fraction")?.unwrap_or(1.0),
        ..Base::new(config, description.context_length)
    };
    description.rotary = vec![base.table(None)?];
    let attention_bias = config.flag_or("qkv_proj_bias", false)?;
    let biases = [config.flag_or("mlp_fc1_bias", false)?, config.flag_or("mlp_fc2_bias", false)?];
    for (i, layer) in description.layers.iter_mut().enumerate() {
        let name = format!("bert.encoder.layers.{i}.");
        let linear = |suffix: &str, bias| Linear::new(format!("{name}{suffix}"), bias);
        layer.projections =
            Projections::Fused { linear: linear("attn.Wqkv", attention_bias), order: FusedOrder::Sections };
        layer.output = linear("attn.out_proj", attention_bias);
        layer.rotary = Some(0);
        layer.attention_norm = Place::After(wanted.norm(format!("{name}norm1"))?);
        layer.mlp = Mlp {
            inner: layer.mlp.inner,
            up: Up::Gated { gate: linear("mlp.fc12", biases[0]), up: linear("mlp.fc11", biases[0]) },
            down: linear("mlp.fc2", biases[1]),
        };
        layer.mlp_norm = Place::After(wanted.norm(format!("{name}norm2"))?);
    }
    Ok(description)
}
