//! Chat completions, whole and streamed.

use serde_json::{Value, json};

use crate::common::{MODEL, TestServer, chat, with};

const CHAT: &str = "/v1/chat/completions";

fn said(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

/// The text of each choice of a stream, checking what every chunk must have.
fn put_together(chunks: &[Value], choices: usize) -> Vec<String> {
    let mut texts = vec![String::new(); choices];
    let mut roles = vec![0; choices];
    let mut finished = vec![false; choices];
    for chunk in chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        for field in ["id", "created", "model", "system_fingerprint"] {
            assert_eq!(chunk[field], chunks[0][field], "{field} changes within the stream");
        }
        for choice in chunk["choices"].as_array().unwrap() {
            let index = choice["index"].as_u64().unwrap() as usize;
            assert!(!finished[index], "a chunk after the last one of its choice");
            roles[index] += usize::from(choice["delta"].get("role").is_some());
            texts[index].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
            if !choice["finish_reason"].is_null() {
                finished[index] = true;
                assert_eq!(choice["delta"], json!({}), "the last chunk's delta is empty");
            }
        }
    }
    assert!(roles.iter().all(|count| *count == 1), "{roles:?}");
    assert!(finished.iter().all(|finished| *finished));
    texts
}

#[tokio::test]
async fn the_last_user_message_comes_back() {
    let server = TestServer::start(&[]);
    let body = json!({
        "model": MODEL,
        "messages": [
            { "role": "developer", "content": "Be brief." },
            { "role": "user", "content": "one" },
            { "role": "assistant", "content": null, "tool_calls": [
                { "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{}" } },
            ] },
            { "role": "tool", "content": [{ "type": "text", "text": "42" }], "tool_call_id": "c1" },
            { "role": "user", "content": [
                { "type": "text", "text": "two " },
                { "type": "image_url", "image_url": { "url": "data:," } },
                { "type": "text", "text": " three" },
            ] },
            { "role": "system", "content": "Answer." },
        ],
    });
    let answer = server.ok(CHAT, &body).await;
    assert_eq!(said(&answer), "Echo from gpt-oss-20b: two [image_url] three");
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["choices"][0]["logprobs"], Value::Null);
}

#[tokio::test]
async fn usage_counts_the_lines_of_the_conversation_and_the_answer() {
    let server = TestServer::start(&[]);
    let answer = server.ok(CHAT, &chat("hi")).await;
    let tokenized = server.ok("/v1/tokenize", &json!({ "model": MODEL, "prompt": "user: hi" })).await;
    let spoken = server.ok("/v1/tokenize", &json!({ "model": MODEL, "prompt": said(&answer) })).await;
    assert_eq!(answer["usage"]["prompt_tokens"], tokenized["count"]);
    assert_eq!(answer["usage"]["completion_tokens"], spoken["count"]);
    assert_eq!(answer["usage"]["total_tokens"], 3 + 8);
}

#[tokio::test]
async fn a_stream_says_the_same_in_pieces() {
    let server = TestServer::start(&[]);
    let body = with(chat("héllo wörld 日本"), json!({ "n": 2 }));
    let whole = server.ok(CHAT, &body).await;
    let chunks = server.stream(CHAT, &body).await;
    assert!(chunks.len() > 10, "{}", chunks.len());
    assert_eq!(put_together(&chunks, 2), vec![said(&whole).to_owned(); 2]);
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[tokio::test]
async fn usage_is_streamed_when_asked_for() {
    let server = TestServer::start(&[]);
    let body = with(chat("hi"), json!({ "stream_options": { "include_usage": true } }));
    let chunks = server.stream(CHAT, &body).await;
    let (last, before) = chunks.split_last().unwrap();
    assert!(before.iter().all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some()));
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["total_tokens"], 11);
}

#[tokio::test]
async fn limits_and_stops_end_the_answer() {
    let server = TestServer::start(&[]);
    let cases = [
        (json!({ "max_tokens": 2 }), "Echo fro", "length"),
        (json!({ "max_tokens": 9, "max_completion_tokens": 1 }), "Echo", "length"),
        (json!({ "max_tokens": 9 }), "Echo from gpt-oss-20b: hi", "stop"),
        (json!({ "stop": "from" }), "Echo ", "stop"),
        (json!({ "stop": ["zz", "20b", "gpt"] }), "Echo from ", "stop"),
        (json!({ "stop": null, "max_tokens": null, "n": null }), "Echo from gpt-oss-20b: hi", "stop"),
        (json!({ "ignore_eos": true, "max_tokens": 11 }), "Echo from gpt-oss-20b: hiEcho from", "length"),
        (json!({ "stop": "Echo" }), "", "stop"),
    ];
    for (fields, text, reason) in cases {
        let body = with(chat("hi"), fields.clone());
        let answer = server.ok(CHAT, &body).await;
        assert_eq!(
            (said(&answer), &answer["choices"][0]["finish_reason"]),
            (text, &json!(reason)),
            "{fields}"
        );
        let chunks = server.stream(CHAT, &body).await;
        assert_eq!(put_together(&chunks, 1), [text], "{fields}");
        assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], reason, "{fields}");
    }
}

#[tokio::test]
async fn logprobs_tell_each_token() {
    let server = TestServer::start(&[]);
    let body = with(chat("é"), json!({ "logprobs": true, "top_logprobs": 2 }));
    let answer = server.ok(CHAT, &body).await;
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let text: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(text, said(&answer));
    let last = tokens.last().unwrap();
    assert_eq!(last["bytes"], json!([0xc3, 0xa9]));
    assert_eq!(last["logprob"], 0.0);
    assert_eq!(last["top_logprobs"].as_array().unwrap().len(), 2);
    assert_eq!(last["top_logprobs"][0]["token"], "é");

    let streamed: Vec<Value> = server
        .stream(CHAT, &body)
        .await
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(&streamed, tokens);
}

#[tokio::test]
async fn the_same_request_gives_the_same_bytes() {
    let server = TestServer::start(&[]);
    let body = with(chat("again"), json!({ "seed": 7, "temperature": 1.5, "n": 3, "logprobs": true }));
    let mut answers = Vec::new();
    for _ in 0..3 {
        let mut answer = server.ok(CHAT, &body).await;
        answer["id"] = Value::Null;
        answer["created"] = Value::Null;
        answers.push(answer.to_string());
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[tokio::test]
async fn unknown_fields_are_accepted_and_metadata_comes_back() {
    let server = TestServer::start(&[]);
    let fields = json!({
        "made_up": { "deep": [1] }, "metadata": { "a": "b" }, "store": true, "user": "u", "service_tier": "auto",
        "prediction": { "type": "content", "content": "guess" }, "modalities": ["text"], "top_k": 40, "min_p": 0.1,
        "repetition_penalty": 1.1, "logit_bias": { "50256": -100 }, "chat_template_kwargs": { "x": 1 },
        "parallel_tool_calls": false, "reasoning_effort": "low", "verbosity": "high", "prompt_cache_key": "k",
    });
    let answer = server.ok(CHAT, &with(chat("hi"), fields)).await;
    assert_eq!(answer["metadata"], json!({ "a": "b" }));
}
