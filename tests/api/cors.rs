//! Cross-origin calls from web pages.

use reqwest::{Method, Response};

use crate::common::{TestServer, chat};

const ASKED: &str = "authorization,content-type,x-stainless-lang,x-stainless-retry-count";

async fn preflight(server: &TestServer, origin: &str) -> Response {
    let request = server.client.request(Method::OPTIONS, server.url("/v1/chat/completions"));
    let request = request
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", ASKED);
    request.send().await.unwrap()
}

#[tokio::test]
async fn off_by_default() {
    let server = TestServer::start(&[]);
    let response = preflight(&server, "https://a.example").await;
    assert_eq!(response.status(), 405);
    assert!(response.headers().get("access-control-allow-origin").is_none());
}

#[tokio::test]
async fn a_preflight_allows_what_it_asks_for_to_allowed_origins() {
    let server = TestServer::set(&["cors.allowed_origins=https://a.example,https://b.example"]);
    let response = preflight(&server, "https://b.example").await;
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers()["access-control-allow-origin"], "https://b.example");
    assert_eq!(response.headers()["access-control-allow-headers"], ASKED);
    assert_eq!(response.headers()["access-control-allow-methods"], "POST");
    let stranger = preflight(&server, "https://c.example").await;
    assert!(stranger.headers().get("access-control-allow-origin").is_none());

    for body in [chat("hi"), serde_json::json!({})] {
        let request =
            server.client.post(server.url("/v1/chat/completions")).header("origin", "https://a.example");
        let response = request.json(&body).send().await.unwrap();
        assert_eq!(response.headers()["access-control-allow-origin"], "https://a.example");
        assert!(
            response.headers()["access-control-expose-headers"].to_str().unwrap().contains("x-request-id")
        );
    }
}

#[tokio::test]
async fn a_star_allows_every_origin() {
    let server = TestServer::set(&["cors.allowed_origins=*"]);
    let response = preflight(&server, "https://any.example").await;
    assert_eq!(response.headers()["access-control-allow-origin"], "https://any.example");
}
