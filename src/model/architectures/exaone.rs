//! EXAONE 4 (`modeling_exaone4.py`).

use super::{
    base::{Base, layer_types, slide},
    olmo::norm_after,
    qwen3::norm_heads,
};
use crate::model::{
    config::{Config, ConfigError},
    description::{Description, HeadNorm},
};

pub(super) fn describe(config: &Config, context_length: usize) -> Result<Description, ConfigError> {
    let base = Base { norm_eps: 1e-5, ..Base::new(config, context_length) };
    let mut description = base.describe()?;
    norm_after(&base, &mut description)?;
    norm_heads(&base, &mut description, HeadNorm::Head)?;
    if config.has("sliding_window") {
        let pattern = config.find_size(&["sliding_window_pattern"])?.unwrap_or(4).max(1);
        let sliding = |i: usize| !(i + 1).is_multiple_of(pattern);
        slide(config, &mut description, sliding)?;
        // In a mixed model the layers that see everything have no positions.
        let types = layer_types(config, description.layers.len(), sliding)?;
        description.each(|i, layer| layer.attention.rotary = types[i].then_some(0));
    }
    Ok(description)
}
