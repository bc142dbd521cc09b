//! Rotary frequencies from the configuration, in the style of transformers 4 (`rope_theta`, `rope_scaling`) or 5
//! (`rope_parameters`). The formulas follow transformers' `modeling_rope_utils.py`.

use std::f64::consts::PI;

use super::config::{Config, ConfigError};
use crate::kernels::{
    precise,
    rotary::{Pairing, Rotary},
};

/// What the frequencies depend on besides their parameters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rope {
    pub(super) head_dim: usize,
    pub(super) theta: f64,
    pub(super) pairing: Pairing,
    /// Of the head's elements that turn, where the parameters say nothing.
    pub(super) partial: f64,
    /// Tokens that will be served: LongRoPE has frequencies for contexts within the trained length and others beyond.
    pub(super) context_length: usize,
}

/// The parameters in the style of version 5, whichever style they are in. `layer_type` picks where layers differ.
///
/// # Errors
/// When a key has a wrong type.
pub(super) fn parameters(config: &Config, layer_type: Option<&str>) -> Result<Config, ConfigError> {
    if let Some(five) = config.object("rope_parameters")? {
        let own = match layer_type {
            Some(layer_type) => five.object(layer_type)?,
            None => None,
        };
        return Ok(own.unwrap_or(five));
    }
    let mut parameters = config.object("rope_scaling")?.unwrap_or_default();
    for key in ["rope_theta", "partial_rotary_factor"] {
        parameters.inherit(config, key);
    }
    Ok(parameters)
}

impl Rope {
    /// The table for `parameters` of `config`.
    ///
    /// # Errors
    /// When a key is missing or wrong, or the kind of scaling is unknown.
    pub(super) fn table(&self, config: &Config, parameters: &Config) -> Result<Rotary, ConfigError> {
        let theta = parameters.find_number("rope_theta")?.unwrap_or(self.theta);
        let partial = match parameters.find_number("partial_rotary_factor")? {
            Some(partial) => partial,
            None => config.find_number("partial_rotary_factor")?.unwrap_or(self.partial),
        };
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a head, which transformers truncates in the same way"
        )]
        let dim = (self.head_dim as f64 * partial) as usize;
        if dim == 0 || dim > self.head_dim || !dim.is_multiple_of(2) || theta <= 0.0 {
            return Err(ConfigError::Unsupported(format!(
                "rotary embedding of {dim} dimensions with base {theta}"
            )));
        }
        #[expect(clippy::cast_precision_loss, reason = "a part of a head")]
        let base: Vec<f64> =
            (0..dim / 2).map(|i| precise::pow(theta, -(2.0 * i as f64) / dim as f64)).collect();
        let kind = match parameters.text("rope_type")? {
            Some(kind) => kind,
            None => parameters.text("type")?.unwrap_or("default"),
        };
        let (frequencies, factor) = match kind {
            "default" | "mrope" => (base, 1.0),
            "linear" => {
                let factor = number(parameters, "factor")?;
                (base.iter().map(|frequency| frequency / factor).collect(), 1.0)
            }
            "factors" => (divided(parameters, "factors", &base)?, 1.0),
            "llama3" => (llama3(parameters, &base)?, 1.0),
            "yarn" => yarn(config, parameters, &base, theta)?,
            "longrope" | "su" => self.longrope(config, parameters, &base)?,
            other => return Err(ConfigError::Unsupported(format!("rope_type {other:?}"))),
        };
        #[expect(clippy::cast_possible_truncation, reason = "a table of f32")]
        let narrow = |frequency: f64| frequency as f32;
        let frequencies = frequencies.into_iter().map(narrow).collect();
        Ok(Rotary { frequencies, pairing: self.pairing, factor: narrow(factor) })
    }

    /// LongRoPE (Ding et al. 2024): each frequency divided by its own factor. Transformers takes the short factors while
    /// a sequence is short and turns all keys anew when it grows; here a sequence's past never changes, so the longest
    /// context that is served decides, as in vLLM and llama.cpp.
    fn longrope(
        &self,
        config: &Config,
        parameters: &Config,
        base: &[f64],
    ) -> Result<(Vec<f64>, f64), ConfigError> {
        let longest = as_f64(config.size(&["max_position_embeddings"])?);
        let trained = trained_length(config, parameters)?.unwrap_or(longest);
        let long = as_f64(self.context_length) > trained;
        let key = if long { "long_factor" } else { "short_factor" };
        let frequencies = divided(parameters, key, base)?;
        let stretch = longest / trained;
        let factor = match parameters.find_number("attention_factor")? {
            Some(factor) => factor,
            None if stretch <= 1.0 => 1.0,
            None => (1.0 + precise::ln(stretch) / precise::ln(trained)).sqrt(),
        };
        Ok((frequencies, factor))
    }
}

