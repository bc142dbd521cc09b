//! Several models in one daemon, loaded when they are asked for, within one memory budget.
#![cfg(feature = "candle")]

mod common;
#[path = "engine/dice.rs"]
#[expect(dead_code, reason = "the engine's tests use all of it")]
mod dice;
#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "each test uses a part of it")]
mod tiny;

use std::{
    fmt::Write,
    fs,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};

use common::{LONG, TestServer, metric, with};
use dice::Dice;
use futures_util::{StreamExt, future::join, stream};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

const CHAT: &str = "/v1/chat/completions";
const MODELS: usize = 10;
/// So many have room at one time.
const ROOM: u64 = 3;
const REQUESTS: usize = 400;
const CROWD: usize = 24;
const KV_CACHE: u64 = 24 << 20;

/// A directory with the models `m0` to `m9`.
fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    for n in 0..MODELS {
        let own = directory.path().join(format!("m{n}"));
        fs::create_dir(&own).unwrap();
        tiny::write_another(&own, tiny::Stored::F32, n as u64 + 1);
    }
    directory
}

fn configuration(first: &str, each: &str) -> String {
    let mut text = format!("backend = 'candle'\ncandle.threads = 1\ncandle.kv_cache = {KV_CACHE}\n{first}\n");
    for n in 0..MODELS {
        write!(text, "[models.m{n}]\ncandle.source = 'm{n}'\n{each}\n").unwrap();
    }
    text
}

fn start(directory: TempDir, configuration: &str) -> TestServer {
    fs::write(directory.path().join("config.toml"), configuration).unwrap();
    TestServer::start_in(directory, &["--config", "config.toml"])
}

fn reload(server: &TestServer, configuration: &str) {
    fs::write(server.path("config.toml"), configuration).unwrap();
    server.signal(Signal::HUP);
}

/// Bytes of one of the models, as the program itself sums them up: its weights, and all that it takes.
fn measured(directory: &TempDir) -> (u64, u64) {
    let kv_cache = format!("candle.kv_cache={KV_CACHE}");
    let output = Command::new(env!("CARGO_BIN_EXE_sconce"))
        .args(["models", "inspect", "--json", "m0", "--set", &kv_cache])
        .current_dir(directory.path())
        .env_clear()
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |name: &str| report[0]["memory"][name].as_u64().unwrap();
    (of("weights"), of("needed"))
}

fn chat(model: usize, text: &str) -> Value {
    json!({
        "model": format!("m{model}"), "messages": [{ "role": "user", "content": text }],
        "max_tokens": 12, "seed": 5, "temperature": 0.8,
    })
}

