//! The daemon's life: signals, drains, clients that leave, many at once.

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use common::{LONG, TestServer, chat, events, with};
use futures_util::{StreamExt, future::join_all};
use rustix::process::Signal;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn streamed(text: &str) -> Value {
    with(chat(text), json!({ "stream": true }))
}

/// Streams that have all begun.
async fn open(server: &TestServer, count: usize) -> Vec<reqwest::Response> {
    let body = streamed("some words to be said slowly");
    let sent = join_all((0..count).map(|_| server.client.post(server.url(CHAT)).json(&body).send())).await;
    sent.into_iter().map(|response| response.unwrap().error_for_status().unwrap()).collect()
}

/// A raw request on a connection of its own.
fn ask(server: &TestServer, body: &Value) -> TcpStream {
    let body = body.to_string();
    let mut connection = TcpStream::connect(server.address).unwrap();
    connection.set_read_timeout(Some(LONG)).unwrap();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(body.as_bytes()).unwrap();
    connection
}

#[tokio::test]
async fn sigterm_lets_200_streams_finish() {
    let mut server = TestServer::set(&["echo.delay_ms=60"]);
    let streams = open(&server, 200).await;
    server.signal(Signal::TERM);
    server.logged("stopping").await;
    assert!(TcpStream::connect(server.address).is_err(), "the port is closed at once");
    for text in join_all(streams.into_iter().map(reqwest::Response::text)).await {
        let events = events(&text.unwrap());
        assert_eq!(events.last().unwrap(), "[DONE]");
        assert!(events.len() > 10);
    }
    assert!(server.wait().success());
}

