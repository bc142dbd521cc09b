//! Clients that leave: what they asked for is dropped at once, also when it is quiet.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod http_support;

use std::time::Duration;

use http_support::{Server, get, h2, read_until, send, until};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, sleep},
};

/// What the room promises is 50 ms; a loaded machine may take longer to notice.
const GENEROUS: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
enum Leaves {
    Cleanly,
    ByReset,
}

fn leave(client: TcpStream, how: Leaves) {
    match how {
        Leaves::Cleanly => drop(client),
        Leaves::ByReset => {
            client.set_zero_linger().unwrap();
            drop(client);
        }
    }
}

async fn assert_dropped(server: &Server, what: &str) {
    let took = until(what, || server.app.alive() == 0).await;
    println!("{what}: dropped after {took:?}");
    assert!(took < GENEROUS, "{what}: {took:?}");
    server.wait_for_connections(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http1() {
    let server = Server::start(|_| {}).await;
    for how in [Leaves::Cleanly, Leaves::ByReset] {
        for path in ["/quiet", "/quiet-stream", "/endless-ticks"] {
            let mut client = server.connect().await;
            send(&mut client, &format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).await;
            if path != "/quiet" {
                read_until(&mut client, "\r\n\r\n").await;
            }
            until("the request", || server.app.alive() == 1).await;
            sleep(Duration::from_millis(50)).await;
            leave(client, how);
            assert_dropped(&server, &format!("HTTP/1.1 {path} {how:?}")).await;
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_with_bytes_nobody_reads() {
    let server = Server::start(|_| {}).await;
    for (what, more) in [
        ("a stray line end", "GET /quiet HTTP/1.1\r\nhost: test\r\n\r\n\r\n".to_owned()),
        ("a second request", "GET /quiet HTTP/1.1\r\nhost: test\r\n\r\n".repeat(2)),
        (
            "a body",
            format!(
                "POST /quiet-body HTTP/1.1\r\nhost: test\r\ncontent-length: 9000\r\n\r\n{}",
                "x".repeat(8999)
            ),
        ),
    ] {
        for how in [Leaves::Cleanly, Leaves::ByReset] {
            let mut client = server.connect().await;
            send(&mut client, &more).await;
            until("the request", || server.app.alive() == 1).await;
            sleep(Duration::from_millis(50)).await;
            leave(client, how);
            assert_dropped(&server, &format!("HTTP/1.1 and {what} {how:?}")).await;
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_turn() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    let request = |path| format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
    send(&mut client, &[request("/sleep"), request("/"), request("/sleep"), request("/peer")].concat()).await;
    for expected in ["rested", "hello", "rested", "tls: false }"] {
        let answer = http_support::response(&mut client).await;
        assert!(answer.ends_with(expected), "{answer}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2() {
    let server = Server::start(|_| {}).await;
    for how in [Leaves::Cleanly, Leaves::ByReset] {
        for path in ["/quiet", "/quiet-stream", "/endless-ticks"] {
            let mut client = h2::Client::start(server.connect().await).await;
            client.get(1, path).await;
            if path != "/quiet" {
                client.next_of(h2::DATA).await.unwrap();
            }
            until("the request", || server.app.alive() == 1).await;
            leave(client.stream, how);
            assert_dropped(&server, &format!("HTTP/2 {path} {how:?}")).await;
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_http2_stream_of_several() {
    let server = Server::start(|_| {}).await;
    let mut client = h2::Client::start(server.connect().await).await;
    client.get(1, "/quiet").await;
    client.get(3, "/quiet-stream").await;
    client.get(5, "/quiet").await;
    until("three requests", || server.app.alive() == 3).await;
    let cancel = 8_u32.to_be_bytes();
    for (stream, left) in [(1, 2), (3, 1)] {
        let start = Instant::now();
        client.write(h2::RESET, 0, stream, &cancel).await;
        until("the stream to be dropped", || server.app.alive() == left).await;
        println!("HTTP/2 reset of stream {stream}: dropped after {:?}", start.elapsed());
        assert!(start.elapsed() < GENEROUS);
    }
    assert_eq!(server.connections.count(), 1);
    drop(client);
    assert_dropped(&server, "HTTP/2, the last stream").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reqwest_by_prior_knowledge() {
    let server = Server::start(|_| {}).await;
    let url = |path| format!("http://{}{path}", server.tcp());
    // reqwest wants to know who does its TLS, even where there is none.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let answer = client.get(url("/")).send().await.unwrap();
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
    assert_eq!(answer.text().await.unwrap(), "hello");

    let stream = client.get(url("/quiet-stream")).send().await.unwrap();
    assert_eq!(server.app.alive(), 1);
    drop(stream);
    let took = until("the stream to be dropped", || server.app.alive() == 0).await;
    assert!(took < GENEROUS, "{took:?}");
    drop(client);
    server.wait_for_connections(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    const SIZE: usize = 50_000_000;
    let server = Server::start(|_| {}).await;
    let head = format!("POST /refuse HTTP/1.1\r\nhost: test\r\ncontent-length: {SIZE}\r\n\r\n");
    for _ in 0..5 {
        let mut client = server.connect().await;
        send(&mut client, &head).await;
        let chunk = vec![b'x'; 1_000_000];
        for _ in 0..SIZE / chunk.len() {
            client.write_all(&chunk).await.unwrap();
        }
        let answer = http_support::response(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        drop(client);
    }
    server.wait_for_connections(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_does_not_wait_for_a_client_that_stops_sending() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    send(&mut client, "POST /refuse HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\n").await;
    let (bytes, took) = http_support::read_to_end(&mut client).await;
    assert!(String::from_utf8(bytes).unwrap().starts_with("HTTP/1.1 413 "));
    assert!(took < GENEROUS, "{took:?}");
    let start = Instant::now();
    server.wait_for_connections(0).await;
    assert!(start.elapsed() < Duration::from_secs(4));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_given_up_after_the_answer_ends_the_connection() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    send(&mut client, "POST /keep-body HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\n").await;
    let (bytes, took) = http_support::read_to_end(&mut client).await;
    assert_eq!(String::from_utf8(bytes).unwrap().matches("tick").count(), 2);
    assert!(took < GENEROUS, "{took:?}");
    drop(client);
    server.wait_for_connections(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_head_is_answered() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    // A reset would lose the answer while the client still writes.
    let _ = client.write_all(format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(1_000_000)).as_bytes()).await;
    let (bytes, _) = http_support::read_to_end(&mut client).await;
    let answer = String::from_utf8(bytes).unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    drop(client);

    let mut client = server.connect().await;
    assert!(get(&mut client, "/none").await.starts_with("HTTP/1.1 404 "));
    server.stop().await;
}