/// Each frequency divided by its own factor.
fn divided(parameters: &Config, key: &str, base: &[f64]) -> Result<Vec<f64>, ConfigError> {
    let factors = parameters.numbers(key)?.ok_or_else(|| ConfigError::Missing(key.to_owned()))?;
    if factors.len() != base.len() {
        let message = format!("{key} of {} numbers for {} frequencies", factors.len(), base.len());
        return Err(ConfigError::Unsupported(message));
    }
    Ok(base.iter().zip(factors).map(|(frequency, factor)| frequency / factor).collect())
}

/// Llama 3.1: long waves are stretched, short ones kept, those between interpolated.
fn llama3(parameters: &Config, base: &[f64]) -> Result<Vec<f64>, ConfigError> {
    let factor = number(parameters, "factor")?;
    let (low, high) = (number(parameters, "low_freq_factor")?, number(parameters, "high_freq_factor")?);
    let trained = number(parameters, "original_max_position_embeddings")?;
    let scale = |&frequency: &f64| {
        let turns = trained * frequency / (2.0 * PI);
        if turns > high {
            frequency
        } else if turns < low {
            frequency / factor
        } else {
            let smooth = (turns - low) / (high - low);
            (1.0 - smooth) * frequency / factor + smooth * frequency
        }
    };
    Ok(base.iter().map(scale).collect())
}

/// YaRN (Peng et al. 2023), section 3.2: frequencies that turn often are kept, others stretched, with a ramp between.
fn yarn(
    config: &Config,
    parameters: &Config,
    base: &[f64],
    theta: f64,
) -> Result<(Vec<f64>, f64), ConfigError> {
    let factor = number(parameters, "factor")?;
    let trained = match trained_length(config, parameters)? {
        Some(trained) => trained,
        None => as_f64(config.size(&["max_position_embeddings"])?),
    };
    let dim = as_f64(base.len() * 2);
    let after = |turns: f64| dim * precise::ln(trained / (turns * 2.0 * PI)) / (2.0 * precise::ln(theta));
    let mut low = after(parameters.find_number("beta_fast")?.unwrap_or(32.0));
    let mut high = after(parameters.find_number("beta_slow")?.unwrap_or(1.0));
    if parameters.flag_or("truncate", true)? {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(dim - 1.0));
    if low == high {
        high += 0.001;
    }
    let stretched = |(i, frequency): (usize, &f64)| {
        let ramp = ((as_f64(i) - low) / (high - low)).clamp(0.0, 1.0);
        frequency / factor * ramp + frequency * (1.0 - ramp)
    };
    let sharpen = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * precise::ln(factor) + 1.0 };
    let attention = match (parameters.find_number("attention_factor")?, parameters.find_number("mscale")?) {
        (Some(factor), _) => factor,
        (None, Some(scale)) if scale > 0.0 => match parameters.find_number("mscale_all_dim")? {
            Some(all) if all > 0.0 => sharpen(scale) / sharpen(all),
            _ => sharpen(1.0),
        },
        _ => sharpen(1.0),
    };
    Ok((base.iter().enumerate().map(stretched).collect(), attention))
}

/// The context length before it was stretched.
fn trained_length(config: &Config, parameters: &Config) -> Result<Option<f64>, ConfigError> {
    const KEY: &str = "original_max_position_embeddings";
    Ok(match parameters.find_number(KEY)? {
        Some(length) => Some(length),
        None => config.find_number(KEY)?,
    })
}

fn number(parameters: &Config, key: &str) -> Result<f64, ConfigError> {
    parameters.find_number(key)?.ok_or_else(|| ConfigError::Missing(format!("{key} of the rotary embedding")))
}

#[expect(clippy::cast_precision_loss, reason = "lengths and dimensions")]
fn as_f64(size: usize) -> f64 {
    size as f64
}
