//! The models list, and several models side by side.

use serde_json::json;

use crate::common::{TestServer, chat, error_of, with};

#[tokio::test]
async fn models_are_listed_and_found_by_ids_with_slashes() {
    let server = TestServer::set(&[r#"models."org/name".backend=echo"#, "models.b.echo.context_length=64"]);
    let list: serde_json::Value = server.get("/v1/models").await.json().await.unwrap();
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect();
    assert_eq!(ids, ["org/name", "b"]);
    for row in list["data"].as_array().unwrap() {
        assert!(row["created"].is_u64() && row["owned_by"].is_string() && row["object"] == "model");
    }
    for path in ["/v1/models/org/name", "/v1/models/org%2Fname"] {
        let model: serde_json::Value = server.get(path).await.json().await.unwrap();
        assert_eq!(model, list["data"][0], "{path}");
    }
    let (status, error) = error_of(server.get("/v1/models/org").await).await;
    assert_eq!((status, &error["code"], &error["param"]), (404, &json!("model_not_found"), &json!("model")));
    assert!(error["message"].as_str().unwrap().contains("org/name, b"), "{error}");
}

#[tokio::test]
async fn each_model_answers_under_its_own_name_and_settings() {
    let server = TestServer::set(&[r#"models."org/name".backend=echo"#, "models.b.echo.context_length=8"]);
    let ask = |model: &str| with(chat("hi"), json!({ "model": model }));
    let answer = server.ok("/v1/chat/completions", &ask("org/name")).await;
    assert_eq!(answer["model"], "org/name");
    assert_eq!(answer["choices"][0]["message"]["content"], "Echo from org/name: hi");
    let long = with(ask("b"), json!({ "max_tokens": 6 }));
    let (status, error) = server.error("/v1/chat/completions", &long).await;
    assert_eq!((status, &error["code"]), (400, &json!("context_length_exceeded")));
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("8 tokens") && message.contains("3 tokens of prompt") && message.contains("6 of"),
        "{message}"
    );
    let (status, error) = server.error("/v1/chat/completions", &ask("nope")).await;
    assert_eq!((status, &error["code"]), (404, &json!("model_not_found")));
}

#[tokio::test]
async fn another_prefix_moves_the_api_and_its_document() {
    let server = TestServer::start(&["--set", "api_prefix=/openai/v1"]);
    assert_eq!(server.get("/v1/models").await.status(), 404);
    assert_eq!(server.get("/openai/v1/models").await.status(), 200);
    assert_eq!(server.get("/openai/v1/models/gpt-oss-20b").await.status(), 200);
    let document: serde_json::Value = server.get("/openapi.json").await.json().await.unwrap();
    assert!(document["paths"].get("/openai/v1/chat/completions").is_some());
    assert!(document["paths"].get("/health").is_some());
    let root = TestServer::start(&["--set", "api_prefix=/"]);
    assert_eq!(root.get("/models").await.status(), 200);
    assert_eq!(root.get("/").await.status(), 200);
}