async fn until(server: &TestServer, name: &str, value: u64) {
    let begun = Instant::now();
    while metric(server, name).await != value {
        assert!(begun.elapsed() < LONG, "{name} is not {value}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until no model is between two states.
async fn until_still(server: &TestServer, needed: u64) {
    let begun = Instant::now();
    while metric(server, "sconce_memory_reserved_bytes").await
        != metric(server, "sconce_model_loaded").await * needed
    {
        assert!(begun.elapsed() < LONG, "something is loading still\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One request of some kind, each answered as it would be alone.
async fn ask(server: &TestServer, alone: &[Value], n: usize, dice: &mut Dice) {
    let model = dice.below(MODELS);
    let (body, name) = (chat(model, "hello"), format!("m{model}"));
    let expected = &alone[model];
    match dice.below(8) {
        0 => {
            let chunks = server.stream(CHAT, &body).await;
            let text: String =
                chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
            assert_eq!(text, expected["choices"][0]["message"]["content"], "{n}");
        }
        // It leaves: while it waits, while it runs, or after.
        1 | 2 => {
            let patience = Duration::from_millis(dice.below(200) as u64);
            let body = with(body, json!({ "stream": dice.chance(50), "max_tokens": 60 }));
            let asked = server.client.post(server.url(CHAT)).json(&body).timeout(patience).send();
            let _ = asked.await;
        }
        3 => {
            let asked = json!({ "model": name, "input": "a" });
            assert_eq!(server.error("/v1/embeddings", &asked).await.0, 400, "{n}");
        }
        4 => {
            let tokens = server.ok("/v1/tokenize", &json!({ "model": name, "prompt": "hello" })).await;
            assert_eq!(tokens["max_model_len"], tiny::CONTEXT);
            let asked = json!({ "model": name, "tokens": tokens["tokens"] });
            assert_eq!(server.ok("/v1/detokenize", &asked).await["prompt"], "<s>hello");
        }
        5 => {
            let asked = with(body, json!({ "max_tokens": tiny::CONTEXT }));
            assert_eq!(server.error(CHAT, &asked).await.0, 400, "{n}");
        }
        _ => {
            let answer = server.ok(CHAT, &body).await;
            assert_eq!(tiny::comparable(answer), tiny::comparable(expected.clone()), "{n}");
        }
    }
}

#[tokio::test]
async fn ten_models_in_a_budget_for_three() {
    let directory = directory();
    let (weights, needed) = measured(&directory);
    let budget = needed * ROOM + needed / 2;
    let alone = start(directory, &configuration("", ""));
    alone.ready().await;
    let mut expected = Vec::new();
    for model in 0..MODELS {
        expected.push(alone.ok(CHAT, &chat(model, "hello")).await);
    }
    let texts: std::collections::BTreeSet<String> =
        expected.iter().map(|answer| answer["choices"][0]["message"]["content"].to_string()).collect();
    assert_eq!(texts.len(), MODELS, "the models are not the same");
    drop(alone);

    let first = format!("load = 'lazy'\nmemory_budget = {budget}");
    let server = start(self::directory(), &configuration(&first, ""));
    server.ready().await;
    assert_eq!(metric(&server, "sconce_model_loads_total").await, 0, "nobody has asked for one");
    let listed: Value = server.get("/v1/models").await.json().await.unwrap();
    assert_eq!(listed["data"].as_array().unwrap().len(), MODELS);
    let anonymous = || server.proc_status("RssAnon") << 10;
    let before = anonymous();

    let dice = &mut Dice(7);
    let seeds: Vec<u64> = (0..REQUESTS).map(|_| dice.next()).collect();
    let done = AtomicBool::new(false);
    let most = AtomicU64::new(0);
    let watch = async {
        while !done.load(SeqCst) {
            let reserved = metric(&server, "sconce_memory_reserved_bytes").await;
            assert!(reserved <= budget, "{reserved} of {budget}");
            most.fetch_max(anonymous() - before, SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let crowd = async {
        let asks = stream::iter(seeds.into_iter().enumerate());
        asks.for_each_concurrent(CROWD, async |(n, seed)| {
            if n == REQUESTS / 2 {
                // Limits change, models do not: what is loaded stays.
                reload(
                    &server,
                    &configuration(&format!("{first}\nlimits.max_concurrent_requests = 100"), ""),
                );
            }
            ask(&server, &expected, n, &mut Dice(seed)).await;
        })
        .await;
        done.store(true, SeqCst);
    };
    join(watch, crowd).await;
    assert_eq!(server.log().matches("\"message\":\"reloaded; ").count(), 1);
    assert!(!server.log().contains("\"level\":\"ERROR\""), "{}", server.log());
    let most = most.into_inner();
    assert!(most > ROOM * weights && most <= budget, "{most} bytes in use, the budget is {budget}");
    let (loads, unloads) = (
        metric(&server, "sconce_model_loads_total").await,
        metric(&server, "sconce_model_unloads_total").await,
    );
    assert!(loads > MODELS as u64 && loads - unloads <= ROOM, "{loads} loads, {unloads} unloads");

    // The rule of idleness holds for what is loaded already. What is unloaded gives its memory back to the system.
    // Who left last may have left a load behind, or an unload for one that was not begun.
    until_still(&server, needed).await;
    let loaded = metric(&server, "sconce_model_loaded").await;
    let full = anonymous();
    reload(&server, &configuration(&first, "idle_unload = '50ms'"));
    until(&server, "sconce_memory_reserved_bytes", 0).await;
    let given_back = full.saturating_sub(anonymous());
    assert!(loaded > 0 && given_back >= loaded * weights, "{given_back} bytes of {full} were given back");
    println!("{loads} loads, {most} bytes in use at most, {given_back} given back in the end");
}

#[tokio::test]
async fn a_lazy_model_that_cannot_load_says_so_and_the_others_go_on() {
    let directory = directory();
    fs::write(directory.path().join("m1/model.safetensors"), "broken").unwrap();
    let configuration = configuration("load = 'lazy'", "");
    let mended = fs::read(directory.path().join("m0/model.safetensors")).unwrap();
    let server = start(directory, &configuration);
    server.ready().await;
    let landing = server.get("/").await.text().await.unwrap();
    assert_eq!(landing.matches("<td>not loaded</td>").count(), MODELS);
    for _ in 0..2 {
        let response = server.post(CHAT, &chat(1, "hello")).await;
        assert!(response.headers().contains_key("retry-after"));
        let (status, error) = common::error_of(response).await;
        assert_eq!((status, &error["code"]), (503, &json!("not_ready")));
        assert!(error["message"].as_str().unwrap().contains("model.safetensors"), "{error}");
    }
    server.ok(CHAT, &chat(0, "hello")).await;
    assert_eq!(server.get("/health/ready").await.status(), 200);
    fs::write(server.path("m1/model.safetensors"), mended).unwrap();
    let begun = Instant::now();
    while server.post(CHAT, &chat(1, "hello")).await.status() != 200 {
        assert!(begun.elapsed() < LONG, "{}", server.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(metric(&server, "sconce_model_load_failures_total").await < 9, "it was not tried each time");
}

#[tokio::test]
async fn a_reload_keeps_what_is_loaded_and_takes_up_the_rest() {
    let server = start(directory(), &configuration("load = 'lazy'", ""));
    for model in 0..4 {
        server.ok(CHAT, &chat(model, "hello")).await;
    }
    // A budget that is too small for what is loaded: what is idle goes at once.
    let (_, needed) = measured(&server.directory);
    let small = format!("load = 'lazy'\nmemory_budget = {}", needed * 2);
    reload(&server, &configuration(&small, ""));
    until(&server, "sconce_model_loaded", 2).await;
    assert_eq!(metric(&server, "sconce_model_loads_total").await, 4, "what stayed was not loaded again");
    // A model that is to be there from the start is loaded by the reload, and no other takes its place.
    let pinned = configuration(&small, "").replace("'m9'\n", "'m9'\nload = 'start'\n");
    reload(&server, &pinned);
    server.logged("\"model\":\"m9\"").await;
    for model in 0..4 {
        server.ok(CHAT, &chat(model, "hello")).await;
    }
    server.ok(CHAT, &chat(9, "hello")).await;
    assert!(!server.log().contains("unloading m9"), "{}", server.log());
    // Two of them do not fit: the reload is refused, and all goes on.
    let both = pinned.replace("'m8'\n", "'m8'\nload = 'start'\n").replace("'m7'\n", "'m7'\nload = 'start'\n");
    reload(&server, &both);
    server.logged("not reloaded: the model 'm").await;
    server.ok(CHAT, &chat(5, "hello")).await;
}
