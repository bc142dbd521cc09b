//! SmolLM 3: Llama of which some layers have no positions (`modeling_smollm3.py`).

use super::{llama, qwen2::upper_layers_slide};
use crate::model::{
    config::{Config, ConfigError},
    description::Description,
};

pub(super) fn describe(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let mut config = config.clone();
    // Its defaults differ from Llama's.
    config.set_default("tie_word_embeddings", true);
    config.set_default("rope_theta", 2_000_000.0);
    let mut description = llama::describe(&config, context_length)?;
    upper_layers_slide(&config, &mut description)?;
    let rotates = config.numbers("no_rope_layers")?;
    let interval = config.find_size(&["no_rope_layer_interval"])?.unwrap_or(4).max(1);
    description.each(|i, layer| {
        let rotary = match &rotates {
            // Despite the name, 1 means that the layer rotates.
            Some(rotates) => rotates.get(i).is_none_or(|rotates| *rotates != 0.0),
            None => (i + 1) % interval != 0,
        };
        layer.attention.rotary = rotary.then_some(0);
    });
    Ok(description)
}
