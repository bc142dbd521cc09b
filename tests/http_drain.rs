//! The end of a server: who may finish, who is cut off, and that nothing is left.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod http_support;

use std::{io::ErrorKind, time::Duration};

use http_support::{LONG, Server, get, h2, millis, read_to_end, read_until, send, until};
use tokio::{
    net::{TcpStream, UnixStream},
    time::{Instant, sleep, timeout},
};

#[tokio::test(flavor = "multi_thread")]
async fn running_requests_finish() {
    let server = Server::start(|_| {}).await;
    let mut stream = server.connect().await;
    send(&mut stream, "GET /ticks HTTP/1.1\r\nhost: test\r\n\r\n").await;
    read_until(&mut stream, "\r\n\r\n").await;
    let mut plain = server.connect().await;
    send(&mut plain, "GET /sleep HTTP/1.1\r\nhost: test\r\n\r\n").await;
    let mut h2 = h2::Client::start(server.connect().await).await;
    h2.get(1, "/ticks").await;
    until("three requests", || server.app.alive() == 3).await;

    server.shutdown.draining.cancel();
    let (bytes, _) = read_to_end(&mut stream).await;
    assert_eq!(String::from_utf8(bytes).unwrap().matches("tick").count(), 10);
    let (bytes, _) = read_to_end(&mut plain).await;
    let answer = String::from_utf8(bytes).unwrap();
    assert!(answer.contains("connection: close") && answer.ends_with("rested"), "{answer}");
    assert_eq!(h2.body(1).await, b"tick".repeat(10));
    h2.closed().await;
    let start = Instant::now();
    server.stop().await;
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_at_rest_close_and_new_ones_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let server =
        Server::start(|config| config.listen.push(format!("unix:{}", path.display()).parse().unwrap())).await;
    let mut silent = server.connect().await;
    let mut idle = server.connect().await;
    get(&mut idle, "/").await;
    let mut idle_unix = UnixStream::connect(&path).await.unwrap();
    get(&mut idle_unix, "/").await;
    let mut idle_h2 = h2::Client::start(server.connect().await).await;
    idle_h2.get(1, "/").await;
    idle_h2.body(1).await;
    let mut busy = server.connect().await;
    send(&mut busy, "GET /endless-ticks HTTP/1.1\r\nhost: test\r\n\r\n").await;
    until("the stream", || server.app.alive() == 1).await;
    server.wait_for_connections(5).await;

    server.shutdown.draining.cancel();
    let start = Instant::now();
    read_to_end(&mut silent).await;
    read_to_end(&mut idle).await;
    read_to_end(&mut idle_unix).await;
    assert!(idle_h2.closed().await.1);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let refused = TcpStream::connect(server.tcp()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(UnixStream::connect(&path).await.is_err());
    server.wait_for_connections(1).await;
    assert!(!server.done.is_finished());
    drop(busy);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_on_its_way_is_still_answered() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    send(&mut client, "GET / HTTP/1.1\r\nhost").await;
    sleep(Duration::from_millis(100)).await;
    server.shutdown.draining.cancel();
    sleep(Duration::from_millis(100)).await;
    send(&mut client, ": test\r\n\r\n").await;
    let (bytes, _) = read_to_end(&mut client).await;
    assert!(String::from_utf8(bytes).unwrap().ends_with("hello"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_finish_is_cut_off() {
    let server = Server::start(|_| {}).await;
    let mut quiet = server.connect().await;
    send(&mut quiet, "GET /quiet HTTP/1.1\r\nhost: test\r\n\r\n").await;
    let mut stream = server.connect().await;
    send(&mut stream, "GET /endless-ticks HTTP/1.1\r\nhost: test\r\n\r\n").await;
    let mut flood = server.connect().await;
    send(&mut flood, "GET /flood HTTP/1.1\r\nhost: test\r\n\r\n").await;
    let mut h2 = h2::Client::start(server.connect().await).await;
    h2.get(1, "/quiet").await;
    h2.get(3, "/endless-ticks").await;
    until("all requests", || server.app.alive() == 5).await;

    server.shutdown.draining.cancel();
    sleep(Duration::from_millis(300)).await;
    assert_eq!(server.app.alive(), 5);
    server.shutdown.cut.cancel();
    let start = Instant::now();
    let Server { done, connections, app, .. } = server;
    timeout(LONG, done).await.unwrap().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(connections.count(), 0);
    assert_eq!(app.alive(), 0);
    read_to_end(&mut quiet).await;
    read_to_end(&mut stream).await;
    h2.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_server_leaves_nothing() {
    let server = Server::start(|config| config.idle_timeout = millis(60_000)).await;
    let mut quiet = server.connect().await;
    send(&mut quiet, "GET /quiet HTTP/1.1\r\nhost: test\r\n\r\n").await;
    until("the request", || server.app.alive() == 1).await;
    server.done.abort();
    read_to_end(&mut quiet).await;
    server.wait_for_connections(0).await;
    assert_eq!(server.app.alive(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_on_a_connection_accepted_just_before_is_answered() {
    let server = Server::start(|_| {}).await;
    let mut fresh = server.connect().await;
    server.wait_for_connections(1).await;
    server.shutdown.draining.cancel();
    sleep(Duration::from_millis(100)).await;
    send(&mut fresh, "GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    let (bytes, _) = read_to_end(&mut fresh).await;
    let answer = String::from_utf8(bytes).unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
    server.stop().await;
}
