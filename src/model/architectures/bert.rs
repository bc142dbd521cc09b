//! BERT (`modeling_bert.py`), and Jina's version 2 of it, which calls itself the same: gated feed-forward, and ALiBi to both
//! sides in place of positions (Günther et al. 2023, "Jina Embeddings 2").

use super::{
    base::slopes,
    encoders::{BERT, Wanted, fused_mlp},
};
use crate::{
    kernels::activation::Activation,
    model::{
        config::ConfigError,
        encoder::description::{Bias, Description, Place},
    },
};

pub(super) fn describe(wanted: &Wanted<'_>) -> Result<Description, ConfigError> {
    let mut description = wanted.describe(&BERT, 0, wanted.activation()?)?;
    description.embedding.types = wanted.types("bert.embeddings.token_type_embeddings")?;
    description.classifier = wanted.classifier("bert.pooler.dense", Activation::Tanh, "classifier")?;
    match wanted.config.text("position_embedding_type")? {
        None | Some("absolute") => {}
        Some("alibi") => jina(wanted, &mut description)?,
        Some(other) => {
            return Err(ConfigError::Unsupported(format!("position_embedding_type {other:?}")));
        }
    }
    Ok(description)
}

fn jina(wanted: &Wanted<'_>, description: &mut Description) -> Result<(), ConfigError> {
    description.embedding.positions = None;
    description.bias = Some(Bias::Slopes(slopes(description.heads)));
    let activation = match wanted.config.text("feed_forward_type")? {
        Some("geglu") => Activation::Gelu,
        Some("reglu") => Activation::Relu,
        None | Some("original") => return Ok(()),
        Some(other) => return Err(ConfigError::Unsupported(format!("feed_forward_type {other:?}"))),
    };
    for (i, layer) in description.layers.iter_mut().enumerate() {
        let name = format!("bert.encoder.layer.{i}.mlp.");
        layer.mlp = fused_mlp(&name, ["gated_layers", "wo"], layer.mlp.inner, [false, true]);
        layer.activation = activation;
        layer.mlp_norm = Place::After(wanted.norm(format!("{name}layernorm"))?);
    }
    Ok(())
}
