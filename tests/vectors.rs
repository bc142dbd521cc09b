//! Embeddings and scores of documents through the daemon, on tiny encoders with made-up weights.
#![cfg(feature = "candle")]

mod common;
#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "other tests use all of it")]
mod tiny;
#[path = "common/tiny_encoder.rs"]
mod tiny_encoder;
#[path = "model/weights.rs"]
mod weights;

use std::process::Command;

use base64::{Engine, engine::general_purpose::STANDARD};
use common::{TestServer, chat, metric, with};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tiny_encoder::{LIMIT, WIDTH, embedder, reranker};

const EMBEDDINGS: &str = "/v1/embeddings";
const RERANK: &str = "/v1/rerank";

fn input(input: impl Into<Value>) -> Value {
    json!({ "model": "tiny", "input": input.into() })
}

fn query(documents: Value) -> Value {
    json!({ "model": "tiny", "query": "is it warm?", "documents": documents })
}

async fn vector(server: &TestServer, body: &Value) -> Vec<f64> {
    numbers(&server.ok(EMBEDDINGS, body).await["data"][0]["embedding"])
}

fn numbers(vector: &Value) -> Vec<f64> {
    vector.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn length(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[tokio::test]
async fn every_shape_of_input_has_its_vectors() {
    let server = embedder(&[]).await;
    let one = server.ok(EMBEDDINGS, &input("warm")).await;
    let expected = numbers(&one["data"][0]["embedding"]);
    assert_eq!((expected.len(), one["usage"]["prompt_tokens"].as_u64()), (WIDTH, Some(6)));
    assert!((length(&expected) - 1.0).abs() < 1e-6);
    let tokens = server.ok("/v1/tokenize", &json!({ "model": "tiny", "prompt": "warm" })).await;
    assert_eq!((tokens["count"].as_u64(), tokens["max_model_len"].as_u64()), (Some(6), Some(LIMIT as u64)));
    // Token ids stand as they are, with the special ones that the client put there.
    for same in [json!(["warm"]), tokens["tokens"].clone(), json!([tokens["tokens"]]), json!("WARM")] {
        assert_eq!(server.ok(EMBEDDINGS, &input(same)).await["data"], one["data"]);
    }
    let two = server.ok(EMBEDDINGS, &input(json!(["cold", "warm"]))).await;
    assert_eq!(two["data"][1]["embedding"], one["data"][0]["embedding"]);
    assert_ne!(two["data"][0]["embedding"], one["data"][0]["embedding"]);
    assert_eq!(two["usage"], json!({ "prompt_tokens": 12, "total_tokens": 12 }));
    let coded = server.ok(EMBEDDINGS, &with(input("warm"), json!({ "encoding_format": "base64" }))).await;
    let bytes = STANDARD.decode(coded["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let decoded = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).to_string());
    let written = expected.iter().map(|x| (*x as f32).to_string());
    assert!(decoded.eq(written));
    let text = server.ok("/v1/detokenize", &json!({ "model": "tiny", "tokens": [2, 27, 3] })).await;
    assert_eq!(text["prompt"], "[CLS] w [SEP]");
}

#[tokio::test]
async fn the_same_text_gives_the_same_bytes_in_any_batch() {
    let texts: Vec<String> = (0..60).map(|n| "ab c".repeat(n % 9 + 1) + &n.to_string()).collect();
    let alone = embedder(&["candle.threads=1", "candle.max_batch_tokens=1"]).await;
    let bodies: Vec<Value> = texts.iter().map(|text| input(text.as_str())).collect();
    let expected = join_all(bodies.iter().map(|body| alone.ok(EMBEDDINGS, body))).await;
    assert!(metric(&alone, "sconce_engine_steps_total").await >= 60);
    let busy = embedder(&["candle.threads=3", "candle.max_batch_tokens=100"]).await;
    for _ in 0..3 {
        let singles = join_all(bodies.iter().map(|body| busy.ok(EMBEDDINGS, body)));
        let all = input(texts.clone());
        let (singles, all) = tokio::join!(singles, busy.ok(EMBEDDINGS, &all));
        for (i, (single, expected)) in singles.iter().zip(&expected).enumerate() {
            assert_eq!(single["data"], expected["data"], "{i}");
            assert_eq!(all["data"][i]["embedding"], expected["data"][0]["embedding"], "{i}");
        }
    }
    let (steps, vectors) =
        (metric(&busy, "sconce_engine_steps_total").await, metric(&busy, "sconce_vectors_total").await);
    assert!(vectors == 361 && steps < vectors / 2, "{steps} batches of {vectors} vectors");
}

#[tokio::test]
async fn dimensions_are_honoured_or_refused() {
    let server = embedder(&[]).await;
    let whole = vector(&server, &input("warm")).await;
    let shorter = vector(&server, &with(input("warm"), json!({ "dimensions": 5 }))).await;
    let scale = length(&whole[..5]);
    assert_eq!(shorter.len(), 5);
    assert!(whole.iter().zip(&shorter).all(|(whole, shorter)| (whole / scale - shorter).abs() < 1e-6));
    let (status, error) =
        server.error(EMBEDDINGS, &with(input("warm"), json!({ "dimensions": WIDTH + 1 }))).await;
    assert_eq!((status, &error["param"]), (400, &json!("dimensions")));
    assert!(error["message"].as_str().unwrap().contains("64 dimensions"), "{error}");
}

#[tokio::test]
async fn what_is_too_long_is_refused_or_cut_where_that_is_asked_for() {
    let server = embedder(&[]).await;
    let long = "a".repeat(60);
    let (status, error) = server.error(EMBEDDINGS, &input(json!(["a", long]))).await;
    assert_eq!((status, &error["code"]), (400, &json!("context_length_exceeded")));
    assert_eq!(error["param"], "input[1]");
    let told = error["message"].as_str().unwrap();
    for word in ["40 tokens", "input[1] has 62", "'truncate_prompt_tokens'"] {
        assert!(told.contains(word), "{told}");
    }
    let cut = |to: i64| with(input(long.as_str()), json!({ "truncate_prompt_tokens": to }));
    for (to, same) in [(-1, LIMIT - 2), (40, LIMIT - 2), (10, 8), (3, 1)] {
        let answer = server.ok(EMBEDDINGS, &cut(to)).await;
        let same = server.ok(EMBEDDINGS, &input(long[..same].to_owned())).await;
        assert_eq!((&answer["data"], &answer["usage"]), (&same["data"], &same["usage"]), "{to}");
    }
    let whole = server.ok(EMBEDDINGS, &cut(-1)).await;
    let truncated = with(input(long.as_str()), json!({ "truncate": true }));
    assert_eq!(server.ok(EMBEDDINGS, &truncated).await["data"], whole["data"]);
    let kept = with(input(long.as_str()), json!({ "truncate": false }));
    assert_eq!(server.error(EMBEDDINGS, &kept).await.1["code"], "context_length_exceeded");
    let both = with(cut(10), json!({ "truncate": true }));
    assert_eq!(server.ok(EMBEDDINGS, &both).await["usage"]["prompt_tokens"], 10);
    let contradiction = with(cut(10), json!({ "truncate": false }));
    let (status, error) = server.error(EMBEDDINGS, &contradiction).await;
    assert_eq!((status, &error["param"]), (400, &json!("truncate")), "{error}");
    let ids = with(input(json!([2, 5, 41, 42, 3])), json!({ "truncate_prompt_tokens": 2 }));
    assert_eq!(
        server.ok(EMBEDDINGS, &ids).await["data"],
        server.ok(EMBEDDINGS, &input(json!([2, 5]))).await["data"]
    );
    for (to, word) in [(41, "40 tokens"), (2, "2 of its own"), (0, "neither -1"), (-2, "neither -1")] {
        let (status, error) = server.error(EMBEDDINGS, &cut(to)).await;
        assert_eq!((status, &error["param"]), (400, &json!("truncate_prompt_tokens")), "{error}");
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
    }
    // The configuration knows better than the file, up to the table of positions.
    let server = embedder(&["candle.context_length=62"]).await;
    assert_eq!(server.ok(EMBEDDINGS, &input(long.as_str())).await["usage"]["prompt_tokens"], 62);
}

#[tokio::test]
async fn prompts_are_the_models_own() {
    let server = embedder(&[]).await;
    let asked = vector(&server, &with(input("warm"), json!({ "prompt_name": "query" }))).await;
    assert_eq!(asked, vector(&server, &input("ask: warm")).await);
    let plain = vector(&server, &input("warm")).await;
    assert_eq!(plain, vector(&server, &with(input("warm"), json!({ "prompt_name": "plain" }))).await);
    let (status, error) =
        server.error(EMBEDDINGS, &with(input("warm"), json!({ "prompt_name": "passage" }))).await;
    assert_eq!((status, &error["param"]), (400, &json!("prompt_name")));
    assert!(error["message"].as_str().unwrap().contains("query, plain"), "{error}");
    let ids = with(input(json!([2, 5, 3])), json!({ "prompt_name": "query" }));
    assert_eq!(server.error(EMBEDDINGS, &ids).await.0, 400);

    let directory = TempDir::new().unwrap();
    tiny_encoder::write_embedder(directory.path());
    let file = directory.path().join("config_sentence_transformers.json");
    std::fs::write(
        file,
        json!({ "prompts": { "query": "ask: " }, "default_prompt_name": "query" }).to_string(),
    )
    .unwrap();
    let server = tiny_encoder::serve(directory, &[]).await;
    assert_eq!(vector(&server, &input("warm")).await, asked);
}

#[tokio::test]
async fn each_model_does_what_it_is_for_and_says_what_that_is() {
    let embedder = embedder(&[]).await;
    let decoder = tiny::server(tiny::Stored::F32, &[]).await;
    let reranker = reranker("bert_classifier", &[]).await;
    let completion = json!({ "model": "tiny", "prompt": "a" });
    let talk = with(chat("a"), json!({ "model": "tiny" }));
    let documents = query(json!(["a"]));
    for (server, path, body, word) in [
        (&embedder, "/v1/chat/completions", &talk, "/embeddings"),
        (&embedder, "/v1/completions", &completion, "/embeddings"),
        (&embedder, RERANK, &documents, "/embeddings"),
        (&reranker, "/v1/chat/completions", &talk, "/rerank"),
        (&reranker, EMBEDDINGS, &input("a"), "/rerank"),
        (&decoder, EMBEDDINGS, &input("a"), "candle.task"),
        (&decoder, RERANK, &documents, "candle.task"),
    ] {
        let (status, error) = server.error(path, body).await;
        assert_eq!(
            (status, &error["param"], &error["code"]),
            (400, &json!("model"), &json!("unsupported_value"))
        );
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_decoder_makes_vectors_of_its_last_token_where_that_is_configured() {
    let server = tiny::server(tiny::Stored::F32, &["candle.task=embed"]).await;
    let long = "a text of some length ".repeat(100);
    let texts = ["one", "another", &long];
    let all = server.ok(EMBEDDINGS, &input(texts.to_vec())).await;
    for (i, text) in texts.iter().enumerate() {
        let own = vector(&server, &input(*text)).await;
        assert_eq!(numbers(&all["data"][i]["embedding"]), own, "{text}");
        assert!((length(&own) - 1.0).abs() < 1e-6);
    }
    assert_ne!(all["data"][0]["embedding"], all["data"][1]["embedding"]);
    let (status, error) = server.error("/v1/completions", &json!({ "model": "tiny", "prompt": "a" })).await;
    assert_eq!((status, &error["code"]), (400, &json!("unsupported_value")));
}

#[tokio::test]
async fn documents_are_sorted_by_their_score() {
    for name in ["bert_classifier", "xlm_roberta_classifier", "modernbert_classifier"] {
        let server = reranker(name, &[]).await;
        let documents = ["it rains", "20 degrees", "a", "it rains", "warm enough to swim in the sea"];
        let answer = server.ok(RERANK, &query(json!(documents))).await;
        let results = answer["results"].as_array().unwrap();
        let score = |result: &Value| result["relevance_score"].as_f64().unwrap();
        assert_eq!(results.len(), documents.len());
        assert!(results.iter().all(|result| score(result) > 0.0 && score(result) < 1.0), "{results:?}");
        assert!(results.is_sorted_by(|a, b| score(a) >= score(b)), "{results:?}");
        for result in results {
            assert_eq!(result["document"]["text"], documents[result["index"].as_u64().unwrap() as usize]);
        }
        let place = |index: u64| results.iter().position(|result| result["index"] == index).unwrap();
        assert_eq!(place(0) + 1, place(3), "equals stay in their order");
        assert_ne!(score(&results[0]), score(&results[4]));
        assert_eq!(answer["usage"]["prompt_tokens"], answer["usage"]["total_tokens"]);
        // Alone a document has the same bytes, as a text or as an object.
        for document in [json!("20 degrees"), json!({ "text": "20 degrees", "title": "weather" })] {
            let alone = server.ok(RERANK, &query(json!([document]))).await;
            assert_eq!(
                alone["results"][0]["relevance_score"],
                results[place(1)]["relevance_score"],
                "{name}"
            );
            if name == "bert_classifier" {
                // [CLS] is it warm? [SEP] 20 degrees [SEP]
                assert_eq!(alone["usage"]["prompt_tokens"], 3 + 9 + 9);
            }
        }
        let few = server
            .ok(RERANK, &with(query(json!(documents)), json!({ "top_n": 2, "return_documents": false })))
            .await;
        let bare: Vec<Value> = results[..2]
            .iter()
            .map(|result| json!({ "index": result["index"], "relevance_score": result["relevance_score"] }))
            .collect();
        assert_eq!(few["results"], json!(bare));
    }
}

#[tokio::test]
async fn a_pair_that_is_too_long_is_refused_or_cut() {
    let server = reranker("bert_classifier", &[]).await;
    let long = "b".repeat(60);
    let (status, error) = server.error(RERANK, &query(json!(["a", long]))).await;
    assert_eq!((status, &error["code"]), (400, &json!("context_length_exceeded")));
    assert_eq!(error["param"], "documents[1]");
    assert!(
        error["message"].as_str().unwrap().contains("40 tokens at a time, but documents[1] has 72"),
        "{error}"
    );
    let cut = with(query(json!([long])), json!({ "truncate_prompt_tokens": -1 }));
    let same = query(json!([long[..LIMIT - 3 - 9]]));
    let truncated = with(query(json!([long])), json!({ "truncate": true }));
    let truncated = server.ok(RERANK, &truncated).await;
    let (cut, same) = (server.ok(RERANK, &cut).await, server.ok(RERANK, &same).await);
    assert_eq!(truncated["results"], cut["results"]);
    assert_eq!(cut["results"][0]["relevance_score"], same["results"][0]["relevance_score"]);
    assert_eq!(cut["usage"], same["usage"]);
}

#[tokio::test]
async fn several_labels_are_no_score() {
    let directory = TempDir::new().unwrap();
    tiny_encoder::write(directory.path(), "roberta_classifier");
    let arguments = ["--backend", "candle", "--model-id", "tiny", "--set", "candle.source=."];
    let mut server = TestServer::start_in(directory, &arguments);
    assert!(!server.wait().success());
    assert!(server.log().contains("3 labels"), "{}", server.log());
}

#[test]
fn a_look_at_a_model_tells_what_it_is_for() {
    let directory = TempDir::new().unwrap();
    tiny_encoder::write_embedder(directory.path());
    let look = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
        let output = command.args(["models", "inspect", "--json"]).arg(directory.path()).env_clear().output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let mut report = look();
    if let Some(reports) = report.as_array() {
        report = reports[0].clone();
    }
    assert_eq!((&report["task"], &report["pooling"]), (&json!("embed"), &json!("mean, length 1")));
    assert_eq!((&report["context_length"], &report["memory"]["kv_cache"]), (&json!(LIMIT), &json!(0)));
    let inputs: Vec<&str> =
        report["inputs"].as_array().unwrap().iter().map(|input| input["name"].as_str().unwrap()).collect();
    for name in ["modules.json", "1_Pooling/config.json", "config_sentence_transformers.json"] {
        assert!(inputs.contains(&name), "{inputs:?}");
    }
}
