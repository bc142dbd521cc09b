//! LoRA adapters as models of their own, beside their base.
#![cfg(feature = "candle")]

mod common;
#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "each test uses a part of it")]
mod tiny;

use std::fs;

use common::{TestServer, metric, with};
use futures_util::{StreamExt, stream};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

const CHAT: &str = "/v1/chat/completions";
const POETS: &str = "[models.poet]\ncandle = { base = 'plain', adapter = 'poet' }\n\
                     [models.clerk]\ncandle = { base = 'plain', adapter = 'clerk' }\nmax_tokens = 3\n";

fn start(top: &str, models: &str) -> TestServer {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("plain")).unwrap();
    tiny::write(&at("plain"), tiny::Stored::F32);
    tiny::write_adapter(&at("poet"), 3);
    tiny::write_adapter(&at("clerk"), 4);
    fs::write(at("config.toml"), configuration(top, models)).unwrap();
    TestServer::start_in(directory, &["--config", "config.toml"])
}

fn configuration(top: &str, models: &str) -> String {
    format!("backend = 'candle'\n{top}\n[models.plain]\ncandle.source = 'plain'\n{models}")
}

fn chat(model: &str, n: i64) -> Value {
    let text = format!("{} question {n}", "the same beginning of many words ".repeat(n as usize % 4));
    json!({
        "model": model, "messages": [{ "role": "user", "content": text }], "max_tokens": 4 + n % 20, "seed": n,
        "temperature": (n % 3) as f64 * 0.6, "logprobs": n % 2 == 0,
    })
}

#[tokio::test]
async fn two_adapters_and_their_base_in_one_batch_answer_as_alone() {
    let alone =
        start("candle.threads = 1\ncandle.prefix_cache = false\ncandle.max_batch_tokens = 512", POETS);
    alone.ready().await;
    let requests: Vec<Value> =
        (0..60).map(|n| chat(["plain", "poet", "clerk"][n as usize % 3], n / 3)).collect();
    let mut expected = Vec::new();
    for request in &requests {
        expected.push(tiny::comparable(alone.ok(CHAT, request).await));
    }
    let distinct = |of: &dyn Fn(&Value) -> String, n: usize| {
        let three: std::collections::BTreeSet<String> =
            expected[n..n + 3].iter().map(|answer| of(&serde_json::from_str(answer).unwrap())).collect();
        three.len()
    };
    assert_eq!(distinct(&|answer| answer["system_fingerprint"].to_string(), 0), 3);
    assert_eq!(distinct(&|answer| answer["choices"].to_string(), 3), 3, "they answer alike");
    // Nothing but the prompt tells them apart: what one has left in the cache is nothing to another.
    let busy = start("candle.threads = 2\ncandle.max_batch_tokens = 24", POETS);
    busy.ready().await;
    let mut cached = 0;
    for _ in 0..2 {
        let answers = stream::iter(requests.iter().zip(&expected)).map(|(request, expected)| {
            let busy = &busy;
            async move {
                let answer = busy.ok(CHAT, request).await;
                let cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
                assert_eq!(&tiny::comparable(answer), expected, "{request}");
                cached
            }
        });
        cached += answers.buffer_unordered(16).fold(0, async |sum, cached| sum + cached).await;
    }
    assert!(cached > 0, "no prefix was found again");
}

#[tokio::test]
async fn an_adapter_is_a_model_of_its_own() {
    let server = start("load = 'lazy'", POETS);
    server.ready().await;
    let listed: Value = server.get("/v1/models").await.json().await.unwrap();
    let ids: Vec<&str> =
        listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["plain", "poet", "clerk"]);
    assert_eq!(metric(&server, "sconce_model_loaded").await, 0);
    let mut open = chat("clerk", 1);
    open.as_object_mut().unwrap().remove("max_tokens");
    let answer = server.ok(CHAT, &open).await;
    assert_eq!((&answer["model"], &answer["usage"]["completion_tokens"]), (&json!("clerk"), &json!(3)));
    assert_eq!(metric(&server, "sconce_model_loads_total").await, 1, "the base is what is loaded");
    let tokens = server.ok("/v1/tokenize", &json!({ "model": "poet", "prompt": "hello" })).await;
    assert_eq!(tokens["max_model_len"], tiny::CONTEXT);
    let (status, _) = server.error("/v1/embeddings", &json!({ "model": "poet", "input": "a" })).await;
    assert_eq!(status, 400);
    let chunks = server.stream(CHAT, &chat("poet", 2)).await;
    assert_eq!(chunks[0]["model"], "poet");
    let one: Value = server.get("/v1/models/poet").await.json().await.unwrap();
    assert_eq!(one["max_model_len"], tiny::CONTEXT);

    // With another adapter the base is loaded anew; without a change it stays.
    let more = format!("{POETS}[models.late]\ncandle = {{ base = 'plain', adapter = 'late' }}\n");
    tiny::write_adapter(&server.path("late"), 5);
    let poet = tiny::comparable(server.ok(CHAT, &chat("poet", 3)).await);
    for (models, loads) in [(POETS, 1), (&*more, 1)] {
        let before = server.log().matches("\"message\":\"reloaded; ").count();
        fs::write(server.path("config.toml"), configuration("load = 'lazy'", models)).unwrap();
        server.signal(Signal::HUP);
        while server.log().matches("\"message\":\"reloaded; ").count() == before {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(tiny::comparable(server.ok(CHAT, &chat("poet", 3)).await), poet);
        assert_eq!(metric(&server, "sconce_model_loads_total").await, loads);
    }
    let late = server.ok(CHAT, &with(chat("late", 3), json!({ "logprobs": true }))).await;
    assert_ne!(late["choices"][0]["message"]["content"], Value::Null);
}

#[tokio::test]
async fn an_adapter_that_cannot_be_served_is_named() {
    let server = start("load = 'lazy'", POETS);
    let path = server.path("clerk/adapter_config.json");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace("\"bias\"", "\"use_dora\":true,\"bias\"")).unwrap();
    let (status, error) = server.error(CHAT, &chat("poet", 1)).await;
    let message = error["message"].as_str().unwrap();
    assert_eq!(status, 503, "{message}");
    assert!(message.contains("the adapter 'clerk'") && message.contains("`use_dora` is set"), "{message}");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sconce"))
        .args(["models", "inspect", "poet", "--config", "config.toml"])
        .current_dir(server.directory.path())
        .env_clear()
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("'poet' is an adapter of 'plain'"));
}
