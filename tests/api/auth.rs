//! API keys: who gets in, what is told, and that no key is ever shown.

use std::fs;

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::common::{TestServer, chat, error_of};

const CHAT: &str = "/v1/chat/completions";

fn with_keys(keys: &str) -> TestServer {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("keys"), keys).unwrap();
    TestServer::start_in(directory, &["--api-key-file", "keys"])
}

#[tokio::test]
async fn each_key_of_the_file_lets_in_and_is_logged_by_its_name() {
    let server = with_keys("# team\nalice:sk-alice-hidden\nsk-nameless-hidden\n");
    for key in ["sk-alice-hidden", "sk-nameless-hidden"] {
        let response =
            server.client.post(server.url(CHAT)).bearer_auth(key).json(&chat("hi")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.bytes().await.unwrap();
    }
    server.logged("\"alice\"").await;
    assert!(!server.log().contains("hidden"), "{}", server.log());
}

#[tokio::test]
async fn without_a_key_nothing_is_read_and_nothing_is_told() {
    let server = with_keys("alice:sk-alice-hidden");
    let requests = [
        server.client.post(server.url(CHAT)).body("not even json"),
        server.client.post(server.url(CHAT)).bearer_auth("sk-wrong").json(&chat("hi")),
        server.client.post(server.url(CHAT)).bearer_auth("alice:sk-alice-hidden").json(&chat("hi")),
        server.client.post(server.url(CHAT)).basic_auth("alice", Some("sk-alice-hidden")).json(&chat("hi")),
        server.client.post(server.url("/v1/completions")),
        server.client.post(server.url("/v1/embeddings")),
        server.client.post(server.url("/v1/tokenize")),
        server.client.post(server.url("/v1/detokenize")),
        server.client.get(server.url("/v1/models")),
        server.client.get(server.url("/v1/models/x")),
        server.client.get(server.url("/metrics")),
    ];
    for request in requests {
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"sconce\"");
        let (status, error) = error_of(response).await;
        assert_eq!((status, &error["code"]), (401, &json!("invalid_api_key")));
        assert!(!error.to_string().contains("hidden"));
    }
    for open in ["/health", "/health/live", "/openapi.json", "/docs", "/"] {
        assert_eq!(server.get(open).await.status(), 200, "{open} needs no key");
    }
    assert!(!server.log().contains("hidden"));
}

#[tokio::test]
async fn every_operation_of_the_api_asks_for_a_key() {
    let document: serde_json::Value = serde_json::from_str(&sconce::api::openapi_document("/v1")).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let secured =
                operation["security"].as_array().is_some_and(|s| s.iter().any(|s| s.get("ApiKey").is_some()));
            assert_eq!(secured, path.starts_with("/v1/") || path == "/metrics", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_predecessors_variable_sets_a_key() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join(".env"), "APP_API_KEY=sk-dotenv-hidden\nAPP_MODEL_ID=my-model\n")
        .unwrap();
    let server = TestServer::start_in(directory, &[]);
    assert_eq!(server.get("/v1/models").await.status(), 401);
    let models =
        server.client.get(server.url("/v1/models")).bearer_auth("sk-dotenv-hidden").send().await.unwrap();
    assert!(models.text().await.unwrap().contains("my-model"));
    assert!(!server.log().contains("hidden"));
}

#[tokio::test]
async fn keys_reload_on_sighup_and_a_bad_file_changes_nothing() {
    let server = with_keys("a:sk-one");
    let status = async |key: &str| {
        server.client.get(server.url("/v1/models")).bearer_auth(key).send().await.unwrap().status().as_u16()
    };
    assert_eq!((status("sk-one").await, status("sk-two").await), (200, 401));
    fs::write(server.path("keys"), "a:sk-two").unwrap();
    server.signal(Signal::HUP);
    server.logged("\"message\":\"reloaded; ").await;
    assert_eq!((status("sk-one").await, status("sk-two").await), (401, 200));
    fs::write(server.path("keys"), "# nobody\n").unwrap();
    server.signal(Signal::HUP);
    server.logged("has no API key in it").await;
    assert_eq!((status("sk-one").await, status("sk-two").await), (401, 200), "the old keys stay");
}

#[tokio::test]
async fn a_reload_never_opens_the_door() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("keys"), "sk-one").unwrap();
    fs::write(directory.path().join("config.toml"), "auth.keys_file = 'keys'").unwrap();
    let server = TestServer::start_in(directory, &["--config", "config.toml"]);
    assert_eq!(server.get("/v1/models").await.status(), 401);
    fs::write(server.path("config.toml"), "").unwrap();
    server.signal(Signal::HUP);
    server.logged("no API key is left").await;
    assert_eq!(server.get("/v1/models").await.status(), 401);

    fs::write(server.path("config.toml"), "cors.allowed_origins = ['*']\nauth.keys_file = 'keys'").unwrap();
    server.signal(Signal::HUP);
    server.logged("takes effect after a restart: cors").await;
}

#[tokio::test]
async fn an_open_port_beyond_loopback_is_warned_about() {
    let server = TestServer::start(&["--listen", "0.0.0.0:0"]);
    server.logged("may call: no API key is set").await;
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("keys"), "sk-1").unwrap();
    let guarded = TestServer::start_in(directory, &["--listen", "0.0.0.0:0", "--api-key-file", "keys"]);
    assert_eq!(guarded.get("/health").await.status(), 200);
    assert!(!guarded.log().contains("everybody"));
}
