//! Tiny encoders of tests/fixtures/encoders.json with a WordPiece tokenizer of single letters.

use std::{collections::BTreeMap, fs, path::Path};

use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::{common::TestServer, weights::weights};

/// Tokens that it takes, by its sentence-transformers file.
pub(crate) const LIMIT: usize = 40;
/// Values in its vectors.
pub(crate) const WIDTH: usize = 64;

/// Writes a model of the fixture into a directory, with the files of a trained one.
pub(crate) fn write(directory: &Path, name: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/encoders.json");
    let golden: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    let case = cases.iter().find(|case| case["name"] == name).unwrap();
    let shapes: BTreeMap<String, Vec<usize>> = serde_json::from_value(case["tensors"].clone()).unwrap();
    let made: Vec<(&String, &Vec<usize>, Vec<u8>)> = shapes
        .iter()
        .map(|(name, shape)| {
            (name, shape, weights(name, shape).iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views = made
        .iter()
        .map(|(name, shape, bytes)| (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, &directory.join("model.safetensors")).unwrap();
    let file = |name: &str, content: &Value| fs::write(directory.join(name), content.to_string()).unwrap();
    file("config.json", &case["configs"][0]);
    file("tokenizer.json", &tokenizer());
    file("sentence_bert_config.json", &json!({ "max_seq_length": LIMIT, "do_lower_case": false }));
}

/// As a model for embeddings: mean, of length 1, with prompts.
pub(crate) fn write_embedder(directory: &Path) {
    write(directory, "bert");
    let file = |name: &str, content: &Value| fs::write(directory.join(name), content.to_string()).unwrap();
    let module = |idx: usize, name: &str, path: &str| json!({ "idx": idx, "name": idx.to_string(), "path": path, "type": format!("sentence_transformers.models.{name}") });
    file(
        "modules.json",
        &json!([
            module(0, "Transformer", ""),
            module(1, "Pooling", "1_Pooling"),
            module(2, "Normalize", "2_Normalize")
        ]),
    );
    fs::create_dir(directory.join("1_Pooling")).unwrap();
    file(
        "1_Pooling/config.json",
        &json!({ "word_embedding_dimension": WIDTH, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true }),
    );
    file(
        "config_sentence_transformers.json",
        &json!({ "prompts": { "query": "ask: ", "plain": "" }, "default_prompt_name": null }),
    );
}

/// A daemon that serves what is in the directory, ready.
pub(crate) async fn serve(directory: TempDir, settings: &[&str]) -> TestServer {
    let mut arguments = vec!["--backend", "candle", "--model-id", "tiny", "--set", "candle.source=."];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let server = TestServer::start_in(directory, &arguments);
    server.ready().await;
    server
}

pub(crate) async fn embedder(settings: &[&str]) -> TestServer {
    let directory = TempDir::new().unwrap();
    write_embedder(directory.path());
    serve(directory, settings).await
}

pub(crate) async fn reranker(name: &str, settings: &[&str]) -> TestServer {
    let directory = TempDir::new().unwrap();
    write(directory.path(), name);
    serve(directory, settings).await
}

/// Letters, digits and some signs, at the beginning of a word and within. Cuts and fills up, which a server must not do
/// by itself.
fn tokenizer() -> Value {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let mut vocabulary = Map::new();
    let letters = ('a'..='z').chain('0'..='9');
    let tokens = special.iter().map(|token| (*token).to_owned());
    let tokens =
        tokens.chain(letters.clone().map(String::from)).chain(letters.map(|letter| format!("##{letter}")));
    for (id, token) in tokens.chain([":", ".", "?"].map(str::to_owned)).enumerate() {
        vocabulary.insert(token, id.into());
    }
    let added: Vec<Value> = special
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
        })
        .collect();
    let own = |id: &str, kind: u32| json!({ "SpecialToken": { "id": id, "type_id": kind } });
    let text = |id: &str, kind: u32| json!({ "Sequence": { "id": id, "type_id": kind } });
    let named = |id: u32, token: &str| json!({ "id": token, "ids": [id], "tokens": [token] });
    json!({
        "version": "1.0",
        "truncation": { "direction": "Right", "max_length": 7, "strategy": "LongestFirst", "stride": 0 },
        "padding": { "strategy": { "Fixed": 50 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "[PAD]" },
        "added_tokens": added,
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [own("[CLS]", 0), text("A", 0), own("[SEP]", 0)],
            "pair": [own("[CLS]", 0), text("A", 0), own("[SEP]", 0), text("B", 1), own("[SEP]", 1)],
            "special_tokens": { "[CLS]": named(2, "[CLS]"), "[SEP]": named(3, "[SEP]") },
        },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary },
    })
}
