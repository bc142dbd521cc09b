//! Text completions.

use serde_json::{Value, json};

use crate::common::{MODEL, TestServer, with};

const COMPLETIONS: &str = "/v1/completions";

fn prompt(prompt: Value) -> Value {
    json!({ "model": MODEL, "prompt": prompt })
}

fn texts(answer: &Value) -> Vec<&str> {
    answer["choices"].as_array().unwrap().iter().map(|choice| choice["text"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_shape_of_prompt_is_continued() {
    let server = TestServer::start(&[]);
    let ids = |text: &str| {
        let body = json!({ "model": MODEL, "prompt": text });
        let server = &server;
        async move { server.ok("/v1/tokenize", &body).await["tokens"].clone() }
    };
    let (a, b) = (ids("a").await, ids("b c").await);
    let one = "Echo from gpt-oss-20b: a";
    let two = "Echo from gpt-oss-20b: b c";
    assert_eq!(texts(&server.ok(COMPLETIONS, &prompt(json!("a"))).await), [one]);
    assert_eq!(texts(&server.ok(COMPLETIONS, &prompt(json!(["a", "b c"]))).await), [one, two]);
    assert_eq!(texts(&server.ok(COMPLETIONS, &prompt(a.clone())).await), [one]);
    let both = with(prompt(json!([a, b])), json!({ "n": 2 }));
    let answer = server.ok(COMPLETIONS, &both).await;
    assert_eq!(texts(&answer), [one, one, two, two]);
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
    assert_eq!(answer["choices"][3]["index"], 3);
}

#[tokio::test]
async fn suffix_echo_and_best_of_are_honoured() {
    let server = TestServer::start(&[]);
    let fields = json!({ "suffix": " end", "echo": true, "best_of": 3, "n": 2 });
    let answer = server.ok(COMPLETIONS, &with(prompt(json!("once")), fields)).await;
    assert_eq!(texts(&answer), ["onceEcho from gpt-oss-20b: once end"; 2]);
    assert_eq!(answer["usage"]["completion_tokens"], 3 * 10, "every candidate counts");
}

#[tokio::test]
async fn sixteen_tokens_are_the_default_and_zero_is_allowed() {
    let server = TestServer::start(&[]);
    let long = prompt(json!("a b c d e f g h i j k l m n o p"));
    let answer = server.ok(COMPLETIONS, &long).await;
    assert_eq!(answer["usage"]["completion_tokens"], 16);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let answer = server.ok(COMPLETIONS, &with(long, json!({ "max_tokens": 0, "echo": true }))).await;
    assert_eq!(texts(&answer), ["a b c d e f g h i j k l m n o p"]);
}

#[tokio::test]
async fn logprobs_are_columns_with_offsets() {
    let server = TestServer::start(&[]);
    let answer = server.ok(COMPLETIONS, &with(prompt(json!("é")), json!({ "logprobs": 2 }))).await;
    let columns = &answer["choices"][0]["logprobs"];
    let tokens: Vec<&str> =
        columns["tokens"].as_array().unwrap().iter().map(|token| token.as_str().unwrap()).collect();
    assert_eq!(tokens.concat(), texts(&answer)[0]);
    let mut offset = 0;
    for (place, token) in tokens.iter().enumerate() {
        assert_eq!(columns["text_offset"][place], offset);
        assert_eq!(columns["token_logprobs"][place], 0.0);
        assert_eq!(columns["top_logprobs"][place][token], 0.0);
        assert_eq!(columns["top_logprobs"][place].as_object().unwrap().len(), 2);
        offset += token.chars().count();
    }
}

#[tokio::test]
async fn a_stream_of_several_prompts_numbers_its_choices() {
    let server = TestServer::start(&[]);
    let fields = json!({ "n": 2, "stream_options": { "include_usage": true }, "logprobs": 1 });
    let body = with(prompt(json!(["a", "b"])), fields);
    let mut whole = body.clone();
    whole.as_object_mut().unwrap().remove("stream_options");
    let whole = server.ok(COMPLETIONS, &whole).await;
    let chunks = server.stream(COMPLETIONS, &body).await;
    let mut streamed = vec![String::new(); 4];
    let mut finished = 0;
    let mut offsets = [0; 4];
    for chunk in &chunks {
        assert_eq!(chunk["object"], "text_completion");
        for choice in chunk["choices"].as_array().unwrap() {
            let index = choice["index"].as_u64().unwrap() as usize;
            streamed[index].push_str(choice["text"].as_str().unwrap());
            finished += usize::from(!choice["finish_reason"].is_null());
            if let Some(offset) = choice["logprobs"]["text_offset"].get(0) {
                assert_eq!(offset, offsets[index]);
                offsets[index] = streamed[index].chars().count();
            }
        }
    }
    assert_eq!(streamed, texts(&whole));
    assert_eq!(finished, 4);
    assert_eq!(chunks.last().unwrap()["usage"], whole["usage"]);
}

#[tokio::test]
async fn contradictions_are_refused() {
    let server = TestServer::start(&[]);
    let cases = [
        (json!({ "best_of": 1, "n": 2 }), "best_of"),
        (json!({ "best_of": 2, "stream": true }), "best_of"),
        (json!({ "logprobs": 6 }), "logprobs"),
        (json!({ "stream_options": {} }), "stream_options"),
        (json!({ "prompt": [1, "a"] }), "prompt"),
        (json!({ "prompt": [[1], [4_000_000_000_u32]] }), "prompt[1][0]"),
        (json!({ "prompt": [4_000_000_000_u32] }), "prompt[0]"),
        (json!({ "prompt": null }), "prompt"),
    ];
    for (fields, param) in cases {
        let (status, error) = server.error(COMPLETIONS, &with(prompt(json!("a")), fields.clone())).await;
        assert_eq!((status, &error["param"]), (400, &json!(param)), "{fields}: {error}");
    }
}
