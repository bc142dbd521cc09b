//! Every failure is OpenAI's envelope, with the field at fault.

use serde_json::{Value, json};

use crate::common::{TestServer, chat, error_of, with};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn the_field_at_fault_is_named_by_its_path() {
    let server = TestServer::start(&[]);
    let message = |fields: Value| json!({ "messages": [{ "role": "user", "content": "a" }, fields] });
    let tool = |function: Value| json!({ "tools": [{ "type": "function", "function": function }] });
    let cases = [
        (json!({ "messages": "hi" }), "messages"),
        (json!({ "messages": [] }), "messages"),
        (json!({ "messages": null }), "messages"),
        (message(json!("hi")), "messages[1]"),
        (message(json!({ "content": "a" })), "messages[1]"),
        (message(json!({ "role": "usr", "content": "a" })), "messages[1].role"),
        (message(json!({ "role": 5 })), "messages[1].role"),
        (message(json!({ "role": "user", "content": 5 })), "messages[1].content"),
        (message(json!({ "role": "user", "content": [{ "type": "text" }] })), "messages[1].content[0]"),
        (
            message(json!({ "role": "user", "content": [{ "type": "text", "text": 5 }] })),
            "messages[1].content[0].text",
        ),
        (message(json!({ "role": "user", "content": [{ "type": "smell" }] })), "messages[1].content[0].type"),
        (
            message(
                json!({ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "x", "detail": "x" } }] }),
            ),
            "messages[1].content[0].image_url.detail",
        ),
        (message(json!({ "role": "tool", "content": "a" })), "messages[1]"),
        (
            message(
                json!({ "role": "assistant", "tool_calls": [{ "id": "1", "type": "function", "function": {} }] }),
            ),
            "messages[1].tool_calls[0].function",
        ),
        (tool(json!({})), "tools[0].function"),
        (tool(json!({ "name": 5 })), "tools[0].function.name"),
        (tool(json!({ "name": "f", "parameters": [] })), "tools[0].function.parameters"),
        (json!({ "tool_choice": "maybe" }), "tool_choice"),
        (json!({ "tool_choice": 5 }), "tool_choice"),
        (json!({ "tool_choice": { "type": "function", "function": {} } }), "tool_choice.function"),
        (json!({ "response_format": { "type": "yaml" } }), "response_format.type"),
        (json!({ "response_format": { "type": "json_schema" } }), "response_format"),
        (json!({ "stop": 5 }), "stop"),
        (json!({ "stop": ["a", 5] }), "stop[1]"),
        (json!({ "stop": ["a", "b", "c", "d", "e"] }), "stop"),
        (json!({ "temperature": 2.1 }), "temperature"),
        (json!({ "temperature": "hot" }), "temperature"),
        (json!({ "top_p": -0.1 }), "top_p"),
        (json!({ "top_k": -2 }), "top_k"),
        (json!({ "min_p": 2 }), "min_p"),
        (json!({ "frequency_penalty": 3 }), "frequency_penalty"),
        (json!({ "presence_penalty": -3 }), "presence_penalty"),
        (json!({ "repetition_penalty": 0 }), "repetition_penalty"),
        (json!({ "logit_bias": { "a": 1 } }), "logit_bias"),
        (json!({ "logit_bias": { "1": 101 } }), "logit_bias"),
        (json!({ "logit_bias": { "4000000000": 1 } }), "logit_bias"),
        (json!({ "seed": 1.5 }), "seed"),
        (json!({ "n": 0 }), "n"),
        (json!({ "n": 129 }), "n"),
        (json!({ "max_tokens": 0 }), "max_tokens"),
        (json!({ "max_completion_tokens": -1 }), "max_completion_tokens"),
        (json!({ "top_logprobs": 2 }), "top_logprobs"),
        (json!({ "logprobs": true, "top_logprobs": 21 }), "top_logprobs"),
        (json!({ "stream": "yes" }), "stream"),
        (json!({ "stream_options": {} }), "stream_options"),
        (json!({ "stream": true, "stream_options": { "include_usage": 1 } }), "stream_options.include_usage"),
        (json!({ "metadata": { "a": 1 } }), "metadata.a"),
        (json!({ "reasoning_effort": "mighty" }), "reasoning_effort"),
        (json!({ "model": 5 }), "model"),
    ];
    for (fields, param) in cases {
        let (status, error) = server.error(CHAT, &with(chat("hi"), fields.clone())).await;
        assert_eq!((status, &error["param"]), (400, &json!(param)), "{fields}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
        let message = error["message"].as_str().unwrap();
        assert!(
            !message.contains("line 1") && !message.contains('\u{1f}') && !message.contains("::"),
            "{message}"
        );
    }
    for missing in ["model", "messages"] {
        let mut body = chat("hi");
        body.as_object_mut().unwrap().remove(missing);
        let (status, error) = server.error(CHAT, &body).await;
        assert_eq!((status, &error["param"]), (400, &json!(missing)));
    }
}

