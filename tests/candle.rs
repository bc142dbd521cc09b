//! The candle backend through the daemon, on a tiny model with made-up weights.
#![cfg(feature = "candle")]

mod common;
#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "each test uses a part of it")]
mod tiny;

use std::time::{Duration, Instant};

use common::{LONG, TestServer, metric, with};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;

const CHAT: &str = "/v1/chat/completions";

fn chat(text: &str) -> Value {
    json!({ "model": "tiny", "messages": [{ "role": "user", "content": text }], "max_tokens": 24, "temperature": 0 })
}

fn said(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

#[tokio::test]
async fn a_real_model_answers_whole_and_streamed_alike() {
    let server = tiny::server(tiny::Stored::F32, &[]).await;
    let body = with(
        chat("hello"),
        json!({ "n": 2, "seed": 1, "temperature": 1.0, "logprobs": true, "top_logprobs": 3 }),
    );
    let whole = server.ok(CHAT, &body).await;
    assert_eq!(whole["usage"]["completion_tokens"], 48);
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    assert!(whole["system_fingerprint"].as_str().unwrap().starts_with("fp_"));
    assert_ne!(said(&whole), whole["choices"][1]["message"]["content"], "two draws are two draws");
    let chunks = server.stream(CHAT, &body).await;
    for choice in 0..2 {
        let of = |chunk: &Value| {
            chunk["choices"].as_array().unwrap().iter().find(|c| c["index"] == choice).cloned()
        };
        let deltas: Vec<Value> = chunks.iter().filter_map(of).collect();
        let text: String = deltas.iter().filter_map(|delta| delta["delta"]["content"].as_str()).collect();
        assert_eq!(text, whole["choices"][choice]["message"]["content"]);
        let tokens: Vec<Value> = deltas
            .iter()
            .filter_map(|delta| delta["logprobs"]["content"].as_array().cloned())
            .flatten()
            .collect();
        assert_eq!(Value::from(tokens), whole["choices"][choice]["logprobs"]["content"]);
    }
    let token = &whole["choices"][0]["logprobs"]["content"][0];
    assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 3);
    assert!(token["logprob"].as_f64().unwrap() < 0.0);
}

#[tokio::test]
async fn the_same_request_gives_the_same_bytes_whatever_else_runs() {
    let requests: Vec<Value> = (0..40)
        .map(|n: i64| {
            let text = format!("{} question {n}", "the same beginning ".repeat(n as usize % 7));
            let fields = json!({
                "seed": n, "temperature": f64::from(n as u32 % 3) * 0.6, "n": 1 + n % 3, "max_tokens": 1 + n % 40,
                "top_p": 0.9, "presence_penalty": 0.5, "logprobs": n % 2 == 0,
            });
            with(chat(&text), fields)
        })
        .collect();
    let alone = tiny::server(tiny::Stored::F32, &["candle.threads=1", "candle.prefix_cache=false"]).await;
    let mut expected = Vec::new();
    for request in &requests {
        expected.push(tiny::comparable(alone.ok(CHAT, request).await));
    }
    // A cache of 40 blocks holds a few requests at a time: the others wait, or make room and are run again.
    let block = 16 * 2 * 2 * 32 * 4;
    let cache = format!("candle.kv_cache={}", 40 * block);
    for threads in ["candle.threads=1", "candle.threads=2", "candle.threads=4"] {
        let busy = tiny::server(tiny::Stored::F32, &[threads, &cache, "candle.max_batch_tokens=24"]).await;
        for _ in 0..2 {
            let answers = join_all(requests.iter().map(|request| busy.ok(CHAT, request))).await;
            for (answer, expected) in answers.into_iter().zip(&expected) {
                assert_eq!(&tiny::comparable(answer), expected, "{threads}");
            }
        }
    }
}

