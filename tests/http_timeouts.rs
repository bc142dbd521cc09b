//! Peers that are slow, at every stage of a connection.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod http_support;

use std::time::Duration;

use http_support::{LONG, Server, get, h2, millis, read_to_end, read_until, response, send};
use sconce::http::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};

/// All timeouts far away, but for one that a test sets.
fn patient(config: &mut Config) {
    config.first_byte_timeout = millis(60_000);
    config.header_timeout = millis(60_000);
    config.body_timeout = millis(60_000);
    config.idle_timeout = millis(60_000);
}

async fn server(configure: impl FnOnce(&mut Config)) -> Server {
    Server::start(|config| {
        patient(config);
        configure(config);
    })
    .await
}

#[track_caller]
fn assert_about(took: Duration, expected: u64) {
    let expected = Duration::from_millis(expected);
    assert!(took >= expected * 8 / 10, "too early: {took:?}");
    assert!(took < expected + Duration::from_secs(3), "too late: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_closed_after_the_first_byte_timeout() {
    let server = server(|config| config.first_byte_timeout = millis(300)).await;
    let mut client = server.connect().await;
    let (bytes, took) = read_to_end(&mut client).await;
    assert!(bytes.is_empty());
    assert_about(took, 300);
    server.wait_for_connections(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drip_does_not_extend_the_header_timeout() {
    let server = server(|config| config.header_timeout = millis(400)).await;
    let client = server.connect().await;
    let (mut read, mut write) = client.into_split();
    let drip = tokio::spawn(async move {
        write.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        while write.write_all(b"y").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    let (bytes, took) = read_to_end(&mut read).await;
    assert!(bytes.is_empty());
    assert_about(took, 400);
    timeout(LONG, drip).await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_timeout_holds_for_later_requests_and_does_not_count_rest() {
    let server = server(|config| config.header_timeout = millis(400)).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        assert!(get(&mut client, "/").await.ends_with("hello"));
        sleep(Duration::from_millis(600)).await;
    }
    send(&mut client, "GET / HTTP/1.1\r\n").await;
    let (_, took) = read_to_end(&mut client).await;
    assert_about(took, 400);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_between_requests_is_closed_after_the_idle_timeout() {
    let server = server(|config| config.idle_timeout = millis(400)).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        assert!(get(&mut client, "/").await.ends_with("hello"));
        sleep(Duration::from_millis(250)).await;
    }
    assert!(get(&mut client, "/").await.ends_with("hello"));
    let (bytes, took) = read_to_end(&mut client).await;
    assert!(bytes.is_empty());
    assert_about(took, 400);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_request_outlives_all_timeouts() {
    let server = Server::start(|config| {
        config.first_byte_timeout = millis(100);
        config.header_timeout = millis(100);
        config.body_timeout = millis(100);
        config.idle_timeout = millis(100);
    })
    .await;
    let mut client = server.connect().await;
    assert!(get(&mut client, "/sleep").await.ends_with("rested"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_body_is_an_error_that_can_be_answered() {
    let server = server(|config| config.body_timeout = millis(300)).await;
    let mut client = server.connect().await;
    let start = Instant::now();
    send(&mut client, "POST /length HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\nslow").await;
    let (mut read, mut write) = client.into_split();
    let drip = tokio::spawn(async move {
        for _ in 0..50 {
            if write.write_all(b"y").await.is_err() {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    let answer = response(&mut read).await;
    assert_about(start.elapsed(), 300);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(read_to_end(&mut read).await.0.is_empty());
    drip.await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_time_keeps_the_connection() {
    let server = server(|config| config.body_timeout = millis(2000)).await;
    let mut client = server.connect().await;
    for _ in 0..2 {
        send(&mut client, "POST /length HTTP/1.1\r\nhost: test\r\ncontent-length: 8\r\n\r\nslow").await;
        sleep(Duration::from_millis(100)).await;
        send(&mut client, "body").await;
        assert!(response(&mut client).await.ends_with("\r\n\r\n8"));
    }
    // A small body that nobody reads is no reason to close either, be it dropped unseen or come in the meantime.
    for path in ["/refuse", "/refuse-unseen", "/sleep"] {
        send(&mut client, &format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\n")).await;
        if path == "/sleep" {
            sleep(Duration::from_millis(100)).await;
        }
        send(&mut client, "body").await;
        let answer = response(&mut client).await;
        if path == "/sleep" {
            assert!(!answer.contains("connection: close"), "{answer}");
        } else if answer.contains("connection: close") {
            // The answer overtook the body.
            client = server.connect().await;
        }
        send(&mut client, &format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\nbody"))
            .await;
        let answer = response(&mut client).await;
        assert!(!answer.contains("connection: close"), "{answer}");
    }
    assert!(get(&mut client, "/").await.ends_with("hello"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_early_is_another_error() {
    let server = server(|_| {}).await;
    let mut client = server.connect().await;
    send(&mut client, "POST /length HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\nshort").await;
    client.shutdown().await.unwrap();
    let (bytes, _) = read_to_end(&mut client).await;
    let answer = String::from_utf8(bytes).unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    server.wait_for_connections(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_is_closed() {
    let server = server(|config| config.idle_timeout = millis(400)).await;
    let mut client = server.connect().await;
    send(&mut client, "GET /flood HTTP/1.1\r\nhost: test\r\n\r\n").await;
    read_until(&mut client, "\r\n\r\n").await;
    let start = Instant::now();
    server.wait_for_connections(0).await;
    assert_about(start.elapsed(), 400);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_reads_slowly_is_not_closed() {
    let server = server(|config| config.idle_timeout = millis(400)).await;
    let mut client = server.connect().await;
    send(&mut client, "GET /flood HTTP/1.1\r\nhost: test\r\n\r\n").await;
    let mut buffer = vec![0; 1 << 20];
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        client.read_exact(&mut buffer).await.unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.connections.count(), 1);
    drop(client);
    server.wait_for_connections(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_at_rest_is_closed_and_told_so() {
    let server = server(|config| config.idle_timeout = millis(400)).await;
    let mut client = h2::Client::start(server.connect().await).await;
    client.get(1, "/").await;
    assert_eq!(client.body(1).await, b"hello");
    let (took, announced) = client.closed().await;
    assert_about(took, 400);
    assert!(announced);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_that_asks_for_nothing_is_closed_though_it_pings() {
    let server = server(|config| {
        config.header_timeout = millis(100);
        config.idle_timeout = millis(500);
    })
    .await;
    let start = Instant::now();
    let client = h2::Client::start(server.connect().await).await;
    let (mut read, mut write) = client.stream.into_split();
    let pings = tokio::spawn(async move {
        while write.write_all(b"\0\0\x08\x06\0\0\0\0\0pingping").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    read_to_end(&mut read).await;
    assert_about(start.elapsed(), 500);
    timeout(LONG, pings).await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_peer_that_answers_no_pings_is_dead() {
    let server = server(|config| config.idle_timeout = millis(300)).await;
    let mut client = h2::Client::start(server.connect().await).await;
    client.answers_pings = false;
    client.get(1, "/quiet").await;
    let (took, _) = client.closed().await;
    assert_about(took, 600);
    server.wait_for_connections(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_stream_whose_window_stays_shut_is_reset() {
    let server = server(|config| config.idle_timeout = millis(500)).await;
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let stream = server.connect().await;
    let mut client = h2::Client::start_with(stream, &[(INITIAL_WINDOW_SIZE, 100)]).await;
    client.get(1, "/endless-ticks").await;
    client.get(3, "/quiet").await;
    let start = Instant::now();
    let reset = client.next_of(h2::RESET).await.unwrap();
    assert_eq!(reset.stream, 1);
    assert_about(start.elapsed(), 500);
    assert_eq!(server.connections.count(), 1);
    assert_eq!(server.app.alive(), 1);
    drop(client);
    server.wait_for_connections(0).await;
    server.stop().await;
}
