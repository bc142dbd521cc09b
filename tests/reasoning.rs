//! Reasoning and tool calls through the daemon, from models that recite them (`tests/fixtures/reciting.py`).
#![cfg(feature = "candle")]

mod common;

use std::path::Path;

use common::{TestServer, with};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/reciting");

async fn server(model: &str) -> TestServer {
    let source = format!("candle.source={FIXTURES}/{model}");
    let server = TestServer::start(&["--backend", "candle", "--model-id", model, "--set", &source]);
    server.ready().await;
    server
}

/// What is to be recited by a model, and what it should be told as.
fn recitals(model: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(Path::new(FIXTURES).join("recitals.json")).unwrap();
    let all: Vec<Value> = serde_json::from_str(&text).unwrap();
    all.into_iter().filter(|recital| recital["model"] == model).collect()
}

fn recital(model: &str, name: &str) -> Value {
    recitals(model).into_iter().find(|recital| recital["name"] == name).unwrap()
}

fn request(recital: &Value) -> Value {
    let body = json!({
        "model": recital["model"], "messages": [{ "role": "user", "content": recital["text"] }], "temperature": 0,
    });
    with(body, recital["request"].clone())
}

/// The answer to a stream's end, put together as clients do.
async fn streamed(server: &TestServer, body: &Value) -> Value {
    let body = with(body.clone(), json!({ "stream_options": { "include_usage": true } }));
    let chunks = server.stream(CHAT, &body).await;
    let (mut message, mut finish, mut logprobs) = (json!({}), Value::Null, vec![]);
    let mut calls: Vec<Value> = vec![];
    let add = |to: &mut Value, text: &Value| {
        if let Some(text) = text.as_str() {
            *to = format!("{}{text}", to.as_str().unwrap_or_default()).into();
        }
    };
    for choice in chunks.iter().filter_map(|chunk| chunk["choices"].get(0)) {
        let delta = &choice["delta"];
        for name in ["content", "reasoning_content", "reasoning"] {
            add(&mut message[name], &delta[name]);
        }
        logprobs.extend(choice["logprobs"]["content"].as_array().into_iter().flatten().cloned());
        for part in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = part["index"].as_u64().unwrap() as usize;
            if index == calls.len() {
                assert_eq!(part["type"], "function");
                calls.push(json!({ "id": part["id"], "type": "function", "function": { "name": part["function"]["name"] } }));
            } else {
                assert_eq!((&part["id"], &part["function"]["name"]), (&Value::Null, &Value::Null), "once");
            }
            add(&mut calls[index]["function"]["arguments"], &part["function"]["arguments"]);
        }
        finish = if choice["finish_reason"].is_null() { finish } else { choice["finish_reason"].clone() };
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    json!({ "message": message, "finish_reason": finish, "logprobs": logprobs, "usage": chunks.last().unwrap()["usage"] })
}

/// Asks whole and as a stream, which must say the same. The whole answer's choice and its usage.
async fn ask(server: &TestServer, body: &Value) -> (Value, Value) {
    let answer = server.ok(CHAT, body).await;
    let choice = answer["choices"][0].clone();
    let parts = streamed(server, body).await;
    for name in ["content", "reasoning_content", "reasoning", "tool_calls"] {
        let empty = |value: &Value| value.is_null() || value == "";
        let (one, other) = (&choice["message"][name], &parts["message"][name]);
        assert!(one == other || (empty(one) && empty(other)), "{name}: {choice} as a stream {parts}");
    }
    assert_eq!(choice["finish_reason"], parts["finish_reason"]);
    let logprobs = choice["logprobs"]["content"].as_array().cloned().unwrap_or_default();
    assert_eq!(Value::from(logprobs), parts["logprobs"]);
    let counted =
        |usage: &Value| (usage["completion_tokens"].clone(), usage["completion_tokens_details"].clone());
    assert_eq!(counted(&answer["usage"]), counted(&parts["usage"]));
    (choice, answer["usage"].clone())
}