#[tokio::test]
async fn stop_texts_end_the_answer_before_them() {
    let server = tiny::server(tiny::Stored::F32, &[]).await;
    let whole = server.ok(CHAT, &chat("hello")).await;
    let text = said(&whole).to_owned();
    let middle: String = text.chars().skip(text.chars().count() / 2).take(3).collect();
    let before = &text[..text.find(&middle).unwrap()];
    let body = with(chat("hello"), json!({ "stop": [middle] }));
    let answer = server.ok(CHAT, &body).await;
    assert_eq!((said(&answer), &answer["choices"][0]["finish_reason"]), (before, &json!("stop")));
    let chunks = server.stream(CHAT, &body).await;
    let streamed: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(streamed, before);
}

#[tokio::test]
async fn the_prompt_is_what_tokenize_says() {
    let server = tiny::server(tiny::Stored::F32, &[]).await;
    let messages = json!([{ "role": "system", "content": "s" }, { "role": "user", "content": "hé" }]);
    let tokens = server.ok("/v1/tokenize", &json!({ "model": "tiny", "messages": messages })).await;
    assert_eq!(tokens["max_model_len"], tiny::CONTEXT);
    let text = server.ok("/v1/detokenize", &json!({ "model": "tiny", "tokens": tokens["tokens"] })).await;
    assert_eq!(text["prompt"], "<system>s\n<user>hé\n<assistant>");
    let answer = server.ok(CHAT, &with(chat(""), json!({ "messages": messages }))).await;
    assert_eq!(answer["usage"]["prompt_tokens"], tokens["count"]);
}

#[tokio::test]
async fn completions_repeat_their_prompt_and_keep_the_best() {
    let server = tiny::server(tiny::Stored::F32, &[]).await;
    let body =
        json!({ "model": "tiny", "prompt": "once upon", "max_tokens": 8, "seed": 3, "temperature": 1.5 });
    let plain = server.ok("/v1/completions", &body).await;
    let echoed =
        server.ok("/v1/completions", &with(body.clone(), json!({ "echo": true, "logprobs": 1 }))).await;
    let text = plain["choices"][0]["text"].as_str().unwrap();
    assert_eq!(echoed["choices"][0]["text"], format!("once upon{text}"));
    let logprobs = &echoed["choices"][0]["logprobs"];
    assert_eq!(logprobs["token_logprobs"][0], Value::Null);
    assert!(logprobs["token_logprobs"][1].is_f64());
    let tokens: String = logprobs["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    assert_eq!(tokens, format!("once upon{text}"));

    let many = with(body.clone(), json!({ "n": 4, "logprobs": 0 }));
    let all = server.ok("/v1/completions", &many).await;
    let mean = |choice: &Value| -> f64 {
        let logprobs = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        logprobs.iter().map(|value| value.as_f64().unwrap()).sum::<f64>() / logprobs.len() as f64
    };
    let choices = all["choices"].as_array().unwrap();
    let best = choices.iter().max_by(|a, b| mean(a).total_cmp(&mean(b))).unwrap();
    let one = server.ok("/v1/completions", &with(body, json!({ "best_of": 4, "logprobs": 0 }))).await;
    assert_eq!(one["choices"][0]["text"], best["text"]);
    assert_eq!(one["choices"].as_array().unwrap().len(), 1);
    assert_eq!(one["usage"]["completion_tokens"], 32);
}

#[tokio::test]
async fn what_does_not_fit_or_is_not_honoured_is_refused() {
    let server = tiny::server(tiny::Stored::F32, &["candle.context_length=64"]).await;
    let refused = [
        (json!({ "max_tokens": 60 }), "", "context_length_exceeded"),
        (
            json!({ "messages": [{ "role": "user", "content": "word ".repeat(200) }] }),
            "",
            "context_length_exceeded",
        ),
        (
            json!({ "tools": [{ "type": "function", "function": { "name": "f" } }] }),
            "tools",
            "unsupported_value",
        ),
        (json!({ "response_format": { "type": "json_object" } }), "response_format", "unsupported_value"),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "x" } }] }] }),
            "messages[0].content[0]",
            "unsupported_value",
        ),
        (json!({ "logit_bias": { "99999999": 1 } }), "logit_bias", "invalid_value"),
    ];
    for (fields, param, code) in refused {
        let (status, error) = server.error(CHAT, &with(chat("hello"), fields)).await;
        let named = error["param"].as_str().unwrap_or_default();
        assert_eq!((status, named, &error["code"]), (400, param, &json!(code)), "{error}");
    }
    let (status, error) = server.error("/v1/embeddings", &json!({ "model": "tiny", "input": "a" })).await;
    assert_eq!((status, &error["param"]), (400, &json!("model")));
    let (status, error) =
        server.error("/v1/completions", &json!({ "model": "tiny", "prompt": "a", "suffix": "b" })).await;
    assert_eq!((status, &error["param"]), (400, &json!("suffix")));
    // The configured default bends to the room that there is.
    let mut open = chat("hello");
    open.as_object_mut().unwrap().remove("max_tokens");
    let answer = server.ok(CHAT, &open).await;
    assert_eq!(answer["usage"]["total_tokens"], 64);
}

