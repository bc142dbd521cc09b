//! Small requests that ask for much: each is refused with a reason, and the daemon stays as it is.

use serde_json::{Value, json};

use crate::common::{MODEL, TestServer, chat, with};

const CHAT: &str = "/v1/chat/completions";

fn schema(schema: Value) -> Value {
    json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "a", "schema": schema } } })
}

/// `levels` definitions, each made of two of the next.
fn doubling(levels: usize, twice: impl Fn(Value) -> Value) -> Value {
    let mut defs: serde_json::Map<String, Value> = (0..levels)
        .map(|level| (level.to_string(), twice(json!({ "$ref": format!("#/$defs/{}", level + 1) }))))
        .collect();
    defs.insert(levels.to_string(), json!({ "type": "string" }));
    json!({ "$ref": "#/$defs/0", "$defs": defs })
}

#[tokio::test]
async fn what_would_fill_memory_or_time_is_refused() {
    let server = TestServer::start(&[]);
    let nested =
        (0..20).fold(json!({}), |inner, _| json!({ "type": "array", "minItems": 1024, "items": inner }));
    let both = |keyword: &'static str| move |next: Value| json!({ keyword: [next, next] });
    let properties = |next: Value| json!({ "properties": { "a": next, "b": next }, "required": ["a", "b"] });
    let long = "wxyz".repeat(40_000);
    let cases = [
        (json!({ "min_tokens": i32::MAX }), ""),
        (json!({ "min_tokens": 9, "max_tokens": 5 }), "min_tokens"),
        (json!({ "max_tokens": i32::MAX, "ignore_eos": true }), ""),
        (json!({ "stop_token_ids": vec![1; 2000] }), "stop_token_ids"),
        (schema(nested), "response_format.json_schema.schema"),
        (schema(doubling(25, both("allOf"))), "response_format.json_schema.schema"),
        (schema(doubling(25, both("oneOf"))), "response_format.json_schema.schema"),
        (schema(doubling(25, properties)), "response_format.json_schema.schema"),
        (
            schema(json!({ "type": "string", "pattern": r"\w".repeat(100_000) })),
            "response_format.json_schema.schema",
        ),
        (json!({ "messages": chat(&long)["messages"], "n": 128 }), "n"),
        (
            json!({ "messages": chat(&long)["messages"], "n": 4, "logprobs": true, "top_logprobs": 20 }),
            "logprobs",
        ),
        (json!({ "messages": [{ "role": "assistant", "audio": { "id": "a" } }] }), "messages[0].audio"),
    ];
    for (fields, param) in cases {
        let (status, error) = server.error(CHAT, &with(chat("hi"), fields)).await;
        let named = error["param"].as_str().unwrap_or_default();
        assert_eq!((status, named), (400, param), "{error}");
    }
    let completions = json!({ "model": MODEL, "prompt": vec![long; 10], "n": 128 });
    let (status, error) = server.error("/v1/completions", &completions).await;
    assert_eq!((status, &error["param"]), (400, &json!("prompt")));
    let embeddings = json!({ "model": MODEL, "input": vec!["a"; 2048], "dimensions": 4096 });
    let (status, error) = server.error("/v1/embeddings", &embeddings).await;
    assert_eq!((status, &error["param"]), (400, &json!("dimensions")));
    assert!(server.proc_status("VmHWM") < 300 << 10, "{} KiB", server.proc_status("VmHWM"));
}

#[tokio::test]
async fn what_the_client_sent_is_cut_short_and_not_logged() {
    let server = TestServer::start(&[]);
    let long = "A".repeat(1 << 20);
    for fields in [
        json!({ "metadata": { &long: 1 } }),
        json!({ "logit_bias": { &long: 1 } }),
        json!({ "model": &long }),
        json!({ "messages": [{ "role": &long, "content": "a" }] }),
    ] {
        let response = server.post(CHAT, &with(chat("hi"), fields)).await;
        assert!(response.status().is_client_error());
        assert!(response.text().await.unwrap().len() < 4096);
    }
    assert!(server.log().len() < 16 << 10, "{}", server.log().len());
}

#[tokio::test]
async fn messages_speak_of_json_and_of_nothing_inside() {
    let server = TestServer::start(&[]);
    let lone = r#"{"model":"gpt-oss-20b","messages":[{"role":"user","content":"a"}],"tool_choice":{"type":"function","function":{"name":"\ud83d"}}}"#;
    let bodies = [
        lone.to_owned(),
        with(chat("hi"), json!({ "audio": { "voice": 5, "format": "wav" } })).to_string(),
        with(chat("hi"), json!({ "n": "two" })).to_string(),
        with(chat("hi"), json!({ "prediction": [] })).to_string(),
        r#"{"model":"a","model":"b","messages":[]}"#.to_owned(),
        r#"{"model":"a","messages":[{"role":"user","role":"tool","content":"a"}]}"#.to_owned(),
        r#"{"model":"a","messages":[{"content":"a","role":"user","role":5}]}"#.to_owned(),
        with(chat("hi"), json!({ "messages": [{ "content": "a" }] })).to_string(),
        with(chat("hi"), json!({ "messages": [5] })).to_string(),
    ];
    for body in bodies {
        let response = server.client.post(server.url(CHAT)).body(body.clone()).send().await.unwrap();
        let (status, error) = crate::common::error_of(response).await;
        assert_eq!(status, 400);
        assert!(error["param"].is_string(), "{body}: {error}");
        let message = error["message"].as_str().unwrap();
        for inside in ["\u{1f}", "struct", "enum", "u32", "line "] {
            assert!(!message.contains(inside), "{message}");
        }
    }
    let (status, error) = crate::common::error_of(server.get("/v1/models/%FF").await).await;
    assert_eq!((status, &error["code"]), (404, &json!("model_not_found")));
}

#[tokio::test]
async fn slow_bodies_take_no_place_from_others() {
    use std::io::Write;
    let server = TestServer::set(&["limits.max_concurrent_requests=1", "limits.max_queued_requests=1"]);
    let slow: Vec<_> = (0..8)
        .map(|_| {
            let mut connection = std::net::TcpStream::connect(server.address).unwrap();
            write!(connection, "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{").unwrap();
            connection
        })
        .collect();
    for _ in 0..5 {
        assert_eq!(server.post(CHAT, &chat("hi")).await.status(), 200);
    }
    drop(slow);
}

#[tokio::test]
async fn bodies_in_memory_are_bounded_together() {
    let server = TestServer::set(&["limits.max_waiting_bodies=64KiB"]);
    let (status, error) = server.error(CHAT, &chat(&"x".repeat(100 << 10))).await;
    assert_eq!((status, &error["code"]), (429, &json!("rate_limit_exceeded")));
    assert_eq!(server.post(CHAT, &chat(&"x".repeat(40 << 10))).await.status(), 200);
}
