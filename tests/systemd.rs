//! What the service manager is told, on a socket like systemd's own, and reloads. `tests/systemd/run` has the rest,
//! with a systemd that boots.

mod common;

use std::{
    fs,
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use common::{LONG, TestServer, chat, with};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

const CHAT: &str = "/v1/chat/completions";

/// A service manager that listens.
struct Manager {
    socket: UnixDatagram,
    path: String,
    directory: TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Self { socket, path: path.to_str().unwrap().to_owned(), directory }
    }

    fn start(&self, configuration: &str, variables: &[(&str, &str)]) -> TestServer {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("config.toml"), configuration).unwrap();
        let mut all = vec![("NOTIFY_SOCKET", self.path.as_str())];
        all.extend(variables);
        TestServer::start_with(directory, &["--config", "config.toml"], &all)
    }

    /// The lines of the next message.
    fn hear(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("no message");
        std::str::from_utf8(&buffer[..length]).unwrap().lines().map(str::to_owned).collect()
    }

    /// The first message with this line, and those before it.
    fn hear_until(&self, line: &str) -> (Vec<Vec<String>>, Vec<String>) {
        let mut before = Vec::new();
        loop {
            let message = self.hear();
            if message.iter().any(|it| it == line) {
                return (before, message);
            }
            before.push(message);
            assert!(before.len() < 1000, "{line}: not among {:?}", before.last());
        }
    }
}

fn reload(server: &TestServer, configuration: &str) {
    fs::write(server.path("new"), configuration).unwrap();
    fs::rename(server.path("new"), server.path("config.toml")).unwrap();
    server.signal(Signal::HUP);
}

fn has(message: &[String], line: &str) -> bool {
    message.iter().any(|it| it.starts_with(line))
}

#[tokio::test]
async fn ready_comes_when_the_model_has_loaded_and_stopping_with_the_drain() {
    let manager = Manager::new();
    let mut server = manager.start("echo.load_delay_ms = 2500", &[]);
    let refused = server.get("/health").await;
    assert_eq!(refused.status(), 503);
    assert!(refused.text().await.unwrap().contains("gpt-oss-20b: loading "));
    let (before, ready) = manager.hear_until("READY=1");
    assert_eq!(server.get("/health").await.status(), 200);
    assert!(!before.is_empty());
    for message in &before {
        assert!(has(message, "EXTEND_TIMEOUT_USEC=600000000"), "{message:?}");
        assert!(has(message, "STATUS=gpt-oss-20b: loading "), "{message:?}");
    }
    assert!(has(&ready, "STATUS=serving 1 model, 0 running, 0 waiting"), "{ready:?}");

    server.signal(Signal::TERM);
    let (_, stopping) = manager.hear_until("STOPPING=1");
    assert!(has(&stopping, "STATUS=draining, 0 running"), "{stopping:?}");
    assert!(has(&stopping, "EXTEND_TIMEOUT_USEC=40000000"), "{stopping:?}");
    assert!(server.wait().success());
}

#[tokio::test]
async fn the_status_counts_what_runs_and_what_waits() {
    let manager = Manager::new();
    let settings = "echo.delay_ms = 60000\nlimits.max_concurrent_requests = 2";
    let server = manager.start(settings, &[]);
    let asked: Vec<_> =
        (0..5).map(|_| tokio::spawn(server.client.post(server.url(CHAT)).json(&chat("hi")).send())).collect();
    let told = tokio::task::spawn_blocking(move || {
        manager.hear_until("STATUS=serving 1 model, 2 running, 3 waiting");
        manager
    });
    told.await.unwrap();
    asked.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_failed_start_says_why() {
    let manager = Manager::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (arguments, status, errno) in [
        (vec!["--set", "max_tokens=0"], 78, None),
        (vec!["--listen", &taken.local_addr().unwrap().to_string()], 71, Some("ERRNO=98")),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_sconce"))
            .args(arguments)
            .current_dir(&manager.directory)
            .env_clear()
            .env("NOTIFY_SOCKET", &manager.path)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(status));
        let message = manager.hear();
        assert!(has(&message, "STATUS=sconce: "), "{message:?}");
        assert_eq!(message.len(), 1 + usize::from(errno.is_some()), "a status is one line: {message:?}");
        assert!(errno.is_none_or(|errno| has(&message, errno)), "{message:?}");
    }
}

#[tokio::test]
async fn the_watchdog_is_fed_until_a_model_hangs() {
    let manager = Manager::new();
    let server = manager.start("echo.stall_after = 1", &[("WATCHDOG_USEC", "800000")]);
    let began = Instant::now();
    server.ok(CHAT, &chat("hi")).await;
    let mut fed = 0;
    while began.elapsed() < Duration::from_secs(2) {
        fed += usize::from(has(&manager.hear(), "WATCHDOG=1"));
    }
    assert!(fed >= 5, "{fed}");
    let hangs = tokio::spawn(server.client.post(server.url(CHAT)).json(&chat("hi")).send());
    tokio::task::spawn_blocking(move || manager.hear_until("WATCHDOG=trigger")).await.unwrap();
    server.logged("the engine of 'gpt-oss-20b'").await;
    hangs.abort();
}

