//! Documents by how well they answer a query.

use serde_json::{Value, json};

use crate::common::{MODEL, TestServer, with};

const RERANK: &str = "/v1/rerank";

fn query(documents: Value) -> Value {
    json!({ "model": MODEL, "query": "warm days", "documents": documents })
}

#[tokio::test]
async fn the_best_come_first_and_bring_their_text() {
    let server = TestServer::start(&[]);
    let documents = json!(["cold", { "text": "Warm", "title": "t" }, "warm days", "cold"]);
    let answer = server.ok(RERANK, &query(documents.clone())).await;
    let expected = json!([
        { "index": 2, "relevance_score": 1.0, "document": { "text": "warm days" } },
        { "index": 1, "relevance_score": 0.5, "document": { "text": "Warm" } },
        { "index": 0, "relevance_score": 0.0, "document": { "text": "cold" } },
        { "index": 3, "relevance_score": 0.0, "document": { "text": "cold" } },
    ]);
    assert_eq!(answer["results"], expected);
    assert_eq!(answer["model"], MODEL);
    assert!(answer["id"].as_str().unwrap().starts_with("rerank-"));
    let counts = &answer["usage"];
    assert!(
        counts["prompt_tokens"].as_u64().unwrap() > 8 && counts["total_tokens"] == counts["prompt_tokens"]
    );
    for (top, count) in [(0, 4), (1, 1), (3, 3), (9, 4)] {
        let body = with(query(documents.clone()), json!({ "top_n": top, "return_documents": false }));
        let answer = server.ok(RERANK, &body).await;
        let results = answer["results"].as_array().unwrap();
        assert_eq!(results.len(), count, "{top}");
        assert_eq!(results[0], json!({ "index": 2, "relevance_score": 1.0 }));
    }
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let server = TestServer::start(&["--set", "echo.context_length=8"]);
    for (fields, param) in [
        (json!({ "documents": [] }), "documents"),
        (json!({ "documents": vec!["x"; 2049] }), "documents"),
        (json!({ "documents": "x" }), "documents"),
        (json!({ "documents": ["x", 5] }), "documents[1]"),
        (json!({ "documents": ["x", { "title": "y" }] }), "documents[1]"),
        (json!({ "documents": ["x", { "text": 5 }] }), "documents[1].text"),
        (json!({ "documents": ["x", "y".repeat(60)] }), "documents[1]"),
        (json!({ "query": ["warm"] }), "query"),
        (json!({ "top_n": -1 }), "top_n"),
        (json!({ "truncate_prompt_tokens": 0 }), "truncate_prompt_tokens"),
        (json!({ "truncate_prompt_tokens": 5 }), "truncate_prompt_tokens"),
        (json!({ "max_tokens_per_doc": 5 }), "max_tokens_per_doc"),
        (json!({ "max_chunks_per_doc": 5 }), "max_chunks_per_doc"),
        (json!({ "rank_fields": ["text"] }), "rank_fields"),
    ] {
        let (status, error) = server.error(RERANK, &with(query(json!(["x"])), fields.clone())).await;
        assert_eq!((status, &error["param"]), (400, &json!(param)), "{fields} {error}");
    }
    let (status, error) = server.error(RERANK, &json!({ "model": MODEL, "documents": ["x"] })).await;
    assert_eq!((status, &error["param"]), (400, &json!("query")));
}