#[tokio::test]
async fn known_fields_that_are_not_honoured_are_refused() {
    let server = TestServer::start(&[]);
    for (fields, param) in [
        (json!({ "modalities": ["text", "audio"] }), "modalities"),
        (json!({ "audio": { "voice": "alloy", "format": "wav" } }), "audio"),
        (json!({ "web_search_options": {} }), "web_search_options"),
        (json!({ "moderation": { "model": "m" } }), "moderation"),
    ] {
        let (status, error) = server.error(CHAT, &with(chat("hi"), fields)).await;
        assert_eq!(
            (status, &error["param"], &error["code"]),
            (400, &json!(param), &json!("unsupported_value"))
        );
    }
}

#[tokio::test]
async fn what_is_no_request_of_ours_has_its_own_status() {
    let server = TestServer::start(&[]);
    let post = |path: &str| server.client.post(server.url(path));
    let json_body = || chat("hi").to_string();
    let cases = [
        (post("/v1/nothing").body("{}"), 404, "unknown_url"),
        (server.client.get(server.url("/v1/chat/completions")), 405, "method_not_allowed"),
        (server.client.delete(server.url("/v1/models")), 405, "method_not_allowed"),
        (post("/health"), 405, "method_not_allowed"),
        (post("/docs"), 405, "method_not_allowed"),
        (post(CHAT).header("content-type", "text/plain").body(json_body()), 415, "unsupported_media_type"),
        (
            post(CHAT).header("content-type", "application/json").header("content-encoding", "gzip").body(json_body()),
            415,
            "unsupported_media_type",
        ),
        (post(CHAT).header("content-type", "application/json").body("{"), 400, "invalid_json"),
        (post(CHAT).header("content-type", "application/json").body(""), 400, "invalid_json"),
        (post(CHAT).header("content-type", "application/json").body("{} {}"), 400, "invalid_value"),
        (post(CHAT).header("content-type", "application/json").body("[]"), 400, "invalid_value"),
        (post(CHAT).header("content-type", "application/json").body(&b"{\"model\":\"\xff\"}"[..]), 400, "invalid_json"),
        (post(CHAT).body("[".repeat(100_000)), 400, "invalid_value"),
        (
            post(CHAT).body(format!(r#"{{"model":"m","messages":[],"x":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000))),
            400,
            "invalid_json",
        ),
        (
            post(CHAT).body(format!(
                r#"{{"model":"gpt-oss-20b","messages":[{{"role":"user","content":{}{}}}]}}"#,
                "[".repeat(100_000),
                "]".repeat(100_000)
            )),
            400,
            "invalid_value",
        ),
        (
            post(CHAT).body(format!(
                r#"{{"model":"gpt-oss-20b","messages":[{{"role":"user","content":"a"}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{{"a":{}{}}}}}}}]}}"#,
                "[".repeat(100_000),
                "]".repeat(100_000)
            )),
            400,
            "invalid_value",
        ),
    ];
    for (place, (request, status, code)) in cases.into_iter().enumerate() {
        let response = request.send().await.unwrap();
        if status == 405 {
            assert!(!response.headers()["allow"].is_empty());
        }
        let (got, error) = error_of(response).await;
        assert_eq!((got, &error["code"]), (status, &json!(code)), "case {place}: {error}");
    }
    let bare = post(CHAT).body(json_body()).send().await.unwrap();
    assert_eq!(bare.status(), 200, "a missing content type is taken for JSON");
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let server = TestServer::start(&[]);
    for (path, allow) in [
        (CHAT, "POST"),
        ("/v1/models", "GET, HEAD"),
        ("/v1/models/a/b", "GET, HEAD"),
        ("/health", "GET, HEAD"),
    ] {
        let response = server.client.put(server.url(path)).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["allow"]),
            (405, &allow.parse().unwrap()),
            "{path}"
        );
    }
    let made_up = reqwest::Method::from_bytes(b"QUERY").unwrap();
    let response = server.client.request(made_up, server.url("/v1/models")).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["allow"]),
        (405, &"GET, HEAD".parse().unwrap())
    );
    let head = server.client.head(server.url("/v1/models")).send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert!(head.bytes().await.unwrap().is_empty());
}
