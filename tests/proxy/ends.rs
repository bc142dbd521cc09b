//! How answers end: with and without saying so, before they are read, before the request was.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::sleep,
};

use crate::{
    common::{chat, events as data_of},
    faults::{CHAT, EVENT, broken_stream, stream},
    upstream::{Step, Upstream, chunk, events, proxy},
};

#[tokio::test]
async fn ends_a_stream_without_saying_that_it_ends() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let cut = Upstream::always(vec![Step::Send(format!("{head}{EVENT}")), Step::Close]).await;
    let (events, code) = broken_stream(&proxy(&[("a", &cut.url())], &[]).await).await;
    assert_eq!((events.len(), code), (1, json!("upstream_error")));
    let whole = format!("{EVENT}data: [DONE]\n\n");
    for events in [whole.clone(), format!("{whole}: bye\n\n")] {
        let upstream = Upstream::always(vec![Step::Send(format!("{head}{events}")), Step::Close]).await;
        let proxy = proxy(&[("a", &upstream.url())], &[]).await;
        assert_eq!(proxy.post(CHAT, &stream()).await.text().await.unwrap(), events);
        proxy.logged("\"outcome\":\"ok\"").await;
    }
}

#[tokio::test]
async fn ends_a_stream_of_typed_events_without_saying_that_it_ends() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    for (path, last) in [("/v1/messages", "message_stop"), ("/v1/responses", "response.completed")] {
        let first = "event: first\ndata: {}\n\n";
        let last = format!("event: {last}\ndata: {{}}\n\n");
        for (events, whole) in [(format!("{first}{last}"), true), (first.to_owned(), false)] {
            let steps = vec![Step::Send(format!("{head}{events}")), Step::Close];
            let upstream = Upstream::always(steps).await;
            let proxy = proxy(&[("a", &upstream.url())], &[]).await;
            let text = proxy.post(path, &stream()).await.text().await.unwrap();
            let rest = text.strip_prefix(&events).unwrap();
            assert_eq!(rest.is_empty(), whole, "{text}");
            assert!(whole || rest.contains("\"upstream_error\""), "{text}");
        }
    }
}

#[tokio::test]
async fn ends_an_answer_without_saying_that_it_ends() {
    let long = json!({ "data": "x".repeat(2 << 20) }).to_string();
    for fields in ["", "transfer-encoding: identity\r\n"] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{fields}\r\n");
        for (text, whole) in [(&long[..], true), (&long[..long.len() - 1], false), (&long[..9], false)] {
            let upstream = Upstream::always(vec![Step::Send(format!("{head}{text}")), Step::Close]).await;
            let proxy = proxy(&[("a", &upstream.url())], &[]).await;
            let response = proxy.post(CHAT, &chat("hi")).await;
            let status = if whole { 200 } else { 502 };
            assert_eq!(response.status(), status, "{fields} {}", text.len());
            assert_eq!(response.text().await.unwrap() == long, whole);
        }
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: identity\r\n\r\n";
    let cut = Upstream::always(vec![Step::Send(format!("{head}{EVENT}")), Step::Close]).await;
    let (_, code) = broken_stream(&proxy(&[("a", &cut.url())], &[]).await).await;
    assert_eq!(code, "upstream_error");
}

#[tokio::test]
async fn breaks_off_after_the_last_event() {
    for end in [Step::Close, Step::Reset] {
        let steps = vec![
            events(),
            chunk(EVENT),
            chunk("data: [DONE]\n\n"),
            Step::Wait(Duration::from_millis(50)),
            end,
        ];
        let upstream = Upstream::always(steps).await;
        let proxy = proxy(&[("a", &upstream.url())], &[]).await;
        assert_eq!(proxy.stream(CHAT, &chat("hi")).await.len(), 1);
        proxy.logged("\"outcome\":\"ok\"").await;
    }
}

/// Refuses what is longer than it takes, before it has read it, and closes: a reset follows the answer.
#[tokio::test]
async fn refuses_a_request_that_it_has_not_read() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(16).unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        for count in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 100]).await.unwrap();
            // Meanwhile as much is written as there is room for.
            sleep(Duration::from_millis(50)).await;
            let body = r#"{"error":{"message":"too long","type":"t","param":null,"code":null}}"#;
            let head = "HTTP/1.1 413 Too Long\r\ncontent-type: application/json\r\n";
            let length = body.len();
            let answer = match count % 2 {
                0 => format!("{head}content-length: {length}\r\n\r\n{body}"),
                _ => format!("{head}transfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"),
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let proxy = proxy(&[("a", &url)], &[]).await;
    // Nor does that say anything of how the upstream is.
    for _ in 0..6 {
        let (status, error) = proxy.error(CHAT, &chat(&"x".repeat(24 << 20))).await;
        assert_eq!((status, &error["message"]), (413, &json!("too long")));
    }
    server.abort();
}

#[tokio::test]
async fn breaks_off_while_it_refuses() {
    let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n";
    let upstream = Upstream::always(vec![Step::Send(head.to_owned()), Step::Close]).await;
    let proxy = proxy(&[("a", &upstream.url())], &["proxy.failure_pause=1h"]).await;
    for _ in 0..5 {
        assert_eq!(proxy.error(CHAT, &chat("hi")).await.0, 400);
    }
    assert_eq!(upstream.requests().len(), 5);
}

#[tokio::test]
async fn is_not_blamed_for_a_client_that_takes_too_long() {
    let event = format!("{:x}\r\n{EVENT}\r\n", EVENT.len()).repeat(1000);
    let upstream = Upstream::always(vec![events(), Step::Repeat(event)]).await;
    let settings = ["proxy.total_timeout=300ms", "proxy.failure_pause=1h"];
    let proxy = proxy(&[("a", &upstream.url())], &settings).await;
    for count in 1..=5 {
        let response = proxy.post(CHAT, &stream()).await;
        assert_eq!(response.status(), 200);
        sleep(Duration::from_millis(500)).await;
        let events = data_of(&response.text().await.unwrap());
        assert!(events.last().unwrap().contains("\"upstream_timeout\""));
        assert_eq!(upstream.requests().len(), count);
    }
}
