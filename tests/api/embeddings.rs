//! Embeddings.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::common::{MODEL, TestServer, with};

const EMBEDDINGS: &str = "/v1/embeddings";

fn input(input: Value) -> Value {
    json!({ "model": MODEL, "input": input })
}

#[tokio::test]
async fn every_shape_of_input_has_its_vectors() {
    let server = TestServer::start(&[]);
    let one = server.ok(EMBEDDINGS, &input(json!("a"))).await;
    assert_eq!(one["object"], "list");
    let vector = one["data"][0]["embedding"].as_array().unwrap();
    assert_eq!(vector.len(), 256);
    let norm: f64 = vector.iter().map(|x| x.as_f64().unwrap().powi(2)).sum();
    assert!((norm - 1.0).abs() < 1e-5);
    for same in [json!(["a"]), json!([97]), json!([[97]])] {
        assert_eq!(server.ok(EMBEDDINGS, &input(same)).await["data"], one["data"]);
    }
    let two = server.ok(EMBEDDINGS, &input(json!(["b", "a"]))).await;
    assert_eq!(two["data"][1]["index"], 1);
    assert_eq!(two["data"][1]["embedding"], one["data"][0]["embedding"]);
    assert_ne!(two["data"][0]["embedding"], one["data"][0]["embedding"]);
    assert_eq!(two["usage"], json!({ "prompt_tokens": 2, "total_tokens": 2 }));
}

#[tokio::test]
async fn base64_holds_the_same_floats() {
    let server = TestServer::start(&["--set", "echo.dimensions=8"]);
    let floats = server.ok(EMBEDDINGS, &input(json!("a"))).await;
    let coded = server.ok(EMBEDDINGS, &with(input(json!("a")), json!({ "encoding_format": "base64" }))).await;
    let bytes = STANDARD.decode(coded["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let decoded: Vec<f32> = bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let expected: Vec<f32> = floats["data"][0]["embedding"]
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap() as f32)
        .collect();
    assert_eq!(decoded, expected);
    assert_eq!(decoded.len(), 8);
}

#[tokio::test]
async fn dimensions_are_honoured_or_refused() {
    let server = TestServer::start(&[]);
    let answer = server.ok(EMBEDDINGS, &with(input(json!("a")), json!({ "dimensions": 3 }))).await;
    assert_eq!(answer["data"][0]["embedding"].as_array().unwrap().len(), 3);
    for (fields, param) in [
        (json!({ "dimensions": 0 }), "dimensions"),
        (json!({ "dimensions": 100_000 }), "dimensions"),
        (json!({ "input": [] }), "input"),
        (json!({ "input": vec!["x"; 2049] }), "input"),
        (json!({ "input": [[1], [55_296]] }), "input[1][0]"),
        (json!({ "encoding_format": "int8" }), "encoding_format"),
        (json!({ "prompt_name": "query" }), "prompt_name"),
        (json!({ "truncate_prompt_tokens": 0 }), "truncate_prompt_tokens"),
        (json!({ "truncate_prompt_tokens": 1_000_000 }), "truncate_prompt_tokens"),
    ] {
        let (status, error) = server.error(EMBEDDINGS, &with(input(json!("a")), fields)).await;
        assert_eq!((status, &error["param"]), (400, &json!(param)), "{error}");
    }
}

#[tokio::test]
async fn what_is_too_long_is_refused_or_cut_where_that_is_asked_for() {
    let server = TestServer::start(&["--set", "echo.context_length=2"]);
    let long = input(json!("abcdefghijkl"));
    let (status, error) = server.error(EMBEDDINGS, &long).await;
    assert_eq!(
        (status, &error["code"], &error["param"]),
        (400, &json!("context_length_exceeded"), &json!("input"))
    );
    for (to, same) in [(-1, "abcdefgh"), (2, "abcdefgh"), (1, "abcd")] {
        let cut = server.ok(EMBEDDINGS, &with(long.clone(), json!({ "truncate_prompt_tokens": to }))).await;
        assert_eq!(cut, server.ok(EMBEDDINGS, &input(json!(same))).await);
    }
}
