//! GGUF's metadata as a configuration in the style of `config.json`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::model::config::{Config, ConfigError};

/// Architectures of GGUF and the `model_type` they are read as: without experts, and with. All that llama.cpp's converter
/// (`conversion/*.py`) writes of the architectures that are known here.
const ARCHITECTURES: [(&str, Option<&str>, Option<&str>); 26] = [
    ("bloom", Some("bloom"), None),
    ("command-r", Some("cohere"), None),
    ("ernie4_5", Some("ernie4_5"), None),
    ("exaone4", Some("exaone4"), None),
    ("falcon", Some("falcon"), None),
    ("gemma", Some("gemma"), None),
    ("gemma2", Some("gemma2"), None),
    ("gemma3", Some("gemma3_text"), None),
    ("glm4", Some("glm4"), None),
    ("gpt-oss", None, Some("gpt_oss")),
    ("gpt2", Some("gpt2"), None),
    ("gptneox", Some("gpt_neox"), None),
    ("granite", Some("granite"), None),
    ("llama", Some("llama"), Some("mixtral")),
    ("olmo", Some("olmo"), None),
    ("olmo2", Some("olmo2"), None),
    ("phi2", Some("phi"), None),
    ("phi3", Some("phi3"), None),
    ("qwen2", Some("qwen2"), None),
    ("qwen2moe", None, Some("qwen2_moe")),
    ("qwen3", Some("qwen3"), None),
    ("qwen3moe", None, Some("qwen3_moe")),
    ("seed_oss", Some("seed_oss"), None),
    ("smollm3", Some("smollm3"), None),
    ("stablelm", Some("stablelm"), None),
    ("starcoder2", Some("starcoder2"), None),
];

/// What is called `.0`, as its `model_type` is, has the `model_type` `.1` where it has windows.
const WINDOWED: (&str, &str) = ("olmo2", "olmo3");

/// Names of architectures in GGUF files that can be loaded, and the `model_type`s that they are read as.
#[must_use]
pub fn supported_gguf() -> Vec<(&'static str, &'static str)> {
    let pairs = |(name, plain, experts): &(&'static str, Option<&'static str>, Option<&'static str>)| {
        [*plain, *experts].into_iter().flatten().map(|kind| (*name, kind)).collect::<Vec<_>>()
    };
    ARCHITECTURES.iter().flat_map(pairs).chain([WINDOWED]).collect()
}

/// Whether the converter orders the rows of queries and keys so that neighbours turn together (`LlamaModel.permute`).
pub(super) fn turns_neighbours(architecture: &str) -> bool {
    ["granite", "llama", "olmo", "smollm3"].contains(&architecture)
}

/// Keys that keep their value: ours, and GGUF's after the architecture's name.
const KEYS: [(&str, &str); 22] = [
    ("max_position_embeddings", "context_length"),
    ("hidden_size", "embedding_length"),
    ("num_hidden_layers", "block_count"),
    ("intermediate_size", "feed_forward_length"),
    ("num_attention_heads", "attention.head_count"),
    ("num_key_value_heads", "attention.head_count_kv"),
    ("num_kv_heads", "attention.head_count_kv"),
    ("head_dim", "attention.key_length"),
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
    ("layer_norm_eps", "attention.layer_norm_epsilon"),
    ("rope_theta", "rope.freq_base"),
    ("rope_local_base_freq", "rope.freq_base_swa"),
    ("sliding_window", "attention.sliding_window"),
    ("attn_logit_softcapping", "attn_logit_softcapping"),
    ("final_logit_softcapping", "final_logit_softcapping"),
    ("use_parallel_residual", "use_parallel_residual"),
    ("clip_qkv", "attention.clamp_kqv"),
    ("attention_multiplier", "attention.scale"),
    ("embedding_multiplier", "embedding_scale"),
    ("residual_multiplier", "residual_scale"),
    ("num_experts", "expert_count"),
    ("num_experts_per_tok", "expert_used_count"),
];

/// Flags that say whether tensors are there.
const FLAGS: [(&str, &[&str]); 8] = [
    ("attention_bias", &["blk.0.attn_q.bias", "blk.0.attn_qkv.bias"]),
    ("attention_out_bias", &["blk.0.attn_output.bias"]),
    ("mlp_bias", &["blk.0.ffn_down.bias"]),
    ("use_bias", &["blk.0.attn_q.bias"]),
    ("use_qkv_bias", &["blk.0.attn_q.bias"]),
    ("qkv_bias", &["blk.0.attn_q.bias"]),
    ("qk_layernorm", &["blk.0.attn_q_norm.weight"]),
    ("use_qk_norm", &["blk.0.attn_q_norm.weight"]),
];

