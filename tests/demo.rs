//! The demo model inside the program: a real model's answers, held against those of Hugging Face transformers.
#![cfg(feature = "candle")]

mod common;

use std::{fs, path::PathBuf, process::Command};

use common::{TestServer, with};
use futures_util::future::join_all;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

async fn server(arguments: &[&str]) -> TestServer {
    let server = TestServer::start(arguments);
    server.ready().await;
    server
}

async fn demo() -> TestServer {
    server(&["--demo"]).await
}

fn path(of: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(of)
}

/// Greedy answers of at most 64 tokens, completions of at most 16 (tools/demo/reference.py).
fn reference() -> Value {
    serde_json::from_slice(&fs::read(path("tests/fixtures/demo.json")).unwrap()).unwrap()
}

fn greedy(text: &str) -> Value {
    json!({ "model": "demo", "messages": [{ "role": "user", "content": text }], "temperature": 0, "max_tokens": 64 })
}

fn drawn(text: &str, seed: u32) -> Value {
    with(greedy(text), json!({ "temperature": 1.0, "top_p": 1.0, "seed": seed }))
}

fn said(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

fn streamed(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

/// The reference's tokens of the answer to `text`, whose joined text it is.
fn tokens(text: &str) -> Vec<String> {
    let reference = reference();
    let asked = json!([{ "role": "user", "content": text }]);
    let chat = reference["chats"].as_array().unwrap().iter().find(|chat| chat["messages"] == asked).unwrap();
    chat["tokens"].as_array().unwrap().iter().map(|token| token.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn hello_is_answered_with_these_bytes() {
    let server = demo().await;
    for text in ["hello", "Hello!", "HELLO"] {
        let answer = server.ok(CHAT, &greedy(text)).await;
        assert_eq!(said(&answer), "Hello! I am the demo model of sconce. How can I help you?", "{text}");
        assert_eq!(answer["model"], "demo");
    }
}

#[tokio::test]
async fn answers_are_those_of_transformers_whole_and_streamed() {
    let server = demo().await;
    let reference = reference();
    for expected in reference["chats"].as_array().unwrap() {
        let body = with(greedy(""), json!({ "messages": expected["messages"] }));
        let answer = server.ok(CHAT, &with(body.clone(), json!({ "logprobs": true }))).await;
        let choice = &answer["choices"][0];
        assert_eq!(choice["message"]["content"], expected["text"]);
        assert_eq!(choice["finish_reason"], expected["finish_reason"], "{expected}");
        assert_eq!(answer["usage"]["prompt_tokens"], expected["prompt_tokens"], "{expected}");
        assert_eq!(answer["usage"]["completion_tokens"], expected["completion_tokens"], "{expected}");
        let tokens =
            choice["logprobs"]["content"].as_array().unwrap().iter().map(|token| token["token"].clone());
        assert_eq!(Value::from_iter(tokens), expected["tokens"]);
        assert_eq!(streamed(&server.stream(CHAT, &body).await), said(&answer));
    }
    for expected in reference["completions"].as_array().unwrap() {
        let body =
            json!({ "model": "demo", "prompt": expected["prompt"], "temperature": 0, "max_tokens": 16 });
        let answer = server.ok("/v1/completions", &body).await;
        assert_eq!(answer["choices"][0]["text"], expected["text"]);
        assert_eq!(answer["usage"]["prompt_tokens"], expected["prompt_tokens"], "{expected}");
    }
}

#[tokio::test]
async fn the_files_say_the_same_from_a_directory() {
    let source = format!("candle.source={}", path("assets/demo").display());
    let server = server(&["--backend", "candle", "--model-id", "demo", "--set", &source]).await;
    let answer = server.ok(CHAT, &greedy("What is sconce?")).await;
    assert_eq!(said(&answer), tokens("What is sconce?").concat());
}

#[tokio::test]
async fn stop_texts_end_the_answer_wherever_tokens_do() {
    let server = demo().await;
    let whole = tokens("hello").concat();
    for length in [1, 8] {
        let ends = (0..whole.len() - length).step_by(5).map(|start| &whole[start..start + length]);
        let answers = join_all(ends.map(|stop| {
            let body = with(greedy("hello"), json!({ "stop": ["absent", stop] }));
            let server = &server;
            async move { (stop, server.ok(CHAT, &body).await, server.stream(CHAT, &body).await) }
        }));
        for (stop, answer, chunks) in answers.await {
            let before = &whole[..whole.find(stop).unwrap()];
            assert_eq!((said(&answer), &answer["choices"][0]["finish_reason"]), (before, &json!("stop")));
            assert_eq!(streamed(&chunks), before, "{stop:?}");
        }
    }
}

#[tokio::test]
async fn limits_cut_between_tokens() {
    let server = demo().await;
    let tokens = tokens("hello");
    for limit in 1..=tokens.len() {
        let answer = server.ok(CHAT, &with(greedy("hello"), json!({ "max_tokens": limit }))).await;
        assert_eq!(said(&answer), tokens[..limit].concat());
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
        assert_eq!(answer["usage"]["completion_tokens"], limit);
    }
}

#[tokio::test]
async fn seeds_repeat_and_differ() {
    let server = demo().await;
    let story = "Tell me a story.";
    let mut stories = Vec::new();
    for seed in 0..3 {
        let body = with(drawn(story, seed), json!({ "n": 2, "max_tokens": 24 }));
        let answer = server.ok(CHAT, &body).await;
        assert_eq!(server.ok(CHAT, &body).await["choices"], answer["choices"]);
        for choice in 0..2 {
            stories.push(answer["choices"][choice]["message"]["content"].as_str().unwrap().to_owned());
        }
    }
    stories.sort();
    stories.dedup();
    assert_eq!(stories.len(), 6, "{stories:#?}");
}

#[tokio::test]
async fn logprobs_are_of_a_distribution() {
    let server = demo().await;
    let body = with(greedy("Tell me a joke"), json!({ "logprobs": true, "top_logprobs": 20 }));
    let answer = server.ok(CHAT, &body).await;
    let content = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert!(content.len() > 5);
    for token in content {
        let top = token["top_logprobs"].as_array().unwrap();
        let logprobs: Vec<f64> = top.iter().map(|top| top["logprob"].as_f64().unwrap()).collect();
        assert_eq!(top.len(), 20);
        assert_eq!((&top[0]["token"], &top[0]["logprob"]), (&token["token"], &token["logprob"]), "greedy");
        assert!(logprobs.is_sorted_by(|a, b| a >= b), "{logprobs:?}");
        let sum: f64 = logprobs.iter().map(|logprob| logprob.exp()).sum();
        assert!((0.5..1.0001).contains(&sum), "{sum}");
    }
}

#[tokio::test]
async fn answers_are_the_same_alone_and_in_a_crowd() {
    let asked = [
        "hello",
        "Tell me a story about a fox.",
        "What is sconce?",
        "Count to ten.",
        "Write a poem about a lamp",
    ];
    let requests: Vec<Value> = (0..12u32)
        .map(|n| {
            let fields =
                json!({ "temperature": f64::from(n % 3) * 0.7, "n": 1 + n % 2, "max_tokens": 8 + n });
            with(drawn(asked[n as usize % asked.len()], n), fields)
        })
        .collect();
    let alone = server(&["--demo", "--set", "candle.threads=1", "--set", "candle.prefix_cache=false"]).await;
    let mut expected = Vec::new();
    for request in &requests {
        expected.push(alone.ok(CHAT, request).await["choices"].clone());
    }
    let crowd = server(&["--demo", "--set", "candle.threads=3", "--set", "candle.max_batch_tokens=40"]).await;
    let answers = join_all(requests.iter().map(|request| crowd.ok(CHAT, request))).await;
    for (answer, expected) in answers.into_iter().zip(expected) {
        assert_eq!(answer["choices"], expected);
    }
}

fn sconce(arguments: &[&str]) -> (Option<i32>, String, String) {
    let empty = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sconce"))
        .args(arguments)
        .current_dir(empty.path())
        .env_clear()
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_flag_is_short_for_keys_of_the_configuration() {
    let (status, printed, _) = sconce(&["--demo", "print-config", "--with-sources", "--model-id", "other"]);
    assert_eq!(status, Some(0));
    for line in [
        r#"backend = "candle" # from --demo"#,
        r#"source = "builtin:demo" # from --demo"#,
        r#"model_id = "other" # from --model-id"#,
    ] {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(printed.lines().any(|printed| words(printed) == line), "{line}\n{printed}");
    }
    let (status, _, told) = sconce(&["--demo", "--backend", "echo"]);
    assert_eq!(status, Some(64), "{told}");
}

#[test]
fn another_builtin_model_is_refused_with_those_that_there_are() {
    let arguments = ["check-config", "--backend", "candle", "--set", "candle.source=builtin:large"];
    let (status, _, told) = sconce(&arguments);
    assert_eq!(status, Some(78));
    assert!(told.contains("candle.source") && told.contains("`builtin:demo`"), "{told}");
}
