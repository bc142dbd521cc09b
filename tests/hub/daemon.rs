//! The daemon that downloads what it serves.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;

use crate::{
    common::{LONG, TestServer},
    place::Place,
};

fn start(place: &Place, arguments: &[&str], more: &[(&str, &str)]) -> TestServer {
    let (home, url) = (place.home.path().to_str().unwrap().to_owned(), place.hub.url());
    let variables = [("HF_HOME", &*home), ("HF_ENDPOINT", &*url)];
    let all = [&["--backend", "candle", "--set", "candle.kv_cache=1MiB"], arguments].concat();
    TestServer::start_with(TempDir::new().unwrap(), &all, &[&variables[..], more].concat())
}

#[tokio::test]
async fn a_models_id_is_enough() {
    let place = Place::with_tiny();
    let body = json!({ "model": "org/tiny", "messages": [{ "role": "user", "content": "hello" }], "max_tokens": 8, "temperature": 0 });
    // Long enough to be seen on any machine; the rest comes at once.
    place.hub.pause(Duration::from_millis(200));
    let server = start(&place, &["--model-id", "org/tiny"], &[]);
    let until = Instant::now() + LONG;
    loop {
        let health = server.get("/health/ready").await.text().await.unwrap();
        if health.contains("org/tiny: downloading ") && health.contains(" % of ") {
            break;
        }
        assert!(Instant::now() < until, "{health}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    place.hub.pause(Duration::ZERO);
    server.ready().await;
    let answer = server.ok("/v1/chat/completions", &body).await;
    assert_eq!(answer["usage"]["completion_tokens"], 8);
    drop(server);
    place.hub.seen();
    // Again, from the cache alone.
    let offline = start(&place, &["--model-id", "org/tiny"], &[("HF_HUB_OFFLINE", "1")]);
    offline.ready().await;
    let again = offline.ok("/v1/chat/completions", &body).await;
    assert_eq!(answer["choices"], again["choices"]);
    assert_eq!(answer["system_fingerprint"], again["system_fingerprint"]);
    assert_eq!(place.hub.seen(), [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_had_ends_the_start_with_a_reason_and_a_status() {
    let place = Place::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = format!("http://{closed}");
    for (arguments, variables, status, told) in [
        (&["--model-id", "org/absent"][..], &[][..], 78, "has no model org/absent, or it is private"),
        (&["--model-id", "org/absent"], &[("HF_HUB_OFFLINE", "1")], 78, "HF_HUB_OFFLINE forbids"),
        (&["--model-id", "plain"], &[], 78, "no model is named"),
        // May pass by itself: the service manager tries again.
        (&["--model-id", "org/absent"], &[("HF_ENDPOINT", &*closed)], 69, "cannot be reached"),
    ] {
        let mut server = start(&place, arguments, variables);
        let ended = server.wait();
        let log = server.log();
        assert_eq!(ended.code(), Some(status), "{log}");
        assert!(log.contains(told), "{told}: {log}");
    }
}