#[tokio::test]
async fn clients_that_leave_free_what_they_held() {
    let server =
        tiny::server(tiny::Stored::F32, &["candle.max_batch_tokens=16", "limits.max_concurrent_requests=4"])
            .await;
    let long = with(chat(&"word ".repeat(60)), json!({ "max_tokens": 200, "stream": true }));
    for _ in 0..20 {
        let response = server.client.post(server.url(CHAT)).json(&long).send().await.unwrap();
        assert_eq!(response.status(), 200);
        drop(response);
    }
    let answers = join_all((0..4).map(|n| {
        let body = chat(&format!("hello {n}"));
        let server = &server;
        async move { server.ok(CHAT, &body).await }
    }));
    assert_eq!(answers.await.len(), 4);
}

#[tokio::test]
async fn metrics_tell_what_the_engine_did() {
    let server = tiny::server(tiny::Stored::F32, &[]).await;
    // The first token was drawn to see whether it works.
    let before = metric(&server, "sconce_tokens_drawn_total").await;
    assert_eq!(before, 1);
    server.ok(CHAT, &chat("hello")).await;
    // The answer may be here before its last token is counted.
    server.ok(CHAT, &chat("hello again")).await;
    let drawn = metric(&server, "sconce_tokens_drawn_total").await - before;
    assert!((47..=48).contains(&drawn), "{drawn}");
    let text = server.get("/metrics").await.text().await.unwrap();
    assert!(text.contains("# TYPE sconce_tokens_drawn_total counter\n"), "{text}");
    assert!(text.contains("# TYPE sconce_kv_blocks gauge\n"), "{text}");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_prompt_gives_all_back_at_once() {
    // A step for each token of the prompt.
    let server =
        tiny::server(tiny::Stored::F32, &["candle.max_batch_tokens=1", "candle.prefix_cache=false"]).await;
    let prompt = chat(&"word ".repeat(4000));
    let tokens = {
        let asked = json!({ "model": "tiny", "messages": prompt["messages"] });
        server.ok("/v1/tokenize", &asked).await["count"].as_u64().unwrap()
    };
    for _ in 0..5 {
        let before = metric(&server, "sconce_engine_steps_total").await;
        let asking = tokio::spawn(server.client.post(server.url(CHAT)).json(&prompt).send());
        let until = Instant::now() + LONG;
        while metric(&server, "sconce_engine_steps_total").await < before + 5 {
            assert!(Instant::now() < until, "no step was made");
        }
        asking.abort();
        while metric(&server, "sconce_kv_blocks_used").await > 0 {
            assert!(Instant::now() < until, "the blocks are not given back");
        }
        let steps = metric(&server, "sconce_engine_steps_total").await - before;
        assert!(steps < tokens / 2, "{steps} steps for a prompt of {tokens} tokens: it ran to its end");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(metric(&server, "sconce_engine_steps_total").await - before, steps, "it went on");
    }
}

#[test]
fn models_that_cannot_be_served_end_the_daemon_with_the_reason() {
    let empty = TempDir::new().unwrap();
    let mamba = TempDir::new().unwrap();
    tiny::write(mamba.path(), tiny::Stored::F32);
    std::fs::write(mamba.path().join("config.json"), r#"{"model_type":"mamba"}"#).unwrap();
    let large = TempDir::new().unwrap();
    tiny::write(large.path(), tiny::Stored::F32);
    for (directory, settings, reason) in [
        (&empty, "log.level=info", "config.json"),
        (&mamba, "log.level=info", "llama"),
        (&large, "candle.kv_cache=100TiB", "MiB are available"),
    ] {
        let source = format!("candle.source={}", directory.path().display());
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_sconce"))
            .args(["--listen", "127.0.0.1:0", "--backend", "candle", "--set", &source, "--set", settings])
            .current_dir(directory.path())
            .env_clear()
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{told}");
        assert!(told.contains(reason), "{told}");
    }
}

#[tokio::test]
async fn a_reload_that_changes_the_model_lets_its_requests_finish() {
    let directory = TempDir::new().unwrap();
    tiny::write(directory.path(), tiny::Stored::F32);
    let source = format!("candle.source = '{}'\ncandle.kv_cache = '4MiB'\n", directory.path().display());
    let models = |context: usize| {
        format!("[models.tiny]\nbackend = 'candle'\n{source}candle.context_length = {context}\n")
    };
    std::fs::write(directory.path().join("config.toml"), models(400)).unwrap();
    let server = TestServer::start_in(directory, &["--config", "config.toml"]);
    server.logged("\"message\":\"ready\"").await;
    let long = with(chat("hello"), json!({ "max_tokens": 300, "seed": 1, "stream": true }));
    let expected = server.post(CHAT, &long).await.text().await.unwrap();
    let begun = server.post(CHAT, &long).await;
    std::fs::write(server.path("config.toml"), models(200)).unwrap();
    server.signal(rustix::process::Signal::HUP);
    server.logged("\"message\":\"reloaded; ").await;
    let (status, error) = server.error(CHAT, &with(long, json!({ "stream": false }))).await;
    assert_eq!((status, &error["code"]), (400, &json!("context_length_exceeded")), "the new one is shorter");
    let text = |events: &str| -> Vec<Value> {
        let chunks = common::events(events).into_iter().filter(|event| event != "[DONE]");
        let chunks = chunks.map(|chunk| serde_json::from_str::<Value>(&chunk).unwrap());
        chunks.map(|chunk| chunk["choices"].clone()).collect()
    };
    let finished = begun.text().await.unwrap();
    assert!(finished.ends_with("[DONE]\n\n"));
    assert_eq!(text(&finished), text(&expected));
}

/// By candle's CPU device: the code is that of a GPU.
#[cfg(feature = "tensors")]
#[tokio::test]
async fn another_device_answers_the_same_up_to_rounding_under_another_fingerprint() {
    let cpu = tiny::server(tiny::Stored::F32, &[]).await;
    let settings = ["candle.device=tensors", "candle.max_batch_tokens=16"];
    let device = tiny::server(tiny::Stored::F32, &settings).await;
    let bodies: Vec<Value> = (0..6).map(|n| chat(&"some words ".repeat(n * 3))).collect();
    // Together: pieces of prompts run beside tokens of others.
    let answers = join_all(bodies.iter().map(|body| device.ok(CHAT, body))).await;
    for (body, answer) in bodies.iter().zip(answers) {
        let expected = cpu.ok(CHAT, body).await;
        assert_eq!(said(&answer), said(&expected));
        assert_eq!(answer["usage"]["completion_tokens"], 24);
        assert_ne!(answer["system_fingerprint"], expected["system_fingerprint"]);
    }
}
