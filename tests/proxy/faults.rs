//! Upstreams that misbehave, one way a test. The client always gets a well-formed answer or error event.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    common::{TestServer, chat, error_of, events as data_of, with},
    upstream::{Step, Upstream, answer, chunk, events, json, proxy, until},
};

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const EVENT: &str = "data: {\"choices\":[]}\n\n";

pub(crate) fn stream() -> Value {
    with(chat("hi"), json!({ "stream": true }))
}

/// The events of a stream that ends with an error, and that error's code.
pub(crate) async fn broken_stream(server: &TestServer) -> (Vec<String>, Value) {
    let response = server.post(CHAT, &stream()).await;
    assert_eq!(response.status(), 200);
    let mut events = data_of(&response.text().await.unwrap());
    let last: Value = serde_json::from_str(&events.pop().unwrap()).unwrap();
    assert_eq!(last["error"].as_object().unwrap().len(), 4, "{last}");
    assert!(!events.contains(&"[DONE]".to_owned()));
    (events, last["error"]["code"].clone())
}

#[tokio::test]
async fn refuses() {
    let gone = Upstream::always(vec![]).await.url();
    let proxy = proxy(&[("a", &gone)], &[]).await;
    for body in [chat("hi"), stream()] {
        let response = proxy.post(CHAT, &body).await;
        assert_eq!(response.headers()["retry-after"], "1");
        let (status, error) = error_of(response).await;
        assert_eq!((status, &error["type"]), (503, &json!("server_error")));
        assert!(!error.to_string().contains("127.0.0.1"), "{error}");
    }
}

#[tokio::test]
async fn accepts_and_hangs() {
    let upstream = Upstream::always(vec![Step::Hang]).await;
    let proxy = proxy(&[("a", &upstream.url())], &["proxy.first_byte_timeout=200ms"]).await;
    for body in [chat("hi"), stream()] {
        let (status, error) = proxy.error(CHAT, &body).await;
        assert_eq!((status, &error["code"]), (504, &json!("upstream_timeout")));
    }
    upstream.left(2).await;
    assert_eq!(upstream.requests().len(), 2, "what was sent is not sent again");
}

#[tokio::test]
async fn hangs_in_the_middle_of_a_stream() {
    let upstream = Upstream::always(vec![events(), chunk(EVENT), Step::Hang]).await;
    let proxy = proxy(&[("a", &upstream.url())], &["proxy.idle_timeout=200ms"]).await;
    let (events, code) = broken_stream(&proxy).await;
    assert_eq!((events.len(), code), (1, json!("upstream_timeout")));
    upstream.left(1).await;
}

#[tokio::test]
async fn takes_longer_than_it_may_as_a_whole() {
    let dripping = vec![[chunk(EVENT), Step::Wait(Duration::from_millis(50))]; 100].concat();
    let upstream = Upstream::always([vec![events()], dripping].concat()).await;
    let settings = ["proxy.total_timeout=300ms", "proxy.failure_pause=1h"];
    let proxy = proxy(&[("a", &upstream.url())], &settings).await;
    for _ in 0..3 {
        let (events, code) = broken_stream(&proxy).await;
        assert!((1..50).contains(&events.len()), "{}", events.len());
        assert_eq!(code, "upstream_timeout");
    }
    assert_eq!(proxy.error(CHAT, &stream()).await.0, 503, "it was waited for");
}

#[tokio::test]
async fn never_stops_and_takes_longer_than_it_may() {
    let event = format!("{:x}\r\n{EVENT}\r\n", EVENT.len()).repeat(1000);
    let upstream = Upstream::always(vec![events(), Step::Repeat(event)]).await;
    let proxy = proxy(&[("a", &upstream.url())], &["proxy.total_timeout=300ms"]).await;
    let (events, code) = broken_stream(&proxy).await;
    assert!(events.len() > 1);
    assert_eq!(code, "upstream_timeout");
    upstream.left(1).await;
}

