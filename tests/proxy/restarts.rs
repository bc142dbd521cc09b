//! Three upstreams, one of which is killed and started again every second, under streams all the time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    common::{LONG, TestServer, chat, with},
    upstream::{proxy, until},
};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test(flavor = "multi_thread")]
async fn for_a_few_seconds() {
    under_restarts(50, Duration::from_secs(6), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn for_a_few_seconds_over_http2() {
    under_restarts(50, Duration::from_secs(6), &["proxy.http2=true"]).await;
}

/// `cargo test --test proxy -- --ignored`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn for_a_minute() {
    under_restarts(200, Duration::from_secs(60), &[]).await;
}

/// The same.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn for_a_minute_over_http2() {
    under_restarts(200, Duration::from_secs(60), &["proxy.http2=true"]).await;
}

async fn under_restarts(streams: usize, time: Duration, more: &[&str]) {
    let directory = TempDir::new().unwrap();
    let socket = |name: &str| format!("unix:{}/{name}", directory.path().display());
    let names = ["a", "b", "c"];
    let start = |name: &str| {
        let socket = socket(name);
        TestServer::start(&["--listen", &socket, "--set", "echo.delay_ms=20"])
    };
    let mut servers: Vec<TestServer> = names.iter().map(|name| start(name)).collect();
    let urls: Vec<String> = names.iter().map(|name| socket(name)).collect();
    let by_name: Vec<_> = names.into_iter().zip(urls.iter().map(String::as_str)).collect();
    let settings = ["proxy.health_path=/health", "proxy.health_interval=200ms", "proxy.failure_pause=500ms"];
    let proxy = Arc::new(proxy(&by_name, &[&settings[..], more].concat()).await);
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..streams)
        .map(|_| {
            let (proxy, stop) = (Arc::clone(&proxy), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut counts = BTreeMap::new();
                while !stop.load(Ordering::SeqCst) {
                    *counts.entry(outcome(&proxy).await).or_insert(0_u32) += 1;
                }
                counts
            })
        })
        .collect();

    let began = Instant::now();
    let mut turn = 0;
    while began.elapsed() < time {
        tokio::time::sleep(Duration::from_millis(700)).await;
        // Killed, its socket left lying about.
        servers[turn % 3].signal(Signal::KILL);
        servers[turn % 3].wait();
        tokio::time::sleep(Duration::from_millis(300)).await;
        servers[turn % 3] = tokio::task::block_in_place(|| start(names[turn % 3]));
        turn += 1;
    }
    stop.store(true, Ordering::SeqCst);
    let mut all = BTreeMap::new();
    for counts in join_all(workers).await {
        for (outcome, count) in counts.unwrap() {
            *all.entry(outcome).or_insert(0) += count;
        }
    }
    println!("{turn} restarts: {all:?}");
    let whole = all.remove("whole").unwrap_or_default();
    let broken = all.remove("ended with an error event").unwrap_or_default();
    // Sent to an upstream that died before it answered: nobody knows what it did with it.
    all.remove("502");
    assert!(all.is_empty(), "{all:?}");
    assert!(whole > 0 && broken > 0, "{whole} whole, {broken} broken");

    until("all to be well", || {
        let asked = || -> Option<()> {
            let log = proxy.log();
            let well = log.rfind("is well again")?;
            (log.rfind("is not well").is_none_or(|unwell| unwell < well)).then_some(())
        };
        asked().is_some()
    })
    .await;
    let recovered = Instant::now();
    loop {
        let before = proxy.requests().len();
        join_all((0..30).map(|_| outcome(&proxy))).await;
        let lines = proxy.requests();
        let share = |name: &str| lines[before..].iter().filter(|line| line["upstream"] == name).count();
        let shares = names.map(share);
        if shares.iter().all(|share| *share > 5) {
            break;
        }
        assert!(recovered.elapsed() < LONG, "load does not return: {shares:?}");
    }
}

/// What became of one stream. An answer that is no stream is named by its status.
async fn outcome(proxy: &TestServer) -> String {
    let body = with(chat("a few words that make a stream of some time"), json!({ "stream": true }));
    let response = match proxy.client.post(proxy.url(CHAT)).json(&body).send().await {
        Ok(response) => response,
        Err(error) => return format!("no answer: {error:?}"),
    };
    if response.status() != 200 {
        return response.status().as_u16().to_string();
    }
    match response.text().await {
        Ok(text) if text.ends_with("data: [DONE]\n\n") => "whole".to_owned(),
        Ok(text) => {
            let last = text.trim_end().rsplit("\n\n").next().unwrap_or_default();
            let is_error = last.starts_with("data: {\"error\":{") && text.ends_with("\n\n");
            if is_error { "ended with an error event" } else { "ended without a word" }.to_owned()
        }
        Err(error) => format!("cut off: {error}"),
    }
}
