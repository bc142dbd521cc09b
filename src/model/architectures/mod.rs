//! One small file an architecture, and their table.

mod base;
mod bert;
mod bloom;
mod cohere;
mod distilbert;
mod encoders;
mod ernie;
mod exaone;
mod falcon;
mod gemma;
mod glm;
mod gpt2;
mod gpt_neox;
mod gpt_oss;
mod gptj;
mod granite;
mod llama;
mod mistral;
mod modernbert;
mod mpnet;
mod nomic_bert;
mod olmo;
mod opt;
mod phi;
mod phi3;
mod qwen2;
mod qwen3;
mod roberta;
mod seed_oss;
mod smollm3;
mod stablelm;
mod starcoder2;

pub use encoders::supported_encoders;
pub(super) use encoders::{classifies, describe_encoder, is_encoder};

use super::{
    config::{Config, ConfigError},
    description::Description,
};

/// Makes a description of a configuration, for at most so many tokens of context.
type Describe = fn(&Config, usize) -> Result<Description, ConfigError>;

/// `model_type` of `config.json`, and what reads the rest of it.
const TABLE: &[(&str, Describe)] = &[
    ("bloom", bloom::describe),
    ("cohere", cohere::describe),
    ("ernie4_5", ernie::describe),
    ("exaone4", exaone::describe),
    ("falcon", falcon::describe),
    ("gemma", gemma::one),
    ("gemma2", gemma::two),
    ("gemma3_text", gemma::three),
    ("glm4", glm::describe),
    ("gpt2", gpt2::describe),
    ("gpt_neox", gpt_neox::describe),
    ("gpt_oss", gpt_oss::describe),
    ("gptj", gptj::describe),
    ("granite", granite::describe),
    ("llama", llama::describe),
    ("mistral", mistral::dense),
    ("mixtral", mistral::experts),
    ("olmo", olmo::one),
    ("olmo2", olmo::two),
    ("olmo3", olmo::three),
    ("opt", opt::describe),
    ("phi", phi::describe),
    ("phi3", phi3::describe),
    ("qwen2", qwen2::dense),
    ("qwen2_moe", qwen2::experts),
    ("qwen3", qwen3::dense),
    ("qwen3_moe", qwen3::experts),
    ("seed_oss", seed_oss::describe),
    ("smollm3", smollm3::describe),
    ("stablelm", stablelm::describe),
    ("starcoder2", starcoder2::describe),
];

/// `model_type`s that can be loaded.
#[must_use]
pub fn supported() -> Vec<&'static str> {
    TABLE.iter().map(|(name, _)| *name).collect()
}

/// The description of a configuration. A `context_length` bounds the model's own.
///
/// # Errors
/// When the architecture is not supported, or a key is missing or wrong.
pub(super) fn describe(config: &Config, context_length: Option<usize>) -> Result<Description, ConfigError> {
    let found = config.model_type()?;
    let Some((_, describe)) = TABLE.iter().find(|(name, _)| *name == found) else {
        let supported = [supported(), supported_encoders()].concat();
        return Err(ConfigError::Architecture { found: found.to_owned(), supported });
    };
    if let Some(quantization) = config.object("quantization_config")? {
        let method = quantization.text("quant_method")?.unwrap_or("an unnamed method");
        if (found, method) != ("gpt_oss", "mxfp4") {
            let what = format!(
                "a safetensors checkpoint of {found} quantized by {method} (supported are mxfp4 of gpt_oss, and GGUF files)"
            );
            return Err(ConfigError::Unsupported(what));
        }
    }
    let longest = config.find_size(&["max_position_embeddings", "n_positions", "seq_length"])?;
    // Nothing but training bounds a model without learned positions (Bloom).
    let longest = longest.unwrap_or(2048);
    describe(config, context_length.map_or(longest, |wanted| wanted.min(longest)))
}
