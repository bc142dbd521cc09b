//! What is refused rather than served badly.

use std::{
    fs,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use serde_json::json;
use tempfile::TempDir;

use crate::common::{LONG, TestServer, chat, error_of, with};

const CHAT: &str = "/v1/chat/completions";

/// A stream that has begun, so that it holds its slot.
async fn running(server: &TestServer, key: &str) -> reqwest::Response {
    let body = with(chat("hi"), json!({ "stream": true }));
    let response = server.client.post(server.url(CHAT)).bearer_auth(key).json(&body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

#[tokio::test]
async fn beyond_the_queue_is_429_and_leaving_gives_the_place_back() {
    let server = TestServer::set(&[
        "echo.delay_ms=60000",
        "limits.max_concurrent_requests=1",
        "limits.max_queued_requests=1",
    ]);
    let first = running(&server, "").await;
    let waiting = tokio::spawn(server.client.post(server.url(CHAT)).json(&chat("hi")).send());
    // The second holds the only place in the queue once a third is refused.
    let refused = loop {
        let short =
            server.client.post(server.url(CHAT)).json(&chat("hi")).timeout(Duration::from_millis(300)).send();
        if let Ok(response) = short.await {
            break response;
        }
    };
    assert_eq!(refused.headers()["retry-after"], "1");
    let (status, error) = error_of(refused).await;
    assert_eq!(
        (status, &error["type"], &error["code"]),
        (429, &json!("rate_limit_error"), &json!("rate_limit_exceeded"))
    );
    assert_eq!(server.get("/v1/models").await.status(), 200, "what generates nothing needs no place");

    waiting.abort();
    drop(first);
    let until = Instant::now() + LONG;
    let body = with(chat("hi"), json!({ "stream": true }));
    while server.client.post(server.url(CHAT)).json(&body).send().await.unwrap().status() != 200 {
        assert!(Instant::now() < until, "the place is not given back");
    }
}

#[tokio::test]
async fn one_key_cannot_take_every_place() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("keys"), "a:sk-a\nb:sk-b\n").unwrap();
    let settings =
        ["--set", "echo.delay_ms=60000", "--set", "limits.max_requests_per_key=1", "--api-key-file", "keys"];
    let server = TestServer::start_in(directory, &settings);
    let first = running(&server, "sk-a").await;
    let request = server.client.post(server.url(CHAT)).bearer_auth("sk-a").json(&chat("hi"));
    let (status, error) = error_of(request.send().await.unwrap()).await;
    assert_eq!(status, 429, "{error}");
    let other = running(&server, "sk-b").await;
    drop((first, other));
    server.logged("the client went away").await;
    loop {
        let body = with(chat("hi"), json!({ "stream": true }));
        let response =
            server.client.post(server.url(CHAT)).bearer_auth("sk-a").json(&body).send().await.unwrap();
        if response.status() == 200 {
            break;
        }
    }
}

#[tokio::test]
async fn a_large_body_is_refused_and_the_client_hears_it() {
    let server = TestServer::set(&["limits.max_body_size=1MiB", "echo.context_length=1000000"]);
    let fits = chat(&"x".repeat((1 << 20) - 200));
    assert_eq!(server.post(CHAT, &fits).await.status(), 200);
    let announced = server.client.post(server.url(CHAT)).body(vec![b'x'; 50 << 20]).send().await.unwrap();
    let (status, error) = error_of(announced).await;
    assert_eq!((status, &error["code"]), (413, &json!("body_too_large")));
    assert!(error["message"].as_str().unwrap().contains("1048576"), "{error}");

    let pieces = futures_util::stream::iter((0..800).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 64 << 10])));
    let unannounced = server.client.post(server.url(CHAT)).body(reqwest::Body::wrap_stream(pieces));
    let (status, _) = error_of(unannounced.send().await.unwrap()).await;
    assert_eq!(status, 413);
    assert_eq!(server.get("/health").await.status(), 200);
    assert!(
        server.proc_status("VmHWM") < 200 << 10,
        "the body was kept: {} KiB",
        server.proc_status("VmHWM")
    );
}

#[tokio::test]
async fn a_slow_body_is_408() {
    let server = TestServer::set(&["server.body_timeout=200ms"]);
    let never =
        futures_util::stream::iter([Ok::<_, std::io::Error>("{")]).chain(futures_util::stream::pending());
    let response =
        server.client.post(server.url(CHAT)).body(reqwest::Body::wrap_stream(never)).send().await.unwrap();
    let (status, error) = error_of(response).await;
    assert_eq!((status, &error["code"]), (408, &json!("body_timeout")));
}
