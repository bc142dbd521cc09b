//! `sconce models inspect`: what it tells is what the API answers.
#![cfg(feature = "candle")]

mod common;
#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "each test uses a part of it")]
mod tiny;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use common::TestServer;
use serde_json::{Value, json};
use tempfile::TempDir;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

fn inspect(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sconce"))
        .args(["models", "inspect"])
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json_of(directory: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = inspect(directory, &[arguments, &["--json"]].concat());
    serde_json::from_str(&text(&output)).unwrap()
}

fn gguf(directory: &Path, name: &str) {
    fs::copy(fixture(&format!("gguf_text/{name}.gguf")), directory.join("model.gguf")).unwrap();
}

fn refused(directory: &Path, arguments: &[&str]) -> (i32, String) {
    let output = inspect(directory, arguments);
    assert!(output.stdout.is_empty());
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Two models of one configuration, one of them a directory.
fn write_both(directory: &Path) {
    fs::create_dir(directory.join("tiny")).unwrap();
    tiny::write(&directory.join("tiny"), tiny::Stored::F32);
    gguf(directory, "gemma2");
    let configuration = r#"
        max_tokens = 7
        [models."org/tiny"]
        backend = "candle"
        temperature = 0.5
        candle.source = "tiny"
        candle.context_length = 64
        candle.kv_cache = "1MiB"
        [models.lone]
        backend = "candle"
        candle.source = "model.gguf"
        candle.kv_cache = "1MiB"
        [models.echo]
        backend = "echo"
    "#;
    fs::write(directory.join("both.toml"), configuration).unwrap();
}

#[tokio::test]
async fn the_fingerprint_is_the_one_that_the_api_answers() {
    let directory = TempDir::new().unwrap();
    write_both(directory.path());
    let server = TestServer::start_in(directory, &["--config", "both.toml"]);
    server.ready().await;
    let all = json_of(server.directory.path(), &["--config", "both.toml"]);
    let ids: Vec<&Value> = all.iter().map(|report| &report["id"]).collect();
    assert_eq!(ids, ["org/tiny", "lone"]);
    for report in &all {
        let id = report["id"].as_str().unwrap();
        let body =
            json!({ "model": id, "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 1 });
        let answer = server.ok("/v1/chat/completions", &body).await;
        assert_eq!(report["fingerprint"], answer["system_fingerprint"], "{id}");
        let tokens = server.ok("/v1/tokenize", &json!({ "model": id, "prompt": "Hello" })).await;
        assert_eq!(report["context_length"], tokens["max_model_len"], "{id}");
        let mut alone = json_of(server.directory.path(), &[id, "--config", "both.toml"]).remove(0);
        // The machine's memory is the one thing that other programs change.
        alone["memory"]["available"] = report["memory"]["available"].clone();
        assert_eq!(&alone, report, "{id}");
    }
}

#[test]
fn the_fingerprint_can_be_made_from_its_lines() {
    let directory = TempDir::new().unwrap();
    gguf(directory.path(), "qwen2");
    let text = text(&inspect(directory.path(), &["model.gguf", "--set", "top_p=0.5"]));
    let report = &json_of(directory.path(), &["model.gguf", "--set", "top_p=0.5"])[0];
    let inputs = report["inputs"].as_array().unwrap();
    let mut lines = String::new();
    for input in inputs {
        let name = input["name"].as_str().unwrap();
        let content = match input["value"].as_str() {
            Some(value) => value.as_bytes().to_vec(),
            None => fs::read(directory.path().join(name)).unwrap(),
        };
        let hash = blake3::hash(&content).to_string();
        assert_eq!(input["blake3"], hash, "{name}");
        lines += &format!("{hash}  {name}\n");
        assert!(text.contains(&format!("{hash}  {name} ")), "{text}");
    }
    let names: Vec<&str> = inputs.iter().map(|input| input["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["model.gguf", "context_length", "max_tokens", "temperature", "top_p", "arithmetic", "text"]
    );
    let fingerprint = format!("fp_{}", &blake3::hash(lines.as_bytes()).to_string()[..24]);
    assert_eq!(report["fingerprint"], fingerprint);
    assert!(text.contains(&fingerprint), "{text}");
}

#[test]
fn the_name_of_a_gguf_file_and_its_neighbours_change_nothing_but_its_bytes_do() {
    let directory = TempDir::new().unwrap();
    gguf(directory.path(), "qwen2");
    let fingerprint = |name: &str| json_of(directory.path(), &[name])[0]["fingerprint"].clone();
    let first = fingerprint("model.gguf");
    fs::write(directory.path().join("README.md"), "hello").unwrap();
    fs::write(directory.path().join("other.json"), "{}").unwrap();
    fs::copy(fixture("gguf_text/gpt2.gguf"), directory.path().join("other.gguf")).unwrap();
    let mut bytes = fs::read(directory.path().join("model.gguf")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(directory.path().join("changed.gguf"), bytes).unwrap();
    fs::rename(directory.path().join("model.gguf"), directory.path().join("renamed.gguf")).unwrap();
    assert_eq!(fingerprint("renamed.gguf"), first);
    assert_ne!(fingerprint("changed.gguf"), first);
}

#[test]
fn a_models_nature_and_needs_are_told() {
    let directory = TempDir::new().unwrap();
    write_both(directory.path());
    let all = json_of(directory.path(), &["--config", "both.toml"]);
    let (tiny, lone) = (&all[0], &all[1]);
    let picked = |report: &Value, keys: &[&str]| -> Vec<Value> {
        keys.iter().map(|key| report.pointer(&format!("/{key}")).unwrap_or(&Value::Null).clone()).collect()
    };
    let keys = [
        "architecture",
        "format",
        "layers",
        "heads",
        "kv_heads",
        "hidden",
        "context_length",
        "tokenizer/kind",
        "tokenizer/found",
        "chat_template/found",
        "chat_template/system",
        "chat_template/tools",
        "defaults/max_tokens",
        "defaults/temperature",
        "defaults/top_k",
        "defaults/found",
        "memory/kv_cache",
    ];
    let expected = json!([
        "llama",
        "safetensors",
        2,
        4,
        2,
        64,
        64,
        "byte-level BPE",
        "tokenizer.json",
        "tokenizer_config.json",
        true,
        false,
        7,
        0.5,
        0,
        null,
        1 << 20
    ]);
    assert_eq!(Value::from(picked(tiny, &keys)), expected);
    let expected = json!([
        "gemma2",
        "gguf",
        1,
        2,
        1,
        32,
        256,
        "SentencePiece BPE",
        "metadata",
        "metadata",
        true,
        false,
        7,
        0.25,
        3,
        "metadata",
        1 << 20
    ]);
    assert_eq!(Value::from(picked(lone, &keys)), expected);
    // Every number of the files, counted by hand.
    let vocabulary = tiny["vocabulary"].as_u64().unwrap();
    let layer = 2 * 64 + 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96;
    assert_eq!(tiny["parameters"], 2 * vocabulary * 64 + 64 + 2 * layer);
    assert_eq!(tiny["elements"]["F32"]["tensors"], 3 + 2 * 9);
    assert_eq!(tiny["elements"]["F32"]["bytes"], 4 * tiny["parameters"].as_u64().unwrap());
    // Two layers, keys and values, two heads of sixteen numbers in f32: 512 bytes a token.
    assert_eq!(tiny["memory"]["kv_cache_tokens"], (1 << 20) / 512);
    assert_eq!(lone["elements"]["Q8_0"]["tensors"], 8);
    let ends: Vec<&Value> =
        lone["defaults"]["end_tokens"].as_array().unwrap().iter().map(|end| &end["text"]).collect();
    assert_eq!(ends, ["</s>", "<end_of_turn>"]);
    let text = text(&inspect(directory.path(), &["--config", "both.toml"]));
    for told in
        ["org/tiny: tiny\n", "lone: model.gguf\n", "gemma2 (gguf)", "generation prompt", "temperature 0.25"]
    {
        assert!(text.contains(told), "{told}: {text}");
    }
}

#[test]
fn how_a_model_marks_reasoning_and_calls_is_told() {
    let directory = TempDir::new().unwrap();
    for (model, reasoning, calls) in [("think", "<think>", "hermes"), ("harmony", "harmony", "harmony")] {
        let source = fixture(&format!("reciting/{model}"));
        let source = source.to_str().unwrap();
        let template = &json_of(directory.path(), &[source])[0]["chat_template"];
        assert_eq!(template["reasoning_mark"], reasoning);
        assert_eq!(template["tool_call_format"], calls);
        let told = text(&inspect(directory.path(), &[source]));
        assert!(told.contains(&format!("; reasoning by {reasoning}; tool calls as {calls}\n")), "{told}");
    }
}

#[test]
fn what_cannot_be_looked_at_is_told_with_its_status() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let (status, told) = refused(path, &["absent"]);
    assert_eq!(
        (status, told.as_str()),
        (66, "sconce: absent: neither a path nor a model of the configuration\n")
    );
    let (status, told) = refused(path, &[]);
    assert!(status == 66 && told.contains("name a directory or a file"), "{told}");
    let lost = ["lost", "--set", "models.lost.backend=candle", "--set", "models.lost.candle.source=gone"];
    let (status, told) = refused(path, &lost);
    assert!(status == 66 && told.contains("'lost'") && told.contains("gone"), "{told}");
    let (status, told) = refused(path, &["--set", "max_tokens=0"]);
    assert!(status == 78 && told.contains("max_tokens"), "{told}");
    fs::write(path.join("text.gguf"), "this is no GGUF file").unwrap();
    let (status, told) = refused(path, &["text.gguf"]);
    assert!(status == 65 && told.contains("text.gguf: it does not begin with GGUF"), "{told}");
}

/// A copy of a file with some bytes replaced by as many others.
fn changed(directory: &Path, name: &str, changes: &[(&str, &str)]) {
    let mut bytes = fs::read(fixture(&format!("gguf_text/{name}.gguf"))).unwrap();
    for (from, to) in changes {
        assert_eq!(from.len(), to.len());
        let place = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
    }
    fs::write(directory.join("model.gguf"), bytes).unwrap();
}

#[test]
fn vocabularies_that_are_not_known_are_refused_by_name() {
    let directory = TempDir::new().unwrap();
    let model = "tokenizer.ggml.model\u{8}\0\0\0\u{4}\0\0\0\0\0\0\0gpt2";
    let pre = "tokenizer.ggml.pre\u{8}\0\0\0\u{5}\0\0\0\0\0\0\0qwen2";
    for (from, to, told) in [
        (
            model,
            model.replace("gpt2", "bert"),
            "bert (WordPiece), which is not supported; supported are gpt2",
        ),
        (model, model.replace("gpt2", "rwkv"), "of the kind rwkv, which is not supported"),
        (
            pre,
            pre.replace("qwen2", "qwenX"),
            "its pre-tokenizer 'qwenX' is not known; known are default, gpt-2",
        ),
        ("tokenizer.ggml.pre", "tokenizer.ggml.pro".to_owned(), "does not say how texts are cut"),
        (
            "tokenizer.ggml.merges",
            "tokenizer.ggml.mergez".to_owned(),
            "has no merges (tokenizer.ggml.merges)",
        ),
        (
            "tokenizer.ggml.tokens",
            "tokenizer.ggml.tokenz".to_owned(),
            "has no tokens (tokenizer.ggml.tokens)",
        ),
        (
            "tokenizer.ggml.model",
            "tokenizer.ggml.mode1".to_owned(),
            "has no tokenizer (tokenizer.ggml.model)",
        ),
    ] {
        changed(directory.path(), "qwen2", &[(from, &to)]);
        let (status, error) = refused(directory.path(), &["model.gguf"]);
        assert!(status == 65 && error.contains(told) && error.contains("model.gguf"), "{error}");
        assert!(error.contains("a tokenizer.json beside it would be taken instead"), "{error}");
        // And so it is.
        fs::copy(fixture("tokenizers/byte_level.json"), directory.path().join("tokenizer.json")).unwrap();
        let report = &json_of(directory.path(), &["model.gguf"])[0];
        assert_eq!(report["tokenizer"]["found"], "tokenizer.json");
        assert_eq!(report["inputs"][0]["name"], "tokenizer.json");
        fs::remove_file(directory.path().join("tokenizer.json")).unwrap();
    }
}
