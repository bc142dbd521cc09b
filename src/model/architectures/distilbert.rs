//! DistilBERT (`modeling_distilbert.py`): BERT without types of tokens.

use super::encoders::{Names, Wanted};
use crate::{
    kernels::activation::Activation,
    model::{config::ConfigError, encoder::description::Description},
};

const DISTILBERT: Names = Names {
    prefix: "distilbert.",
    layers: "transformer.layer.",
    projections: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    mlp_norm: "output_layer_norm",
};

pub(super) fn describe(wanted: &Wanted<'_>) -> Result<Description, ConfigError> {
    let mut description = wanted.describe(&DISTILBERT, 0, wanted.activation()?)?;
    description.classifier = wanted.classifier("pre_classifier", Activation::Relu, "classifier")?;
    Ok(description)
}
