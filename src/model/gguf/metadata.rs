//! GGUF's metadata as a configuration in the style of `config.json`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::model::config::{Config, ConfigError};

/// Architectures of GGUF and the `model_type` they are read as.
const ARCHITECTURES: [(&str, &str); 8] = [
    ("gemma", "gemma"),
    ("gemma2", "gemma2"),
    ("gemma3", "gemma3_text"),
    ("gpt2", "gpt2"),
    ("llama", "llama"),
    ("phi3", "phi3"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
];

/// Keys that keep their value: ours, and GGUF's after the architecture's name.
const KEYS: [(&str, &str); 13] = [
    ("max_position_embeddings", "context_length"),
    ("hidden_size", "embedding_length"),
    ("num_hidden_layers", "block_count"),
    ("intermediate_size", "feed_forward_length"),
    ("num_attention_heads", "attention.head_count"),
    ("num_key_value_heads", "attention.head_count_kv"),
    ("head_dim", "attention.key_length"),
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
    ("layer_norm_eps", "attention.layer_norm_epsilon"),
    ("rope_theta", "rope.freq_base"),
    ("sliding_window", "attention.sliding_window"),
    ("attn_logit_softcapping", "attn_logit_softcapping"),
    ("final_logit_softcapping", "final_logit_softcapping"),
];

/// What the tensors tell that the metadata does not.
pub(super) struct Facts {
    pub(super) vocabulary: usize,
    pub(super) tied: bool,
    /// `rope_freqs`: what each frequency is divided by.
    pub(super) frequency_factors: Option<Vec<f32>>,
    /// `rope_factors_long` and `rope_factors_short`.
    pub(super) long_factors: Option<Vec<f32>>,
    pub(super) short_factors: Option<Vec<f32>>,
}

/// The architecture's name in GGUF.
pub(super) fn architecture(metadata: &BTreeMap<String, Value>) -> Result<&str, ConfigError> {
    let name = metadata.get("general.architecture").and_then(Value::as_str);
    name.ok_or_else(|| ConfigError::Missing("general.architecture".to_owned()))
}

/// The configuration.
///
/// # Errors
/// When the architecture is not among those whose GGUF names and layouts are known.
pub(super) fn config(metadata: &BTreeMap<String, Value>, facts: &Facts) -> Result<Config, ConfigError> {
    let name = architecture(metadata)?;
    let found = ARCHITECTURES.iter().find(|(gguf, _)| *gguf == name);
    let experts = metadata.get(&format!("{name}.expert_count")).and_then(Value::as_u64).unwrap_or(0);
    let Some((_, model_type)) = found.filter(|_| experts == 0) else {
        let found = if experts == 0 { name.to_owned() } else { format!("{name} with experts") };
        let supported = ARCHITECTURES.iter().map(|(gguf, _)| *gguf).collect();
        return Err(ConfigError::Architecture { found: format!("{found} in GGUF"), supported });
    };
    let own = |key: &str| metadata.get(&format!("{name}.{key}")).filter(|value| !value.is_null());
    let mut map = Map::new();
    map.insert("model_type".to_owned(), json!(model_type));
    map.insert("vocab_size".to_owned(), json!(facts.vocabulary));
    map.insert("tie_word_embeddings".to_owned(), json!(facts.tied));
    for (ours, theirs) in KEYS {
        if let Some(value) = own(theirs) {
            map.insert(ours.to_owned(), value.clone());
        }
    }
    let number = |key: &str| map.get(key).and_then(Value::as_f64);
    let heads = number("num_attention_heads").unwrap_or(1.0).max(1.0);
    let head_dim = number("head_dim").or(number("hidden_size").map(|hidden| hidden / heads)).unwrap_or(1.0);
    if let Some(turning) = own("rope.dimension_count").and_then(Value::as_f64) {
        map.insert("partial_rotary_factor".to_owned(), json!(turning / head_dim));
    }
    // Only the 27B models of Gemma 2 and 3 scale by something else than the head's width; llama.cpp knows them so too.
    let number = |key: &str| map.get(key).and_then(Value::as_f64);
    let large = (name == "gemma2" && number("num_hidden_layers") == Some(46.0))
        || (name == "gemma3" && number("num_hidden_layers") == Some(62.0));
    if let (true, Some(hidden)) = (large, number("hidden_size")) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number of dimensions"
        )]
        map.insert("query_pre_attn_scalar".to_owned(), json!((hidden / heads) as u64));
    }
    if let Some(scaling) = scaling(&own, facts) {
        map.insert("rope_scaling".to_owned(), scaling);
    }
    Ok(Config::new(map))
}

fn scaling<'a>(own: &impl Fn(&str) -> Option<&'a Value>, facts: &Facts) -> Option<Value> {
    if let Some(factors) = &facts.frequency_factors {
        return Some(json!({"rope_type": "factors", "factors": factors}));
    }
    let mut scaling = Map::new();
    for (ours, theirs) in [
        ("factor", "rope.scaling.factor"),
        ("original_max_position_embeddings", "rope.scaling.original_context_length"),
        ("attention_factor", "rope.scaling.attn_factor"),
        ("beta_fast", "rope.scaling.yarn_beta_fast"),
        ("beta_slow", "rope.scaling.yarn_beta_slow"),
    ] {
        if let Some(value) = own(theirs) {
            scaling.insert(ours.to_owned(), value.clone());
        }
    }
    if let (Some(long), Some(short)) = (&facts.long_factors, &facts.short_factors) {
        scaling.insert("rope_type".to_owned(), json!("longrope"));
        scaling.insert("long_factor".to_owned(), json!(long));
        scaling.insert("short_factor".to_owned(), json!(short));
        return Some(Value::Object(scaling));
    }
    let kind = own("rope.scaling.type").and_then(Value::as_str).filter(|kind| *kind != "none")?;
    scaling.insert("rope_type".to_owned(), json!(kind));
    Some(Value::Object(scaling))
}