#[tokio::test]
async fn never_ends_an_error() {
    let head = "HTTP/1.1 500 Oh\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    for (dripping, code) in [
        (vec![[chunk("x"), Step::Wait(Duration::from_millis(50))]; 1000].concat(), 500),
        (vec![Step::Repeat(format!("400\r\n{}\r\n", "x".repeat(1024)))], 500),
    ] {
        let upstream = Upstream::always([vec![Step::Send(head.clone())], dripping].concat()).await;
        let proxy = proxy(&[("a", &upstream.url())], &["proxy.first_byte_timeout=300ms"]).await;
        let (status, error) = proxy.error(CHAT, &chat("hi")).await;
        assert_eq!((status, &error["type"]), (code, &json!("server_error")));
        upstream.left(1).await;
    }
}

#[tokio::test]
async fn compresses_what_nobody_asked_to_be_compressed() {
    for kind in ["text/event-stream", "application/json"] {
        let fields = format!("content-type: {kind}\r\ncontent-encoding: gzip\r\n");
        let upstream = Upstream::always(vec![answer("200 OK", &fields, "{}\n\n")]).await;
        let proxy = proxy(&[("a", &upstream.url())], &[]).await;
        let (status, error) = proxy.error(CHAT, &stream()).await;
        assert_eq!((status, &error["code"]), (502, &json!("upstream_error")));
    }
}

