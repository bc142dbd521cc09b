//! ModernBERT (`modeling_modernbert.py`): norms before, rotary positions, a gated feed-forward, and windows in most layers.

use super::{
    base::{Base, layer_types},
    encoders::{BERT, Names, Wanted, fused_mlp},
};
use crate::model::{
    config::ConfigError,
    description::{FusedOrder, Linear, Norm, Projections},
    encoder::description::{Description, Place},
    pooling::Mode,
};

const MODERNBERT: Names = Names { prefix: "model.", layers: "layers.", ..BERT };

pub(super) fn describe(wanted: &Wanted<'_>) -> Result<Description, ConfigError> {
    let config = wanted.config;
    let mut description = wanted.describe(&MODERNBERT, 0, wanted.activation()?)?;
    let norm_bias = config.flag_or("norm_bias", false)?;
    let norm = |name: String| -> Result<Norm, ConfigError> {
        Ok(Norm { bias: norm_bias, eps: config.number_or("norm_eps", 1e-5)?, ..wanted.norm(name)? })
    };
    description.embedding.tokens = "model.embeddings.tok_embeddings".to_owned();
    description.embedding.positions = None;
    description.embedding.norm = Some(norm("model.embeddings.norm".to_owned())?);
    description.norm = Some(norm("model.final_norm".to_owned())?);
    let base = |theta: f64| Base { theta, ..Base::new(config, description.context_length) };
    let theta = config.find_number("global_rope_theta")?.unwrap_or(160_000.0);
    let local = config.find_number("local_rope_theta")?.unwrap_or(10_000.0);
    description.rotary =
        vec![base(theta).table(Some("full_attention"))?, base(local).table(Some("sliding_attention"))?];
    let every = config.find_size(&["global_attn_every_n_layers"])?.unwrap_or(3).max(1);
    let sliding = layer_types(config, description.layers.len(), |i| i % every != 0)?;
    let window = config.find_size(&["local_attention"])?.unwrap_or(128) / 2;
    let attention_bias = config.flag_or("attention_bias", false)?;
    let mlp_bias = config.flag_or("mlp_bias", false)?;
    for (i, (layer, sliding)) in description.layers.iter_mut().zip(sliding).enumerate() {
        let name = format!("model.layers.{i}.");
        let linear = Linear::new(format!("{name}attn.Wqkv"), attention_bias);
        layer.projections = Projections::Fused { linear, order: FusedOrder::Sections };
        layer.output = Linear::new(format!("{name}attn.Wo"), attention_bias);
        layer.rotary = Some(usize::from(sliding));
        layer.window = sliding.then_some(window);
        // The first layer's input comes from a norm.
        let before = (i > 0).then(|| norm(format!("{name}attn_norm"))).transpose()?;
        layer.attention_norm = Place::Before(before);
        layer.mlp = fused_mlp(&name, ["mlp.Wi", "mlp.Wo"], layer.mlp.inner, [mlp_bias; 2]);
        layer.mlp_norm = Place::Before(Some(norm(format!("{name}mlp_norm"))?));
    }
    let activation = Base { activation: "gelu", ..Base::new(config, 0) };
    let activation = activation.named(config.text("classifier_activation")?.unwrap_or("gelu"))?;
    description.classifier = wanted.classifier("head.dense", activation, "classifier")?;
    if let Some(classifier) = &mut description.classifier {
        classifier.mode = match config.text("classifier_pooling")?.unwrap_or("cls") {
            "cls" => Mode::Cls,
            "mean" => Mode::Mean,
            other => return Err(ConfigError::Unsupported(format!("classifier_pooling {other:?}"))),
        };
        classifier.dense.bias = config.flag_or("classifier_bias", false)?;
        classifier.norm = Some(norm("head.norm".to_owned())?);
    }
    Ok(description)
}
