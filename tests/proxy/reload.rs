//! A reload changes the upstreams and drops no stream.

use std::fs;

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    common::{TestServer, chat, events, with},
    upstream::{Upstream, json, ready, until},
};

#[tokio::test]
async fn a_key_in_a_file_is_read_again() {
    let upstream = Upstream::always(vec![json("200 OK", "{}")]).await;
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("key"), "sk-old").unwrap();
    let url = format!("proxy.base_url={}", upstream.url());
    let settings = ["backend=proxy", "proxy.health_path=", "proxy.api_key_file=key", &url];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let server = ready(TestServer::start_in(directory, &settings)).await;
    let models = async || server.get("/v1/models").await.text().await.unwrap();
    let before = models().await;
    // The second in which it began to be served is told, and stays.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    for (key, reloads) in [("sk-old", 1), ("sk-new", 2)] {
        server.ok(CHAT, &chat("hi")).await;
        let seen = upstream.requests().pop().unwrap();
        assert!(seen.contains(&format!("authorization: Bearer {key}\r\n")), "{seen}");
        fs::write(server.path("key"), "sk-new").unwrap();
        server.signal(Signal::HUP);
        until("the reload", || server.log().matches("reloaded; models").count() == reloads).await;
    }
    server.ok(CHAT, &chat("hi")).await;
    assert_eq!(upstream.connections(), 2, "what stayed the same keeps its connection");
    assert_eq!(models().await, before);
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn an_upstream_leaves_and_its_streams_go_on() {
    let slow = TestServer::set(&["echo.delay_ms=100"]);
    let quick = TestServer::start(&[]);
    let directory = TempDir::new().unwrap();
    let write = |directory: &TempDir, name: &str, upstream: &TestServer, key: &str| {
        let text = format!(
            "backend = 'proxy'\n[proxy]\nhealth_interval = '1h'\n[proxy.upstreams.{name}]\nbase_url = '{}'\n{key}",
            upstream.base
        );
        fs::write(directory.path().join("c.toml"), text).unwrap();
    };
    write(&directory, "slow", &slow, "");
    let proxy = ready(TestServer::start_in(directory, &["--config", "c.toml"])).await;
    let text = "one two three four five six seven eight nine ten";
    let body = with(chat(text), json!({ "stream": true }));
    let stream = proxy.post(CHAT, &body).await;
    assert_eq!(stream.status(), 200);

    write(&proxy.directory, "quick", &quick, "");
    proxy.signal(Signal::HUP);
    proxy.logged("reloaded; models").await;
    for _ in 0..10 {
        proxy.ok(CHAT, &chat("hi")).await;
    }
    assert!(proxy.requests().iter().all(|line| line["upstream"] == "quick"), "{:?}", proxy.requests());
    assert!(!proxy.log().contains("after a restart"), "{}", proxy.log());
    let whole = events(&stream.text().await.unwrap());
    assert_eq!(whole.last().unwrap(), "[DONE]");
    assert!(whole.len() > 10, "{whole:?}");
    proxy.logged("\"upstream\":\"slow\"").await;

    // What cannot be used leaves everything as it was.
    write(&proxy.directory, "slow", &slow, "api_key_file = 'none'");
    proxy.signal(Signal::HUP);
    proxy.logged("not reloaded").await;
    proxy.ok(CHAT, &chat("hi")).await;
    let last = proxy.requests().pop().unwrap();
    assert_eq!((&last["upstream"], &last["outcome"]), (&json!("quick"), &json!("ok")));
}
