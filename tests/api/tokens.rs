//! Tokenize and detokenize.

use serde_json::json;

use crate::common::{MODEL, TestServer};

#[tokio::test]
async fn text_goes_to_ids_and_back() {
    let server = TestServer::start(&[]);
    let text = "Hello, wörld! 日本 \n\t😀";
    let tokens = server.ok("/v1/tokenize", &json!({ "model": MODEL, "prompt": text })).await;
    assert_eq!(tokens["count"], tokens["tokens"].as_array().unwrap().len());
    assert_eq!(tokens["max_model_len"], 131_072);
    let back = server.ok("/v1/detokenize", &json!({ "model": MODEL, "tokens": tokens["tokens"] })).await;
    assert_eq!(back, json!({ "prompt": text }));
}

#[tokio::test]
async fn a_conversation_is_tokenized_as_it_is_counted() {
    let server = TestServer::start(&[]);
    let messages = json!([{ "role": "system", "content": "s" }, { "role": "user", "content": "u" }]);
    let chat = server.ok("/v1/tokenize", &json!({ "model": MODEL, "messages": messages })).await;
    let text = server.ok("/v1/tokenize", &json!({ "model": MODEL, "prompt": "system: s\nuser: u" })).await;
    assert_eq!(chat, text);
    let answer = server.ok("/v1/chat/completions", &json!({ "model": MODEL, "messages": messages })).await;
    assert_eq!(answer["usage"]["prompt_tokens"], chat["count"]);
}

#[tokio::test]
async fn one_subject_is_needed_and_ids_must_exist() {
    let server = TestServer::start(&[]);
    let messages = json!([{ "role": "user", "content": "u" }]);
    let both = json!({ "model": MODEL, "prompt": "a", "messages": messages });
    for body in [json!({ "model": MODEL }), both] {
        let (status, error) = server.error("/v1/tokenize", &body).await;
        assert_eq!((status, &error["param"]), (400, &json!("prompt")));
    }
    let (status, error) =
        server.error("/v1/detokenize", &json!({ "model": MODEL, "tokens": [97, 55_296] })).await;
    assert_eq!((status, &error["param"]), (400, &json!("tokens[1]")));
}