#[tokio::test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
async fn memory_of_many_requests_goes_back_to_the_system() {
    let server = TestServer::set(&["echo.delay_ms=200"]);
    let before = server.proc_status("VmRSS");
    let body = streamed(&"word ".repeat(8000));
    let sent = join_all((0..400).map(|_| server.client.post(server.url(CHAT)).json(&body).send())).await;
    let full = server.proc_status("VmRSS");
    assert!(full > before + 20_000, "{before} KiB, then {full} KiB");
    drop(sent);
    let until = Instant::now() + LONG;
    while server.proc_status("VmRSS") > before + (full - before) / 4 {
        assert!(Instant::now() < until, "{} of {full} KiB are kept", server.proc_status("VmRSS"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn what_outlasts_the_drain_ends_with_an_error() {
    let mut server = TestServer::set(&["echo.delay_ms=60000", "server.drain_timeout=300ms"]);
    let streams = open(&server, 200).await;
    let whole = tokio::spawn(server.client.post(server.url(CHAT)).json(&chat("hi")).send());
    // One round trip behind it, so that it runs before the signal comes.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.get("/health").await.status(), 200);
    server.signal(Signal::TERM);
    for text in join_all(streams.into_iter().map(reqwest::Response::text)).await {
        let events = events(&text.unwrap());
        let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
        assert_eq!(last["error"]["code"], "not_ready", "{last}");
        assert!(!events.contains(&"[DONE]".to_owned()));
    }
    let (status, error) = common::error_of(whole.await.unwrap().unwrap()).await;
    assert_eq!((status, &error["code"]), (503, &json!("not_ready")));
    assert!(server.wait().success());
}

#[tokio::test]
async fn readiness_ends_with_the_drain_and_an_idle_daemon_exits_at_once() {
    let mut server = TestServer::start(&[]);
    let kept = server.get("/health").await;
    assert_eq!(kept.status(), 200);
    let began = Instant::now();
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(began.elapsed() < LONG, "an idle connection kept it");
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let mut server = TestServer::set(&["echo.delay_ms=60000", "server.drain_timeout=1h"]);
    let streams = open(&server, 3).await;
    server.signal(Signal::INT);
    server.logged("stopping").await;
    assert!(server.running());
    server.signal(Signal::INT);
    assert!(server.wait().success());
    drop(streams);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_slot() {
    // One slot: the next request runs only after the one before has gone.
    let server = TestServer::set(&[
        "echo.delay_ms=60000",
        "limits.max_concurrent_requests=1",
        "limits.max_queued_requests=0",
    ]);
    let mut gone = 0;
    for stream in [true, false] {
        for reset in [false, true] {
            let connection = ask(&server, &with(chat("hi"), json!({ "stream": stream })));
            if stream {
                let mut first = [0; 64];
                (&connection).read_exact(&mut first).unwrap();
                assert!(first.starts_with(b"HTTP/1.1 200"));
            } else {
                // Nothing comes back while it runs; that it does is seen by another one's refusal.
                tokio::time::sleep(Duration::from_millis(200)).await;
                assert_eq!(server.post(CHAT, &chat("hi")).await.status(), 429);
            }
            if reset {
                rustix::net::sockopt::set_socket_linger(&connection, Some(Duration::ZERO)).unwrap();
            }
            let left = Instant::now();
            drop(connection);
            gone += 1;
            let until = Instant::now() + LONG;
            while server.log().matches("the client went away").count() < gone {
                assert!(Instant::now() < until, "stream {stream}, reset {reset}: still running");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            println!("stream {stream}, reset {reset}: cancelled after {:?}", left.elapsed());
        }
    }
}

#[tokio::test]
async fn sighup_under_load_loses_nothing() {
    let directory = tempfile::TempDir::new().unwrap();
    fs::write(directory.path().join("keys"), "a:sk-1\n").unwrap();
    let server = TestServer::start_in(directory, &["--api-key-file", "keys", "--set", "echo.delay_ms=5"]);
    let load = join_all((0..20).map(|client| {
        let server = &server;
        async move {
            for call in 0..10 {
                let text = format!("{client} {call}");
                let request = server.client.post(server.url(CHAT)).bearer_auth("sk-1").json(&streamed(&text));
                let response = request.send().await.unwrap();
                assert_eq!(response.status(), 200);
                let events = events(&response.text().await.unwrap());
                assert_eq!(events.last().unwrap(), "[DONE]");
                let said: String = events[..events.len() - 1]
                    .iter()
                    .map(|event| serde_json::from_str::<Value>(event).unwrap())
                    .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
                    .collect();
                assert_eq!(said, format!("Echo from gpt-oss-20b: {text}"));
            }
        }
    }));
    let reloads = async {
        for round in 0..20 {
            // Renamed into place, as an editor does: a reload must not find half a file.
            fs::write(server.path("new"), format!("a:sk-1\nb{round}:sk-b{round}\n")).unwrap();
            fs::rename(server.path("new"), server.path("keys")).unwrap();
            server.signal(Signal::HUP);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::join!(load, reloads);
    server.logged("reloaded").await;
    assert!(!server.log().contains("not reloaded"), "{}", server.log());
}

#[tokio::test]
async fn many_streams_at_once_lose_nothing() {
    let server = TestServer::set(&["echo.delay_ms=20", "limits.max_concurrent_requests=2000"]);
    let calls = (0..1500).map(|n| {
        let request = server.client.post(server.url(CHAT)).json(&streamed(&format!("number {n}")));
        async move {
            let text = request.send().await.unwrap().text().await.unwrap();
            (n, events(&text))
        }
    });
    let all: Vec<_> = futures_util::stream::iter(calls).buffer_unordered(500).collect().await;
    assert_eq!(all.len(), 1500);
    for (n, events) in all {
        assert_eq!(events.last().unwrap(), "[DONE]");
        assert!(events.concat().contains("\" num\""), "{n}");
    }
}

#[test]
fn a_port_that_is_taken_is_an_error_of_its_own_status() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::TempDir::new().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sconce"))
        .args(["--listen", &address])
        .current_dir(directory.path())
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(71));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&address) && told.contains("in use"), "{told}");
}

#[test]
fn keys_and_certificates_that_cannot_be_read_are_configuration_errors() {
    for settings in [
        vec!["--api-key-file", "missing"],
        vec!["--set", "server.tls_certificate=missing", "--set", "server.tls_key=missing"],
    ] {
        let directory = tempfile::TempDir::new().unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_sconce"))
            .args(["--listen", "127.0.0.1:0"])
            .args(settings)
            .current_dir(directory.path())
            .env_clear()
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(78));
        assert!(String::from_utf8(output.stderr).unwrap().contains("missing"));
    }
}
