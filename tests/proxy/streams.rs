//! Streams on their way through: none waits for the next event, and each end reaches the other side.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rustix::process::Signal;
use serde_json::json;

use crate::{
    common::{TestServer, chat, events as data_of, with},
    upstream::{Step, Upstream, chunk, events, proxy, until},
};

const CHAT: &str = "/v1/chat/completions";
const EVENT: &str = "data: {\"a\":1}\n\n";

/// What is promised is 50 ms; a loaded machine may take longer.
const GENEROUS: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_event_does_not_wait_for_the_next() {
    let upstream = Upstream::always(vec![events(), chunk(EVENT), Step::Hang]).await;
    let proxy = proxy(&[("a", &upstream.url())], &[]).await;
    let response = proxy.post(CHAT, &with(chat("hi"), json!({ "stream": true }))).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let first = response.bytes_stream().next().await.unwrap().unwrap();
    assert_eq!(first, EVENT);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_request_upstream() {
    let quiet = Upstream::always(vec![Step::Hang]).await;
    let begun = Upstream::always(vec![events(), chunk(EVENT), Step::Hang]).await;
    for (upstream, stream) in [(&quiet, false), (&quiet, true), (&begun, true)] {
        let proxy = proxy(&[("a", &upstream.url())], &[]).await;
        let before = upstream.requests().len();
        let body = with(chat("hi"), json!({ "stream": stream }));
        let asking = tokio::spawn({
            let request = proxy.client.post(proxy.url(CHAT)).json(&body);
            async move {
                let mut body = request.send().await.unwrap().bytes_stream();
                while body.next().await.is_some() {}
            }
        });
        until("the request", || upstream.requests().len() > before).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let left = Instant::now();
        asking.abort();
        upstream.left(before + 1).await;
        assert!(left.elapsed() < GENEROUS, "{:?}", left.elapsed());
        proxy.logged("the client went away").await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_stream_of_a_shared_connection() {
    let upstream = TestServer::set(&["echo.delay_ms=60000", "limits.max_concurrent_requests=1"]);
    let proxy = proxy(&[("a", &upstream.base)], &["proxy.http2=true"]).await;
    for _ in 0..3 {
        // Each takes the only place there.
        let body = with(chat("hi"), json!({ "stream": true }));
        let response = proxy.post(CHAT, &body).await;
        assert_eq!(response.status(), 200);
        let mut body = response.bytes_stream();
        assert!(body.next().await.unwrap().unwrap().starts_with(b"data: "));
    }
    until("all to be noticed", || upstream.log().matches("the client went away").count() >= 2).await;
}

#[tokio::test]
async fn the_servers_end_is_told_to_those_who_still_listen() {
    let upstream = Upstream::always(vec![events(), chunk(EVENT), Step::Hang]).await;
    let mut proxy = proxy(&[("a", &upstream.url())], &["server.drain_timeout=200ms"]).await;
    let response = proxy.post(CHAT, &with(chat("hi"), json!({ "stream": true }))).await;
    proxy.signal(Signal::TERM);
    let events = data_of(&response.text().await.unwrap());
    assert_eq!(events.len(), 2);
    assert!(events[1].contains("shutting down"), "{events:?}");
    assert!(proxy.wait().success());
    upstream.left(1).await;
}

#[tokio::test]
async fn errors_in_other_streams_have_their_own_form() {
    let upstream = Upstream::always(vec![events(), Step::Close]).await;
    let proxy = proxy(&[("a", &upstream.url())], &[]).await;
    for path in ["/v1/responses", "/v1/messages"] {
        let text = proxy.post(path, &chat("hi")).await.text().await.unwrap();
        let data = text.strip_prefix("event: error\ndata: ").unwrap();
        let error: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("upstream_error")));
        assert_eq!(error["error"]["message"], error["message"]);
    }
}
