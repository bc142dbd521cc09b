//! A tiny llama with made-up weights: it says nothing of sense, always the same.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::TestServer;

const HIDDEN: usize = 64;
const INNER: usize = 96;
const LAYERS: usize = 2;
pub(crate) const CONTEXT: usize = 8192;

/// What the weights are stored in.
#[derive(Clone, Copy)]
pub(crate) enum Stored {
    F32,
    Bf16,
}

/// Writes a model in Hugging Face's layout: configuration, weights, tokenizer, chat template.
pub(crate) fn write(directory: &Path, stored: Stored) {
    write_another(directory, stored, 1);
}

/// One with other weights for each seed.
pub(crate) fn write_another(directory: &Path, stored: Stored, seed: u64) {
    let tokenizer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tokenizers/byte_level.json");
    let tokenizer: Value = serde_json::from_slice(&fs::read(tokenizer).unwrap()).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object().unwrap().len()
        + tokenizer["added_tokens"].as_array().map_or(0, Vec::len);
    let config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"],
        "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": vocabulary,
        "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "tie_word_embeddings": false, "torch_dtype": "float32",
    });
    let template = "{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}\
                    {% if add_generation_prompt %}<assistant>{% endif %}";
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    fs::write(directory.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(directory.join("tokenizer_config.json"), json!({ "chat_template": template }).to_string())
        .unwrap();
    fs::write(directory.join("model.safetensors"), weights(vocabulary, stored, seed)).unwrap();
}

/// A daemon that serves it, ready.
pub(crate) async fn server(stored: Stored, settings: &[&str]) -> TestServer {
    let directory = TempDir::new().unwrap();
    write(directory.path(), stored);
    let mut arguments = vec!["--backend", "candle", "--model-id", "tiny", "--set", "candle.source=."];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let server = TestServer::start_in(directory, &arguments);
    server.ready().await;
    server
}

/// Everything of an answer that must be the same when the same is asked again.
pub(crate) fn comparable(mut answer: Value) -> String {
    answer["id"] = Value::Null;
    answer["created"] = Value::Null;
    // What was found in the prefix cache is a matter of what came before.
    answer["usage"]["prompt_tokens_details"]["cached_tokens"] = Value::Null;
    answer.to_string()
}

/// Writes a LoRA adapter for it, in PEFT's layout.
pub(crate) fn write_adapter(directory: &Path, seed: u64) {
    const RANK: usize = 4;
    let config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 8, "bias": "none",
        "target_modules": ["q_proj", "v_proj", "down_proj"],
    });
    let mut tensors = Vec::new();
    for layer in 0..LAYERS {
        for (name, outputs, inputs) in [
            ("self_attn.q_proj", HIDDEN, HIDDEN),
            ("self_attn.v_proj", HIDDEN / 2, HIDDEN),
            ("mlp.down_proj", HIDDEN, INNER),
        ] {
            let name = format!("base_model.model.model.layers.{layer}.{name}");
            tensors.push((format!("{name}.lora_A.weight"), vec![RANK, inputs]));
            tensors.push((format!("{name}.lora_B.weight"), vec![outputs, RANK]));
        }
    }
    fs::create_dir(directory).unwrap();
    fs::write(directory.join("adapter_config.json"), config.to_string()).unwrap();
    fs::write(directory.join("adapter_model.safetensors"), file(tensors, Stored::F32, seed)).unwrap();
}

fn weights(vocabulary: usize, stored: Stored, seed: u64) -> Vec<u8> {
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocabulary, HIDDEN]),
        ("lm_head.weight".to_owned(), vec![vocabulary, HIDDEN]),
        ("model.norm.weight".to_owned(), vec![HIDDEN]),
    ];
    for layer in 0..LAYERS {
        for (name, shape) in [
            ("input_layernorm", vec![HIDDEN]),
            ("post_attention_layernorm", vec![HIDDEN]),
            ("self_attn.q_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.k_proj", vec![HIDDEN / 2, HIDDEN]),
            ("self_attn.v_proj", vec![HIDDEN / 2, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, HIDDEN]),
            ("mlp.gate_proj", vec![INNER, HIDDEN]),
            ("mlp.up_proj", vec![INNER, HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, INNER]),
        ] {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    file(tensors, stored, seed)
}

/// Tensors with made-up values. The file's format: a little-endian length, a JSON header, the tensors
/// (github.com/huggingface/safetensors).
fn file(tensors: Vec<(String, Vec<usize>)>, stored: Stored, seed: u64) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data: Vec<u8> = Vec::new();
    let mut state = seed;
    for (name, shape) in tensors {
        let begin = data.len();
        let norm = shape.len() == 1;
        for _ in 0..shape.iter().product::<usize>() {
            // Knuth's linear congruential generator; its high bits are good enough to look like weights.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let unit = (state >> 40) as f32 / (1 << 24) as f32 - 0.5_f32;
            let bytes = (if norm { 1.0 } else { unit * 0.6 }).to_le_bytes();
            // bfloat16 is the upper half; nobody asks for the nearest.
            data.extend(match stored {
                Stored::F32 => &bytes[..],
                Stored::Bf16 => &bytes[2..],
            });
        }
        let dtype = match stored {
            Stored::F32 => "F32",
            Stored::Bf16 => "BF16",
        };
        header.insert(name, json!({ "dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()] }));
    }
    let header = Value::from(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}
