//! GGUF files with nothing beside them, through the daemon. `tests/fixtures/gguf_text.py` wrote the files with the public
//! `gguf` package, and what transformers and sentencepiece make of texts with the same vocabularies.
#![cfg(feature = "candle")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{TestServer, with};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

const CHAT: &str = "/v1/chat/completions";

#[derive(Deserialize)]
struct Case {
    name: String,
    vocabulary: usize,
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
}

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

fn cases() -> Vec<Case> {
    serde_json::from_str(&fs::read_to_string(fixture("gguf_text.json")).unwrap()).unwrap()
}

/// Each file in a directory of its own, all served by one daemon.
async fn server() -> TestServer {
    let directory = TempDir::new().unwrap();
    let mut arguments = Vec::new();
    for case in cases() {
        let own = directory.path().join(&case.name);
        fs::create_dir(&own).unwrap();
        fs::copy(fixture(&format!("gguf_text/{}.gguf", case.name)), own.join("model.gguf")).unwrap();
        let table = format!("models.\"{}\"", case.name);
        let source = format!("{table}.candle.source={}/model.gguf", case.name);
        let cache = format!("{table}.candle.kv_cache=1MiB");
        for setting in [format!("{table}.backend=candle"), source, cache] {
            arguments.extend(["--set".to_owned(), setting]);
        }
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = TestServer::start_in(directory, &arguments);
    server.ready().await;
    server
}

async fn decoded(server: &TestServer, model: &str, tokens: &[u32]) -> String {
    let answer = server.ok("/v1/detokenize", &json!({ "model": model, "tokens": tokens })).await;
    answer["prompt"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn texts_become_the_tokens_that_the_references_give_and_come_back() {
    let server = server().await;
    let mut wrong = Vec::new();
    for case in cases() {
        let bos = match case.name.as_str() {
            "llama3" | "phi3" | "gemma2" => 1,
            _ => 0,
        };
        for Text { text, ids } in &case.texts {
            let body = json!({ "model": case.name, "prompt": text });
            let answer = server.ok("/v1/tokenize", &body).await;
            let own: Vec<u32> = serde_json::from_value(answer["tokens"].clone()).unwrap();
            if &own != ids {
                wrong.push(format!("{} {text:?}: {own:?}, not {ids:?}", case.name));
            }
            let back = decoded(&server, &case.name, &own[bos..]).await;
            // SentencePiece puts a space behind control tokens too, and its mark for a space is a space.
            let exact =
                case.name != "phi3" || !["<s>", "</s>", "<unk>"].iter().any(|token| text.contains(token));
            let marks = matches!(case.name.as_str(), "phi3" | "gemma2");
            let expected = if marks { text.replace('▁', " ") } else { text.clone() };
            if exact && back != expected {
                wrong.push(format!("{} {text:?} comes back as {back:?}", case.name));
            }
        }
        assert!(case.vocabulary > 400 && case.texts.len() > 40, "{}", case.name);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_lone_file_chats_with_its_own_template_and_ends_where_it_says() {
    let server = server().await;
    for (model, prompt, ends) in [
        (
            "qwen2",
            "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
            &["<|im_end|>", "<|endoftext|>"][..],
        ),
        // Its file names <|endoftext|> alone.
        (
            "llama3",
            "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
            &["<|im_end|>", "<|endoftext|>"],
        ),
        (
            "gemma2",
            "<s><start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n",
            &["</s>", "<end_of_turn>"],
        ),
        // Without a template of its own.
        ("gpt2", "user: Hello\nassistant:", &["<|endoftext|>"]),
    ] {
        let messages = json!([{ "role": "user", "content": "Hello" }]);
        let body = json!({ "model": model, "messages": messages });
        let tokens = server.ok("/v1/tokenize", &body).await;
        let ids: Vec<u32> = serde_json::from_value(tokens["tokens"].clone()).unwrap();
        assert_eq!(decoded(&server, model, &ids).await, prompt, "{model}");
        let body = with(body, json!({ "max_tokens": 16, "temperature": 0 }));
        let answer = server.ok(CHAT, &body).await;
        assert_eq!(answer["usage"]["prompt_tokens"], ids.len(), "{model}");
        for end in ends {
            let id = server.ok("/v1/tokenize", &json!({ "model": model, "prompt": end })).await["tokens"]
                .as_array()
                .and_then(|tokens| tokens.last()?.as_u64())
                .unwrap();
            let mut bias = serde_json::Map::new();
            bias.insert(id.to_string(), json!(100));
            let answer = server.ok(CHAT, &with(body.clone(), json!({ "logit_bias": bias }))).await;
            let choice = &answer["choices"][0];
            assert_eq!(
                (&choice["finish_reason"], &choice["message"]["content"]),
                (&json!("stop"), &json!("")),
                "{model} {end}"
            );
        }
    }
}

#[tokio::test]
async fn a_tokenizer_and_a_template_beside_the_file_are_taken_instead() {
    let directory = TempDir::new().unwrap();
    fs::copy(fixture("gguf_text/qwen2.gguf"), directory.path().join("model.gguf")).unwrap();
    fs::copy(fixture("tokenizers/byte_level.json"), directory.path().join("tokenizer.json")).unwrap();
    fs::write(directory.path().join("chat_template.jinja"), "{{ messages[0].content }}!").unwrap();
    let arguments = ["--backend", "candle", "--model-id", "tiny", "--set", "candle.source=model.gguf"];
    let server = TestServer::start_in(directory, &arguments);
    server.ready().await;
    let body = json!({ "model": "tiny", "messages": [{ "role": "user", "content": "<|im_start|>" }] });
    let answer: Value = server.ok("/v1/tokenize", &body).await;
    let ids: Vec<u32> = serde_json::from_value(answer["tokens"].clone()).unwrap();
    // In that file it has the fourth id; the vocabulary of the model has it near the end.
    assert_eq!((ids[0], ids.len()), (3, 2));
    assert_eq!(decoded(&server, "tiny", &ids).await, "<|im_start|>!");
}