#[tokio::test]
async fn an_error_within_a_stream_has_the_envelope_too() {
    for (given, message, end) in [
        (r#"{"error":{"message":"m","type":"InternalServerError","param":null,"code":500}}"#, "m", "\n\n"),
        (r#"{"error": {"code":500,"message":"m","type":"server_error"}}"#, "m", "\r\n\r\n"),
        (r#"{"error":"m","error_type":"generation"}"#, "m", "\n\n"),
        (
            r#"{"error":{"message":"at 127.0.0.1:1","type":"t","param":null,"code":null}}"#,
            "The upstream server answered with status 500 and no error that can be passed on.",
            "\n\n",
        ),
    ] {
        let before = "{\"error\":null,\"choices\":[]}";
        let text = format!("data: {before}{end}data: {given}{end}data: [DONE]{end}");
        let upstream = Upstream::always(vec![events(), chunk(&text), chunk("")]).await;
        let proxy = proxy(&[("a", &upstream.url())], &[]).await;
        let text = proxy.post(CHAT, &stream()).await.text().await.unwrap();
        let events = data_of(&text.replace("\r\n", "\n"));
        assert_eq!((&*events[0], &*events[2], events.len()), (before, "[DONE]", 3));
        let error: Value = serde_json::from_str(&events[1]).unwrap();
        let error = error["error"].as_object().unwrap();
        assert_eq!(error["message"], message);
        assert_eq!(error["code"], Value::Null);
        let keys: Vec<&str> = error.keys().map(String::as_str).collect();
        assert_eq!(keys, ["message", "type", "param", "code"]);
        proxy.logged("\"outcome\":\"upstream error event\"").await;
    }
}

#[tokio::test]
async fn dies_in_the_middle_of_each_answer() {
    let upstream = Upstream::always(vec![events(), chunk(EVENT), Step::Close]).await;
    let proxy = proxy(&[("a", &upstream.url())], &["proxy.failure_pause=1h"]).await;
    for _ in 0..3 {
        broken_stream(&proxy).await;
    }
    assert_eq!(proxy.error(CHAT, &stream()).await.0, 503, "that it begins an answer is not enough");
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test]
async fn slow_first_byte() {
    let late = Step::Wait(Duration::from_millis(400));
    let upstream = Upstream::always(vec![late, json("200 OK", "{}")]).await;
    // The time between two pieces is no limit for the first.
    let slow =
        proxy(&[("a", &upstream.url())], &["proxy.first_byte_timeout=20s", "proxy.idle_timeout=100ms"]).await;
    assert_eq!(slow.ok(CHAT, &chat("hi")).await, json!({}));
}

#[tokio::test]
async fn dies_in_the_middle_of_a_stream() {
    for end in [Step::Close, Step::Reset] {
        let steps = vec![events(), chunk(EVENT), chunk(EVENT), Step::Wait(Duration::from_millis(50)), end];
        let upstream = Upstream::always(steps).await;
        let other = Upstream::always(vec![json("200 OK", "{}")]).await;
        let proxy =
            proxy(&[("a", &upstream.url()), ("b", &other.url())], &["proxy.upstreams.a.weight=1000"]).await;
        let (events, code) = broken_stream(&proxy).await;
        assert_eq!((events.len(), code), (2, json!("upstream_error")));
        assert_eq!((upstream.requests().len(), other.requests().len()), (1, 0), "never sent twice");
        let line = proxy.requests().pop().unwrap();
        assert_eq!((&line["upstream"], &line["outcome"]), (&json!("a"), &json!("upstream_error")));
    }
}

#[tokio::test]
async fn dies_over_http2_and_comes_back() {
    let directory = tempfile::TempDir::new().unwrap();
    let socket = format!("unix:{}/s", directory.path().display());
    let start = || TestServer::start(&["--listen", &socket, "--set", "echo.delay_ms=100"]);
    let mut upstream = start();
    let proxy = proxy(&[("a", &socket)], &["proxy.http2=true", "proxy.failure_pause=1ms"]).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let body = with(chat("one two three four five six seven"), json!({ "stream": true }));
        let mut body = proxy.post(CHAT, &body).await.bytes_stream();
        let first = body.next().await.unwrap().unwrap();
        streams.push((first, body));
    }
    upstream.signal(rustix::process::Signal::KILL);
    upstream.wait();
    for (first, mut rest) in streams {
        let mut text = first.to_vec();
        while let Some(piece) = rest.next().await {
            text.extend_from_slice(&piece.unwrap());
        }
        let events = data_of(&String::from_utf8(text).unwrap());
        let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
        assert_eq!(last["error"]["code"], "upstream_error");
    }
    assert_eq!(proxy.error(CHAT, &chat("hi")).await.0, 503);
    let _again = start();
    sleep(Duration::from_millis(5)).await;
    proxy.ok(CHAT, &chat("hi")).await;
}

#[tokio::test]
async fn dies_in_the_middle_of_an_answer() {
    for body in ["", "{\"choices\":"] {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n";
        let upstream = Upstream::always(vec![Step::Send(format!("{head}{body}")), Step::Close]).await;
        let proxy = proxy(&[("a", &upstream.url())], &[]).await;
        let (status, error) = proxy.error(CHAT, &chat("hi")).await;
        assert_eq!((status, &error["code"]), (502, &json!("upstream_error")));
        assert_eq!(upstream.requests().len(), 1);
    }
}

#[tokio::test]
async fn sends_half_an_event() {
    for end in [chunk(""), Step::Close] {
        let pieces = ["data: {\"a\":", "1}\n", "\ndata: {\"b\"", ":2"].map(chunk);
        let upstream = Upstream::always([&[events()], &pieces[..], &[end]].concat()).await;
        let (events, code) = broken_stream(&proxy(&[("a", &upstream.url())], &[]).await).await;
        assert_eq!((events, code), (vec!["{\"a\":1}".to_owned()], json!("upstream_error")));
    }
}

#[tokio::test]
async fn sends_garbage() {
    for steps in [
        vec![Step::Send("\u{1}\u{2}garbage\r\n\r\n".repeat(100)), Step::Close],
        vec![Step::Send("SSH-2.0-OpenSSH_9.2\r\n".to_owned()), Step::Hang],
        vec![json("200 OK", "no JSON")],
        vec![answer("200 OK", "content-type: text/html\r\n", "<html>")],
        vec![answer("200 OK", "", "")],
        vec![answer("302 Found", "location: http://127.0.0.1:1/\r\n", "")],
        vec![Step::Send("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n".to_owned()), Step::Hang],
    ] {
        let upstream = Upstream::always(steps).await;
        let proxy = proxy(&[("a", &upstream.url())], &["proxy.first_byte_timeout=5s"]).await;
        let (status, error) = proxy.error(CHAT, &chat("hi")).await;
        assert_eq!((status, &error["code"]), (502, &json!("upstream_error")));
    }
    let endless =
        Upstream::always(vec![events(), Step::Repeat("400\r\n".to_owned() + &"x".repeat(1024) + "\r\n")])
            .await;
    let (events, code) = broken_stream(&proxy(&[("a", &endless.url())], &[]).await).await;
    assert_eq!((events.len(), code), (0, json!("upstream_error")));
    endless.left(1).await;
}

#[tokio::test]
async fn internal_error_in_html() {
    let page = "<html>at 127.0.0.1:8000</html>";
    let upstream =
        Upstream::always(vec![answer("500 Internal Server Error", "content-type: text/html\r\n", page)])
            .await;
    let proxy = proxy(&[("a", &upstream.url())], &[]).await;
    for body in [chat("hi"), stream()] {
        let (status, error) = proxy.error(CHAT, &body).await;
        assert_eq!((status, &error["type"]), (500, &json!("server_error")));
        assert!(!error.to_string().contains("html"), "{error}");
    }
}

#[tokio::test]
async fn errors_of_its_own_are_put_into_the_envelope() {
    let own = r#"{"error":{"message":"m","type":"t","param":"p","code":"c"},"more":1.50}"#;
    for (given, expected) in [
        (own, json!({ "message": "m", "type": "t", "param": "p", "code": "c" })),
        (
            r#"{"error":{"message":"m","type":"BadRequestError","param":null,"code":400}}"#,
            json!({ "message": "m", "type": "BadRequestError", "param": null, "code": null }),
        ),
        (
            r#"{"detail":"m"}"#,
            json!({ "message": "m", "type": "invalid_request_error", "param": null, "code": null }),
        ),
    ] {
        let upstream = Upstream::always(vec![json("400 Bad Request", given)]).await;
        let proxy = proxy(&[("a", &upstream.url())], &[]).await;
        assert_eq!(proxy.error(CHAT, &chat("hi")).await, (400, expected));
        if given == own {
            assert_eq!(proxy.post(CHAT, &chat("hi")).await.text().await.unwrap(), own);
        }
    }
}

#[tokio::test]
async fn shows_its_key_or_its_address() {
    for (status, body, ours) in [
        (
            "401 Unauthorized",
            r#"{"error":{"message":"wrong key sk-hidden","type":"t","param":null,"code":null}}"#,
            502,
        ),
        (
            "400 Bad Request",
            r#"{"error":{"message":"key sk-hidden","type":"t","param":null,"code":null}}"#,
            400,
        ),
        (
            "500 Oh",
            r#"{"error":{"message":"at http://127.0.0.1:1/v1","type":"t","param":null,"code":null}}"#,
            500,
        ),
    ] {
        let fields = "content-type: application/json\r\nserver: 127.0.0.1\r\nlocation: http://127.0.0.1/\r\n";
        let upstream = Upstream::always(vec![answer(status, fields, body)]).await;
        let proxy = proxy(&[("a", &upstream.url())], &["proxy.api_key=sk-hidden"]).await;
        let response = proxy.post(CHAT, &chat("hi")).await;
        let head = format!("{:?}", response.headers());
        let (found, error) = error_of(response).await;
        assert_eq!(found, ours);
        let shown = format!("{head}{error}{}", proxy.log());
        assert!(!shown.contains("sk-hidden"), "{shown}");
        assert!(!format!("{head}{error}").contains("127.0.0.1"), "{head}{error}");
    }
}

#[tokio::test]
async fn too_many_requests_with_retry_after() {
    let fields = "content-type: application/json\r\nretry-after: 7\r\n";
    let busy = Upstream::always(vec![answer("429 Too Many Requests", fields, r#"{"error":"busy"}"#)]).await;
    let alone = proxy(&[("a", &busy.url())], &[]).await;
    let response = alone.post(CHAT, &chat("hi")).await;
    assert_eq!(response.headers()["retry-after"], "7");
    let (status, error) = error_of(response).await;
    assert_eq!((status, &error["message"]), (429, &json!("busy")));
    assert_eq!(alone.error(CHAT, &chat("hi")).await.0, 429);
    assert_eq!(busy.requests().len(), 2, "there is nobody else to ask");

    let free = Upstream::always(vec![json("200 OK", "{}")]).await;
    let proxy = proxy(&[("a", &busy.url()), ("b", &free.url())], &["proxy.upstreams.a.weight=1000"]).await;
    for _ in 0..5 {
        proxy.ok(CHAT, &chat("hi")).await;
    }
    assert_eq!((busy.requests().len(), free.requests().len()), (3, 5), "it is believed");
}

#[tokio::test]
async fn infinite_stream() {
    let event = format!("data: {{\"x\":\"{}\"}}\n\n", "y".repeat(1000));
    let upstream =
        Upstream::always(vec![events(), Step::Repeat(format!("{:x}\r\n{event}\r\n", event.len()))]).await;
    let proxy = proxy(&[("a", &upstream.url())], &[]).await;
    let before = proxy.proc_status("VmRSS");
    let response = proxy.post(CHAT, &stream()).await;
    let mut body = response.bytes_stream();
    for _ in 0..100 {
        assert!(!body.next().await.unwrap().unwrap().is_empty());
    }
    // Nobody reads now: what was sent stays what it is, because nothing here takes it in.
    let mut sent = 0;
    until("the upstream to be held up", || {
        std::thread::sleep(Duration::from_millis(100));
        std::mem::replace(&mut sent, upstream.sent()) == upstream.sent()
    })
    .await;
    let grown = proxy.proc_status("VmRSS").saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB for a stream that nobody reads");
    let left = Instant::now();
    drop(body);
    upstream.left(1).await;
    // What is promised is 50 ms; a loaded machine may take longer.
    assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
    proxy.logged("the client went away").await;
}

#[tokio::test]
async fn huge_headers() {
    let fields = format!("content-type: application/json\r\nx: {}\r\n", "y".repeat(100_000));
    let many: String = (0..500).map(|n| format!("x-{n}: y\r\n")).collect();
    for fields in [fields, many] {
        let upstream = Upstream::always(vec![answer("200 OK", &fields, "{}")]).await;
        let proxy = proxy(&[("a", &upstream.url())], &[]).await;
        let (status, error) = proxy.error(CHAT, &chat("hi")).await;
        assert_eq!((status, &error["code"]), (502, &json!("upstream_error")));
    }
}

#[tokio::test]
async fn closes_connections_between_requests() {
    // What some servers say as they close a connection that rests for too long.
    let late = "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned();
    for end in [vec![Step::Close], vec![Step::Reset], vec![Step::Send(late), Step::Close]] {
        let upstream = Upstream::always([vec![json("200 OK", "{}")], end].concat()).await;
        let proxy = proxy(&[("a", &upstream.url())], &[]).await;
        for _ in 0..50 {
            proxy.ok(CHAT, &chat("hi")).await;
        }
        assert_eq!((upstream.requests().len(), upstream.connections()), (50, 50));
    }
    let upstream = Upstream::always(vec![json("200 OK", "{}")]).await;
    let proxy = proxy(&[("a", &upstream.url())], &[]).await;
    for _ in 0..50 {
        proxy.ok(CHAT, &chat("hi")).await;
    }
    assert_eq!((upstream.requests().len(), upstream.connections()), (50, 1), "else they are kept");
}

#[tokio::test]
async fn changes_its_model_list() {
    let upstream = Upstream::start(|number| {
        let id = if number == 0 { "first" } else { "second" };
        let list = json!({ "object": "list", "data": [{ "id": id, "created": 5, "owned_by": "o", "max_model_len": 9 }] });
        vec![json("200 OK", &list.to_string())]
    })
    .await;
    let proxy = proxy(&[("a", &upstream.url())], &["proxy.discover_interval=300ms"]).await;
    let models = async || -> Value { proxy.get("/v1/models").await.json().await.unwrap() };
    let ask = |model: &str| with(chat("hi"), json!({ "model": model }));
    let mut list = models().await;
    while list["data"] == json!([]) {
        list = models().await;
    }
    let row =
        |id: &str| json!({ "id": id, "object": "model", "created": 5, "owned_by": "o", "max_model_len": 9 });
    if list["data"][0]["id"] == "first" {
        assert_eq!(list["data"], json!([row("first")]));
    }
    while models().await["data"] != json!([row("second")]) {
        sleep(Duration::from_millis(20)).await;
    }
    proxy.ok(CHAT, &ask("second")).await;
    let (status, error) = proxy.error(CHAT, &ask("first")).await;
    assert_eq!((status, &error["code"]), (404, &json!("model_not_found")));
    assert!(error["message"].as_str().unwrap().contains("Served are: second."));
    assert_eq!(proxy.get("/v1/models/second").await.status(), 200);
    assert_eq!(
        proxy.get("/v1/models/gpt-oss-20b").await.status(),
        404,
        "the name in the configuration is none"
    );
}
