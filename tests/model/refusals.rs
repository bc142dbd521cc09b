//! What cannot be loaded or run is refused in words.

use std::fs;

use sconce::model::{self, Chunk, Options, Rows};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::cases::{Case, answer, case};

/// The error of loading a case with another configuration.
fn refusal(case: &Case, config: &Value) -> String {
    let directory = tempdir().unwrap();
    case.write(directory.path(), config);
    let loaded = model::open(directory.path()).and_then(|model| model.load(&Options::default()));
    loaded.err().unwrap().to_string()
}

fn with(config: &Value, key: &str, value: Value) -> Value {
    let mut config = config.clone();
    config[key] = value;
    config
}

#[test]
fn an_unknown_architecture_is_named_with_those_that_are_known() {
    let case = case("llama");
    let text = refusal(&case, &with(&case.configs[0], "model_type", json!("mamba")));
    assert!(text.contains("\"mamba\"") && text.contains("llama, ") && text.contains("gpt_oss"), "{text}");
}

#[test]
fn what_the_configuration_lacks_or_misstates_is_named() {
    let case = case("llama");
    let config = &case.configs[0];
    let text = refusal(&case, &with(config, "hidden_size", Value::Null));
    assert!(text.contains("hidden_size"), "{text}");
    let text = refusal(&case, &with(config, "num_hidden_layers", json!("two")));
    assert!(text.contains("num_hidden_layers is \"two\""), "{text}");
    let text = refusal(&case, &with(config, "hidden_act", json!("tanhshrink")));
    assert!(text.contains("tanhshrink"), "{text}");
    let text =
        refusal(&case, &with(config, "rope_parameters", json!({"rope_type": "dynamic", "factor": 2.0})));
    assert!(text.contains("dynamic"), "{text}");
}

#[test]
fn a_quantized_checkpoint_is_refused_by_its_method_with_what_is_supported() {
    let case = case("llama");
    for method in ["gptq", "awq", "mxfp4"] {
        let text =
            refusal(&case, &with(&case.configs[0], "quantization_config", json!({"quant_method": method})));
        assert!(text.contains(&format!("llama quantized by {method}")), "{text}");
        assert!(text.contains("mxfp4 of gpt_oss, and GGUF"), "{text}");
    }
}

#[test]
fn missing_extra_and_misshapen_tensors_are_named() {
    let case = case("llama");
    let config = &case.configs[0];
    let mut fewer = case.clone();
    fewer.tensors.remove("model.layers.1.mlp.up_proj.weight");
    assert_eq!(refusal(&fewer, config), "the model has no tensor model.layers.1.mlp.up_proj.weight");
    let mut more = case.clone();
    more.tensors.insert("model.layers.0.self_attn.q_proj.bias".to_owned(), vec![64]);
    let text = refusal(&more, config);
    assert!(text.contains("1 tensors") && text.contains("q_proj.bias"), "{text}");
    let text = refusal(&case, &with(config, "intermediate_size", json!(100)));
    assert!(text.contains("[96, 64]") && text.contains("[100, 64]"), "{text}");
}

#[test]
fn a_file_that_is_cut_short_is_named() {
    let case = case("llama");
    let directory = tempdir().unwrap();
    case.write(directory.path(), &case.configs[0]);
    let path = directory.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    let text = model::open(directory.path()).err().unwrap().to_string();
    assert!(text.contains("model.safetensors"), "{text}");
}

#[test]
fn a_batch_that_does_not_fit_is_refused_and_the_model_stays_usable() {
    let case = case("qwen2");
    let mut model = case.load(&case.configs[0], &case.options(1));
    model.allocate(2).unwrap();
    let blocks = [0, 1];
    let chunk = Chunk { tokens: &[1, 2, 3], start: 0, blocks: &blocks, rows: Rows::Last, adapter: None };
    let wrong = [
        Chunk { tokens: &[128], ..chunk },
        Chunk { start: 30, ..chunk },
        Chunk { start: 300, ..chunk },
        Chunk { blocks: &[5], ..chunk },
        Chunk { adapter: Some(0), ..chunk },
    ];
    for chunk in wrong {
        assert!(model.forward(&[chunk]).is_err());
    }
    assert!(model.copy_block(0, 2).is_err() && model.copy_block(2, 0).is_err());
    assert!(model.forward(&[]).unwrap().is_empty());
    let (logits, _) = answer(&mut *model, &case.input, 0);
    assert_eq!(logits.len(), 128);
}