#[tokio::test]
async fn a_reload_is_announced_and_a_refused_one_is_told() {
    let manager = Manager::new();
    let server = manager.start("", &[]);
    manager.hear_until("READY=1");
    reload(&server, "max_tokens = 0");
    let (_, message) = manager.hear_until("RELOADING=1");
    assert!(has(&message, "MONOTONIC_USEC="), "{message:?}");
    let (_, message) = manager.hear_until("READY=1");
    let status = message.iter().find(|line| line.starts_with("STATUS=")).unwrap();
    assert!(status.contains("the last reload was refused") && status.contains("max_tokens"), "{status}");
    server.ok(CHAT, &chat("hi")).await;

    reload(&server, "max_tokens = 9");
    manager.hear_until("RELOADING=1");
    let (_, message) = manager.hear_until("READY=1");
    assert!(has(&message, "STATUS=serving 1 model") && !message.concat().contains("refused"), "{message:?}");
}

#[tokio::test]
async fn a_reload_adds_changes_and_removes_models_once_all_have_loaded() {
    let manager = Manager::new();
    let before = "[models.a]\n[models.b]\n[models.c]\necho.delay_ms = 100";
    let server = manager.start(before, &[]);
    manager.hear_until("READY=1");
    let models = async || {
        let list: serde_json::Value = server.get("/v1/models").await.json().await.unwrap();
        let ids = list["data"].as_array().unwrap().iter();
        ids.map(|model| (model["id"].clone(), model["max_model_len"].clone())).collect::<Vec<_>>()
    };
    let first = models().await;
    let begun = with(chat("to be finished on the old one"), json!({ "model": "c", "stream": true }));
    let begun = server.client.post(server.url(CHAT)).json(&begun).send().await.unwrap();
    let length = "echo.context_length = 99";
    reload(&server, &format!("[models.a]\n[models.b]\n{length}\n[models.d]\necho.load_delay_ms = 2500"));
    let (_, message) = manager.hear_until("RELOADING=1");
    assert!(!has(&message, "READY=1"));
    let loading = manager.hear();
    assert!(has(&loading, "STATUS=reloading; d: loading "), "{loading:?}");
    assert_eq!(models().await, first, "the new ones replace nothing before they have loaded");
    manager.hear_until("READY=1");
    let now = models().await;
    assert_eq!(
        now,
        [(json!("a"), json!(131_072)), (json!("b"), json!(99)), (json!("d"), json!(131_072))],
        "the changed model is the new one"
    );
    assert!(begun.text().await.unwrap().ends_with("[DONE]\n\n"));
}

#[tokio::test]
async fn a_model_that_cannot_load_leaves_the_old_ones_or_ends_a_start_unless_it_is_not_required() {
    if !cfg!(feature = "candle") {
        return;
    }
    let manager = Manager::new();
    let broken = "[models.b]\nbackend = 'candle'\ncandle.source = 'nowhere'";
    let server = manager.start("[models.a]", &[]);
    manager.hear_until("READY=1");
    reload(&server, &format!("[models.a]\n{broken}"));
    server.logged("not reloaded: the model 'b' cannot be served").await;
    server.ok(CHAT, &with(chat("hi"), json!({ "model": "a" }))).await;
    reload(&server, &format!("[models.a]\n{broken}\nrequired = false"));
    server.logged("\"message\":\"reloaded; ").await;
    server.logged("the model b cannot be served").await;
    assert_eq!(server.get("/health").await.status(), 200);
    let (status, error) = server.error(CHAT, &with(chat("hi"), json!({ "model": "b" }))).await;
    assert_eq!(status, 503, "{error}");
    // What failed is tried again by each reload.
    let failures = || server.log().matches("the model b cannot be served").count();
    let before = failures();
    reload(&server, &format!("[models.a]\n{broken}\nrequired = false"));
    let until = Instant::now() + LONG;
    while failures() == before {
        assert!(Instant::now() < until, "{}", server.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let mut lost = manager.start(broken, &[]);
    assert_eq!(lost.wait().code(), Some(78));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lazy_models_are_not_waited_for_and_the_status_tells_of_them() {
    let manager = Manager::new();
    let lazy = "[models.b]\nload = 'lazy'\necho.load_delay_ms = 2500\nidle_unload = '10ms'";
    let server = manager.start(&format!("[models.a]\n{lazy}"), &[]);
    let ready = manager.hear_until("READY=1").1;
    assert!(has(&ready, "STATUS=serving 2 models, 1 loaded, 0 running, 0 waiting"), "{ready:?}");
    assert_eq!(server.get("/health/ready").await.status(), 200);
    let answer = tokio::spawn({
        let (client, url) = (server.client.clone(), server.url(CHAT));
        let body = with(chat("hi"), json!({ "model": "b" }));
        async move { client.post(url).json(&body).send().await.unwrap().status() }
    });
    let loading = "STATUS=serving 2 models, 1 loaded, 0 running, 1 waiting; b: loading ";
    while !has(&manager.hear(), loading) {}
    assert_eq!(answer.await.unwrap(), 200);
    server.logged("loaded b, ").await;
    server.logged("unloading b: idle for 10ms").await;
}

#[tokio::test]
async fn a_reload_changes_limits_and_the_log_level() {
    let manager = Manager::new();
    let server = manager.start("log.level = 'warn'\nlimits.max_body_size = '1KiB'", &[]);
    let long = chat(&"word ".repeat(1000));
    assert_eq!(server.post(CHAT, &long).await.status(), 413);
    assert!(server.requests().is_empty());
    reload(&server, "log.level = 'info'\nlimits.max_body_size = '1MiB'");
    server.logged("\"message\":\"reloaded; ").await;
    assert_eq!(server.post(CHAT, &long).await.status(), 200);
    assert!(!server.requests().is_empty());
}
