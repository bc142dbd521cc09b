//! RoBERTa, XLM-RoBERTa and CamemBERT (`modeling_roberta.py`): BERT whose positions begin behind the padding's.

use super::encoders::{BERT, Names, Wanted};
use crate::{
    kernels::activation::Activation,
    model::{config::ConfigError, encoder::description::Description},
};

const ROBERTA: Names = Names { prefix: "roberta.", ..BERT };

pub(super) fn describe(wanted: &Wanted<'_>) -> Result<Description, ConfigError> {
    let padding = wanted.config.find_size(&["pad_token_id"])?.unwrap_or(1);
    let mut description = wanted.describe(&ROBERTA, padding + 1, wanted.activation()?)?;
    description.embedding.types = wanted.types("roberta.embeddings.token_type_embeddings")?;
    description.classifier =
        wanted.classifier("classifier.dense", Activation::Tanh, "classifier.out_proj")?;
    Ok(description)
}