/// What the tensors tell that the metadata does not.
pub(super) struct Facts<'a> {
    /// By GGUF's names.
    pub(super) shapes: BTreeMap<&'a str, &'a [usize]>,
    /// `rope_freqs`: what each frequency is divided by.
    pub(super) frequency_factors: Option<Vec<f32>>,
    /// `rope_factors_long` and `rope_factors_short`.
    pub(super) long_factors: Option<Vec<f32>>,
    pub(super) short_factors: Option<Vec<f32>>,
}

impl Facts<'_> {
    fn has(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    /// The innermost dimension.
    fn inputs(&self, name: &str) -> Option<usize> {
        self.shapes.get(name)?.last().copied()
    }
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
pub(super) fn config(metadata: &BTreeMap<String, Value>, facts: &Facts<'_>) -> Result<Config, ConfigError> {
    let name = architecture(metadata)?;
    let own = |key: &str| metadata.get(&format!("{name}.{key}")).filter(|value| !value.is_null());
    let experts = own("expert_count").and_then(Value::as_u64).unwrap_or(0) > 0;
    let found = ARCHITECTURES.iter().find(|(gguf, _, _)| *gguf == name);
    let Some(model_type) = found.and_then(|(_, dense, sparse)| if experts { *sparse } else { *dense }) else {
        let found = if experts { format!("{name} with experts") } else { name.to_owned() };
        let supported = ARCHITECTURES.iter().map(|(gguf, _, _)| *gguf).collect();
        return Err(ConfigError::Architecture { found: format!("{found} in GGUF"), supported });
    };
    let vocabulary = facts.shapes.get("token_embd.weight").and_then(|shape| shape.first());
    let vocabulary = vocabulary.ok_or_else(|| ConfigError::Missing("tensor token_embd.weight".to_owned()))?;
    let windows = model_type == WINDOWED.0 && own("attention.sliding_window").is_some();
    let mut map = Map::new();
    let mut set = |key: &str, value: Value| map.insert(key.to_owned(), value);
    set("model_type", json!(if windows { WINDOWED.1 } else { model_type }));
    set("vocab_size", json!(vocabulary));
    set("tie_word_embeddings", json!(!facts.has("output.weight")));
    for (ours, theirs) in KEYS {
        if let Some(value) = own(theirs) {
            set(ours, value.clone());
        }
    }
    for (flag, tensors) in FLAGS {
        set(flag, json!(tensors.iter().any(|tensor| facts.has(tensor))));
    }
    if let Some(scale) = own("logit_scale") {
        set(if name == "granite" { "logits_scaling" } else { "logit_scale" }, scale.clone());
    }
    if let Some(Value::Array(slides)) = own("attention.sliding_window_pattern") {
        let kind = |slides: &Value| {
            if *slides == json!(true) { "sliding_attention" } else { "full_attention" }
        };
        set("layer_types", slides.iter().map(kind).collect());
    }
    if experts {
        if let Some(inner) = facts.inputs("blk.0.ffn_down_exps.weight") {
            set(if name == "gpt-oss" { "intermediate_size" } else { "moe_intermediate_size" }, json!(inner));
        }
        if let Some(inner) = facts.inputs("blk.0.ffn_down_shexp.weight") {
            set("shared_expert_intermediate_size", json!(inner));
        }
        // As in llama.cpp's graphs; the files do not tell.
        set("norm_topk_prob", json!(name == "qwen3moe"));
        if let Some(count) = own("expert_count") {
            set("num_local_experts", count.clone());
        }
    }
    if name == "falcon" {
        // The general form of all generations: parallel, with so many heads of keys and values, and one norm or two.
        set("new_decoder_architecture", json!(true));
        set("num_ln_in_parallel_attn", json!(if facts.has("blk.0.attn_norm_2.weight") { 2 } else { 1 }));
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
    if let Some(scaling) = scaling(name, &own, facts) {
        map.insert("rope_scaling".to_owned(), scaling);
    }
    Ok(Config::new(map))
}

fn scaling<'a>(name: &str, own: &impl Fn(&str) -> Option<&'a Value>, facts: &Facts<'_>) -> Option<Value> {
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
    // gpt-oss was trained so; the converter drops it.
    scaling.insert("truncate".to_owned(), json!(name != "gpt-oss"));
    Some(Value::Object(scaling))
}
