//! Safetensors as they are published: one file or several, in f32, f16 and bf16.

use std::{collections::BTreeMap, fs, path::Path};

use half::{bf16, f16};
use safetensors::{Dtype, tensor::TensorView};
use sconce::model::{self, Options};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::{
    cases::{Case, answer, case, write_safetensors},
    weights::weights,
};

/// Writes half of the tensors into each of two files, and the index.
fn write_shards(case: &Case, directory: &Path) {
    let files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let mut map = BTreeMap::new();
    for (number, file) in files.into_iter().enumerate() {
        let own: Vec<_> = case.tensors.iter().skip(number).step_by(2).collect();
        write_safetensors(&directory.join(file), own.iter().copied());
        map.extend(own.into_iter().map(|(name, _)| (name.clone(), file)));
    }
    let index = json!({"metadata": {"total_size": 0}, "weight_map": map});
    fs::write(directory.join("model.safetensors.index.json"), index.to_string()).unwrap();
    fs::write(directory.join("config.json"), case.configs[0].to_string()).unwrap();
}

#[test]
fn several_files_are_one_model() {
    let case = case("qwen3_moe");
    let directory = tempdir().unwrap();
    write_shards(&case, directory.path());
    let mut model = model::open(directory.path()).unwrap().load(&Options::default()).unwrap();
    assert_eq!(answer(&mut *model, &case.input, 24).1, case.greedy);
}

#[test]
fn a_missing_file_a_missing_tensor_and_a_path_that_leads_out_are_named() {
    let case = case("llama");
    let directory = tempdir().unwrap();
    write_shards(&case, directory.path());
    let refusal = || model::open(directory.path()).err().unwrap().to_string();
    let index = directory.path().join("model.safetensors.index.json");
    let mut changed: Value = serde_json::from_str(&fs::read_to_string(&index).unwrap()).unwrap();
    changed["weight_map"]["more.weight"] = json!("model-00001-of-00002.safetensors");
    fs::write(&index, changed.to_string()).unwrap();
    assert_eq!(refusal(), "the model has no tensor more.weight");
    changed["weight_map"]["more.weight"] = json!("../model-00001-of-00002.safetensors");
    fs::write(&index, changed.to_string()).unwrap();
    assert!(refusal().contains("beside the index"), "{}", refusal());
    write_shards(&case, directory.path());
    fs::remove_file(directory.path().join("model-00002-of-00002.safetensors")).unwrap();
    assert!(refusal().contains("model-00002-of-00002.safetensors"), "{}", refusal());
}

/// Writes the weights rounded to a half type; `exact` writes the rounded values in f32.
fn write_half(case: &Case, directory: &Path, dtype: Dtype, exact: bool) {
    let mut made: BTreeMap<&String, (&Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (name, shape) in &case.tensors {
        let bytes = |value: f32| match (dtype, exact) {
            (Dtype::F16, false) => f16::from_f32(value).to_le_bytes().to_vec(),
            (Dtype::F16, true) => f16::from_f32(value).to_f32().to_le_bytes().to_vec(),
            (_, false) => bf16::from_f32(value).to_le_bytes().to_vec(),
            (_, true) => bf16::from_f32(value).to_f32().to_le_bytes().to_vec(),
        };
        made.insert(name, (shape, weights(name, shape).into_iter().flat_map(bytes).collect()));
    }
    let dtype = if exact { Dtype::F32 } else { dtype };
    let views = made
        .iter()
        .map(|(name, (shape, bytes))| (*name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, &directory.join("model.safetensors")).unwrap();
    fs::write(directory.join("config.json"), case.configs[0].to_string()).unwrap();
}

#[test]
fn half_weights_answer_as_the_same_numbers_in_f32() {
    for name in ["llama", "llama_llama3", "gpt2", "gpt_oss"] {
        let case = case(name);
        for dtype in [Dtype::F16, Dtype::BF16] {
            let [(half, half_tokens), (whole, whole_tokens)] = [false, true].map(|exact| {
                let directory = tempdir().unwrap();
                write_half(&case, directory.path(), dtype, exact);
                let mut model = model::open(directory.path()).unwrap().load(&Options::default()).unwrap();
                answer(&mut *model, &case.input, 8)
            });
            if dtype == Dtype::F16 {
                assert_eq!((half, half_tokens), (whole, whole_tokens), "{name}");
                continue;
            }
            // The inputs of these products are rounded too, to 8 bits of a number.
            let size = whole.iter().fold(0.0f32, |size, logit| size.max(logit.abs()));
            let difference = half.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference > 0.0 && difference < size / 50.0, "{name}: {difference} of {size}");
        }
    }
}

#[test]
fn memory_is_known_before_loading() {
    for (name, packed_embedding) in [("llama", false), ("llama_llama3", true)] {
        let case = case(name);
        let directory = tempdir().unwrap();
        case.write(directory.path(), &case.configs[0]);
        let memory = model::open(directory.path()).unwrap().memory(&Options::default()).unwrap();
        let mapped: usize = case.tensors.values().map(|shape| shape.iter().product::<usize>() * 4).sum();
        let embedding = if packed_embedding { 0 } else { 128 * 64 * 4 };
        assert_eq!(memory.mapped, mapped as u64, "{name}");
        assert_eq!(memory.weights, (mapped - embedding) as u64, "{name}");
        // Two layers, two heads of 16 keys and values, 16 positions, four bytes.
        assert_eq!(memory.block, 2 * 2 * 2 * 16 * 16 * 4, "{name}");
        let model = model::open(directory.path()).unwrap().load(&Options::default()).unwrap();
        assert_eq!(model.shape().block_bytes as u64, memory.block, "{name}");
        assert!(memory.row > 0, "{name}");
    }
}

#[test]
fn loading_tells_each_layer() {
    let case = case("llama");
    let directory = tempdir().unwrap();
    write_shards(&case, directory.path());
    let (sender, told) = std::sync::mpsc::channel();
    let model = model::open(directory.path()).unwrap();
    model.telling(move |done, of| sender.send((done, of)).unwrap()).load(&Options::default()).unwrap();
    let layers = case.configs[0]["num_hidden_layers"].as_u64().unwrap() as usize;
    assert!(layers > 1);
    assert_eq!(told.iter().collect::<Vec<_>>(), (0..=layers).map(|done| (done, layers)).collect::<Vec<_>>());
}
