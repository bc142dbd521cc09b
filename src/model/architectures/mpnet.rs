//! MPNet (`modeling_mpnet.py`): RoBERTa with a bias by distance, one for all layers.

use super::encoders::{BERT, Names, Wanted};
use crate::{
    kernels::activation::Activation,
    model::{
        config::ConfigError,
        encoder::description::{Bias, Description},
    },
};

const MPNET: Names = Names {
    prefix: "mpnet.",
    projections: ["attention.attn.q", "attention.attn.k", "attention.attn.v"],
    output: "attention.attn.o",
    attention_norm: "attention.LayerNorm",
    ..BERT
};

pub(super) fn describe(wanted: &Wanted<'_>) -> Result<Description, ConfigError> {
    let mut description = wanted.describe(&MPNET, 2, wanted.activation()?)?;
    let buckets = wanted.config.find_size(&["relative_attention_num_buckets"])?.unwrap_or(32);
    // `compute_position_bias` of transformers takes no other.
    if buckets != 32 {
        return Err(ConfigError::Unsupported(format!("relative_attention_num_buckets {buckets}")));
    }
    let name = "mpnet.encoder.relative_attention_bias".to_owned();
    description.bias = Some(Bias::Buckets { name, buckets });
    description.classifier =
        wanted.classifier("classifier.dense", Activation::Tanh, "classifier.out_proj")?;
    Ok(description)
}