async fn all_are_told(model: &str) {
    let server = server(model).await;
    for recital in recitals(model) {
        let (choice, usage) = ask(&server, &request(&recital)).await;
        let message = &choice["message"];
        assert_eq!(message["reasoning_content"], recital["reasoning"], "{message}");
        assert_eq!(message["reasoning"], recital["reasoning"], "the other name");
        assert_eq!(message["content"], recital["content"], "{message}");
        let calls: Vec<Value> = message["tool_calls"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|call| json!([call["function"]["name"], call["function"]["arguments"]]))
            .collect();
        assert_eq!(Value::from(calls), recital["calls"]);
        assert_eq!(choice["finish_reason"], recital["finish_reason"]);
        assert_eq!(usage["completion_tokens"], recital["completion_tokens"]);
        assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], recital["reasoning_tokens"]);
    }
}

#[tokio::test]
async fn channels_are_told_apart() {
    all_are_told("harmony").await;
}

#[tokio::test]
async fn thoughts_and_calls_are_told_apart() {
    all_are_told("think").await;
}

#[tokio::test]
async fn calls_have_ids_that_are_the_same_when_asked_again_and_differ() {
    let server = server("think").await;
    let body = request(&recital("think", "call"));
    let (choice, _) = ask(&server, &body).await;
    let ids: Vec<&str> = (0..2).map(|n| choice["message"]["tool_calls"][n]["id"].as_str().unwrap()).collect();
    assert!(ids[0] != ids[1] && ids.iter().all(|id| id.starts_with("call_") && id.len() == 29), "{ids:?}");
    // One at a time: the answer ends with the first.
    let (choice, usage) = ask(&server, &with(body, json!({ "parallel_tool_calls": false }))).await;
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!((calls.len(), calls[0]["id"].as_str().unwrap()), (1, ids[0]));
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert!(usage["completion_tokens"].as_u64() < recital("think", "call")["completion_tokens"].as_u64());
}

#[tokio::test]
async fn answers_are_cut_off_where_they_are() {
    for model in ["harmony", "think"] {
        let server = server(model).await;
        for name in ["answer", "call"] {
            let recital = recital(model, name);
            let (whole, _) = ask(&server, &request(&recital)).await;
            let (mut reasoned, mut said) = (String::new(), String::new());
            for most in 1..recital["completion_tokens"].as_u64().unwrap() {
                let (choice, usage) =
                    ask(&server, &with(request(&recital), json!({ "max_tokens": most }))).await;
                assert_eq!(
                    (&choice["finish_reason"], &usage["completion_tokens"]),
                    (&json!("length"), &json!(most))
                );
                for (name, so_far) in [("reasoning_content", &mut reasoned), ("content", &mut said)] {
                    let text = choice["message"][name].as_str().unwrap_or_default();
                    let complete = whole["message"][name].as_str().unwrap_or_default();
                    // What may have become a mark, or a call, came out as it is.
                    let certain = text.split("</").next().unwrap().split("<t").next().unwrap().trim_end();
                    assert!(complete.starts_with(certain), "{name} of {most} tokens: {text:?}");
                    assert!(certain.len() >= so_far.len(), "{text:?} after {so_far:?}");
                    *so_far = certain.to_owned();
                }
            }
        }
    }
}

#[tokio::test]
async fn stop_texts_look_at_content_alone() {
    for model in ["harmony", "think"] {
        let server = server(model).await;
        let body = request(&recital(model, "answer"));
        let stop = |text: &str| with(body.clone(), json!({ "stop": [text], "logprobs": true }));
        let (choice, _) = ask(&server, &stop("greet")).await;
        assert_eq!(
            (&choice["message"]["content"], &choice["finish_reason"]),
            (&json!("Hello, friend!"), &json!("stop"))
        );
        let (choice, usage) = ask(&server, &stop("o, f")).await;
        assert_eq!(choice["message"]["content"], "Hell");
        assert_eq!(choice["message"]["reasoning_content"], "They greet.");
        assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 3);
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        assert_eq!(tokens.iter().map(|token| token["token"].as_str().unwrap()).collect::<String>(), "Hello");
    }
}

