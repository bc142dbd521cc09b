//! More connections than places: those that do nothing make way for those that do.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod http_support;

use std::{net::SocketAddr, time::Duration};

use http_support::{LONG, Server, get, read_to_end, send, until};
use sconce::http::raise_file_limit;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// Opens `count` connections, each of which sends `bytes` and then nothing, and holds them.
fn crowd(address: SocketAddr, count: usize, bytes: &'static [u8]) -> JoinSet<()> {
    let mut crowd = JoinSet::new();
    for _ in 0..count {
        crowd.spawn(async move {
            if let Ok(mut stream) = TcpStream::connect(address).await {
                let _ = stream.write_all(bytes).await;
                let _held = stream;
                std::future::pending::<()>().await;
            }
        });
    }
    crowd
}

async fn served_among(count: usize, bytes: &'static [u8]) {
    let server = Server::start(|config| config.max_connections = 500).await;
    let mut crowd = crowd(server.tcp(), count, bytes);
    until("all places to be taken", || server.connections.count() == 500).await;
    sleep(Duration::from_millis(300)).await;
    for _ in 0..5 {
        let start = Instant::now();
        let mut client = server.connect().await;
        assert!(get(&mut client, "/").await.ends_with("hello"));
        println!("served after {:?} among {count} that sent {} bytes", start.elapsed(), bytes.len());
        assert!(server.connections.count() <= 500);
    }
    crowd.shutdown().await;
    server.wait_for_connections(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_starve_a_client() {
    let limit = raise_file_limit().unwrap_or(u64::MAX);
    // The server's places and some files of the process's own come on top.
    let count = 10_000.min(usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(700));
    if count < 10_000 {
        println!("only {count} connections: the limit of open files is {limit}");
    }
    served_among(count, b"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_heads_do_not_starve_a_client() {
    raise_file_limit();
    served_among(1_200, b"GET / HTTP/1.1\r\nhost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_between_requests_make_way() {
    let server = Server::start(|config| config.max_connections = 8).await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        let mut client = server.connect().await;
        get(&mut client, "/").await;
        idle.push(client);
        sleep(Duration::from_millis(10)).await;
    }
    sleep(Duration::from_millis(500)).await;
    assert_eq!(server.connections.count(), 8, "nobody waits, nobody is closed");
    let mut late = server.connect().await;
    assert!(get(&mut late, "/").await.ends_with("hello"));
    let (_, took) = read_to_end(&mut idle[0]).await;
    assert!(took < Duration::from_secs(2));
    // One place was needed: the others are still there.
    assert!(get(&mut idle[7], "/").await.ends_with("hello"));
    drop((idle, late));
    server.wait_for_connections(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_connections_keep_their_places_and_others_wait() {
    let server = Server::start(|config| config.max_connections = 2).await;
    let mut busy = Vec::new();
    for path in ["/endless-ticks", "/quiet"] {
        let mut client = server.connect().await;
        send(&mut client, &format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).await;
        busy.push(client);
    }
    until("both requests", || server.app.alive() == 2).await;
    let mut waiting = server.connect().await;
    send(&mut waiting, "GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    let answer = tokio::spawn(async move { http_support::response(&mut waiting).await });
    sleep(Duration::from_millis(600)).await;
    assert!(!answer.is_finished());
    assert_eq!(server.app.alive(), 2);
    busy.pop();
    assert!(timeout(LONG, answer).await.unwrap().unwrap().ends_with("hello"));
    drop(busy);
    server.wait_for_connections(0).await;
    server.stop().await;
}