#[tokio::test]
async fn logprobs_are_those_of_the_content() {
    for model in ["harmony", "think"] {
        let server = server(model).await;
        let body = with(request(&recital(model, "answer")), json!({ "logprobs": true, "top_logprobs": 1 }));
        let (choice, _) = ask(&server, &body).await;
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        assert_eq!(
            tokens.iter().map(|token| token["token"].as_str().unwrap()).collect::<Vec<_>>(),
            ["Hello", ", friend", "!"]
        );
    }
}

/// What the prompt is, as text.
async fn prompt(server: &TestServer, body: &Value) -> String {
    let tokens = server.ok("/v1/tokenize", body).await["tokens"].clone();
    let text = server.ok("/v1/detokenize", &json!({ "model": body["model"], "tokens": tokens })).await;
    text["prompt"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_the_template_asks_for_reaches_it() {
    let server = server("think").await;
    let user = json!({ "role": "user", "content": "a" });
    for field in ["reasoning_content", "reasoning"] {
        let thought = json!({ "role": "assistant", "content": "b", field: "Hm." });
        let body = json!({ "model": "think", "messages": [user, thought, user] });
        let text = prompt(&server, &body).await;
        assert!(text.contains("<|im_start|>assistant\n<think>Hm.</think>b<|im_end|>\n"), "{field}: {text:?}");
    }
    let off =
        json!({ "model": "think", "messages": [user], "chat_template_kwargs": { "enable_thinking": false } });
    let text = prompt(&server, &off).await;
    assert!(text.ends_with("<|im_start|>assistant\n<think>\n\n</think>\n\n"), "{text:?}");
    // The same by the parameter that OpenAI has for it.
    let count = async |fields: Value| {
        let body = json!({ "model": "think", "messages": [user], "max_tokens": 1 });
        server.ok(CHAT, &with(body, fields)).await["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let plain = count(json!({})).await;
    let off = count(json!({ "chat_template_kwargs": { "enable_thinking": false } })).await;
    assert!(off > plain);
    assert_eq!(count(json!({ "reasoning_effort": "none" })).await, off);
    assert_eq!(count(json!({ "reasoning_effort": "low" })).await, plain);
    let both = json!({ "reasoning_effort": "none", "chat_template_kwargs": { "enable_thinking": true } });
    assert_eq!(count(both).await, plain, "the variable itself is stronger");
}

#[tokio::test]
async fn tools_that_may_not_be_called_are_not_shown() {
    let server = server("think").await;
    let tool = |name: &str| json!({ "type": "function", "function": { "name": name } });
    let body = json!({
        "model": "think", "messages": [{ "role": "user", "content": "a" }], "max_tokens": 1, "tools": [tool("f"), tool("g")],
    });
    let count = async |fields: Value| {
        server.ok(CHAT, &with(body.clone(), fields)).await["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let allowed = |tools: Value| json!({ "type": "allowed_tools", "allowed_tools": { "mode": "auto", "tools": tools } });
    let none = count(json!({ "tool_choice": "none" })).await;
    assert!(count(json!({ "tool_choice": "auto" })).await > none);
    assert!(count(json!({ "tool_choice": allowed(json!([tool("g")])) })).await > none);
    assert_eq!(count(json!({ "tool_choice": allowed(json!([])) })).await, none);
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused() {
    let server = server("think").await;
    let tool = json!({ "type": "function", "function": { "name": "f", "strict": true } });
    let lax = json!({ "type": "function", "function": { "name": "f" } });
    let required = json!({ "mode": "required", "tools": [lax] });
    for (fields, param) in [
        (json!({ "tools": [lax], "tool_choice": "required" }), "tool_choice"),
        (json!({ "tools": [lax], "tool_choice": lax }), "tool_choice"),
        (
            json!({ "tools": [lax], "tool_choice": { "type": "allowed_tools", "allowed_tools": required } }),
            "tool_choice",
        ),
        (json!({ "tools": [tool] }), "tools[0].function.strict"),
        (json!({ "response_format": { "type": "json_object" } }), "response_format"),
    ] {
        let body = json!({ "model": "think", "messages": [{ "role": "user", "content": "a" }] });
        let (status, error) = server.error(CHAT, &with(body, fields)).await;
        assert_eq!(
            (status, &error["param"], &error["code"]),
            (400, &json!(param), &json!("unsupported_value"))
        );
    }
}
