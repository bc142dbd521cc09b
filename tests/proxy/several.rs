//! Several upstreams: which one gets a request, and which one gets it after that.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    common::{MODEL, TestServer, chat, with},
    upstream::{Step, Upstream, answer, events, json, proxy, ready, until},
};

const CHAT: &str = "/v1/chat/completions";

async fn well() -> Upstream {
    Upstream::always(vec![json("200 OK", "{}")]).await
}

async fn gone() -> String {
    well().await.url()
}

#[tokio::test]
async fn what_one_refuses_another_gets() {
    let b = well().await;
    let proxy = proxy(&[("a", &gone().await), ("b", &b.url())], &["proxy.failure_pause=1h"]).await;
    for _ in 0..20 {
        proxy.ok(CHAT, &chat("hi")).await;
    }
    assert_eq!(b.requests().len(), 20);
    let refused = proxy.log().matches("a request to an upstream failed").count();
    assert_eq!(refused, 3, "then it is left alone");
}

#[tokio::test]
async fn two_tries_and_no_more() {
    let unwell = async || Upstream::always(vec![json("503 No", r#"{"error":"no"}"#)]).await;
    let (a, b, c) = (unwell().await, unwell().await, unwell().await);
    let proxy = proxy(&[("a", &a.url()), ("b", &b.url()), ("c", &c.url())], &[]).await;
    let (status, error) = proxy.error(CHAT, &chat("hi")).await;
    assert_eq!((status, &error["message"]), (503, &json!("no")));
    assert_eq!(a.requests().len() + b.requests().len() + c.requests().len(), 2);
}

#[tokio::test]
async fn what_was_worked_on_is_not_tried_again() {
    for steps in [
        vec![json("500 Oh", "{}")],
        vec![json("504 Late", "{}")],
        vec![json("400 No", "{}")],
        vec![Step::Close],
        vec![Step::Reset],
        vec![Step::Send("HTTP/1.1 200 OK\r\n".to_owned()), Step::Close],
        vec![events(), Step::Close],
    ] {
        let (a, b) = (Upstream::always(steps.clone()).await, well().await);
        let proxy = proxy(&[("a", &a.url()), ("b", &b.url())], &["proxy.upstreams.a.weight=1000"]).await;
        proxy.post(CHAT, &chat("hi")).await;
        assert_eq!((a.requests().len(), b.requests().len()), (1, 0), "{steps:?}");
    }
}

#[tokio::test]
async fn limits_hold_and_what_is_beyond_them_is_told_to_wait() {
    let (a, b) = (Upstream::always(vec![Step::Hang]).await, Upstream::always(vec![Step::Hang]).await);
    let settings = ["proxy.max_requests=1", "proxy.upstreams.b.max_requests=2"];
    let proxy = proxy(&[("a", &a.url()), ("b", &b.url())], &settings).await;
    let running: Vec<_> =
        (0..3).map(|_| tokio::spawn(proxy.client.post(proxy.url(CHAT)).json(&chat("hi")).send())).collect();
    until("three requests", || a.requests().len() + b.requests().len() == 3).await;
    assert_eq!((a.requests().len(), b.requests().len()), (1, 2));
    let (status, error) = proxy.error(CHAT, &chat("hi")).await;
    assert_eq!((status, &error["code"]), (429, &json!("rate_limit_exceeded")));
    running.iter().for_each(tokio::task::JoinHandle::abort);
    a.left(1).await;
    b.left(2).await;
}

#[tokio::test]
async fn requests_follow_the_weights() {
    let (a, b) = (well().await, well().await);
    let proxy = proxy(&[("a", &a.url()), ("b", &b.url())], &["proxy.upstreams.a.weight=3"]).await;
    for _ in 0..40 {
        proxy.ok(CHAT, &chat("hi")).await;
    }
    assert_eq!((a.requests().len(), b.requests().len()), (30, 10));
}

#[tokio::test]
async fn a_conversation_stays_where_its_cache_is() {
    let upstreams = [well().await, well().await, well().await];
    let urls = upstreams.each_ref().map(Upstream::url);
    let names = ["a", "b", "c"];
    let by_name: Vec<_> = names.into_iter().zip(urls.iter().map(String::as_str)).collect();
    let prefix = proxy(&by_name, &["proxy.affinity=prefix"]).await;
    let begins = "x".repeat(3000);
    for turn in 0..12 {
        prefix.ok(CHAT, &chat(&format!("{begins}{turn}"))).await;
    }
    let counts: Vec<_> = upstreams.iter().map(|upstream| upstream.requests().len()).collect();
    assert!(counts.contains(&12), "{counts:?}");
    for talk in 0..30 {
        prefix.ok(CHAT, &chat(&format!("{talk}"))).await;
    }
    assert!(upstreams.iter().all(|upstream| upstream.requests().len() > 2), "others go elsewhere");

    let header = proxy(&by_name, &["proxy.affinity=header", "proxy.affinity_header=x-user"]).await;
    for user in ["u", "v"] {
        let before: Vec<_> = upstreams.iter().map(|upstream| upstream.requests().len()).collect();
        for text in ["1", "2", "3"] {
            let request = header.client.post(header.url(CHAT)).header("x-user", user);
            assert_eq!(request.json(&chat(text)).send().await.unwrap().status(), 200);
        }
        let grown = upstreams.iter().zip(before).map(|(upstream, before)| upstream.requests().len() - before);
        assert!(grown.collect::<BTreeSet<_>>().contains(&3));
    }
}

#[tokio::test]
async fn health_checks_decide_who_is_asked_and_whether_the_daemon_is_ready() {
    let sick = Upstream::always(vec![json("500 Sick", "")]).await;
    let recovers = Upstream::start(|number| {
        let status = if number < 2 { "503 Not yet" } else { "200 OK" };
        vec![json(status, "{}")]
    })
    .await;
    let urls = [sick.url(), recovers.url()];
    let settings = [
        "backend=proxy".to_owned(),
        "proxy.health_path=/ping".to_owned(),
        "proxy.health_interval=200ms".to_owned(),
        format!("proxy.upstreams.a.base_url={}", urls[0]),
        format!("proxy.upstreams.b.base_url={}", urls[1]),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let server = ready(TestServer::set(&settings)).await;
    let response = server.get("/health/ready").await;
    let status = response.status();
    let health: Value = response.json().await.unwrap();
    if recovers.requests().len() < 3 {
        let reason = format!("{MODEL}: none of its upstream servers is well");
        assert_eq!((status.as_u16(), &health["reason"]), (503, &json!(reason)));
    }
    server.logged("is well again").await;
    assert_eq!(server.get("/health").await.status(), 200);
    for _ in 0..5 {
        server.ok(CHAT, &chat("hi")).await;
    }
    assert!(sick.requests().iter().all(|request| request.starts_with("GET /ping ")), "never asked");
}

#[tokio::test]
async fn an_upstream_that_failed_is_tried_again_by_one_request() {
    let recovers = Upstream::start(|number| match number {
        0..3 => vec![json("502 Bad", "{}")],
        3 => vec![Step::Wait(Duration::from_millis(300)), json("200 OK", "{}")],
        _ => vec![json("200 OK", "{}")],
    })
    .await;
    let proxy = proxy(&[("a", &recovers.url())], &["proxy.failure_pause=300ms"]).await;
    for _ in 0..3 {
        assert_eq!(proxy.error(CHAT, &chat("hi")).await.0, 502);
    }
    assert_eq!(proxy.error(CHAT, &chat("hi")).await.0, 503, "left alone");
    assert_eq!(proxy.get("/health").await.status(), 503);
    tokio::time::sleep(Duration::from_millis(350)).await;
    let body = chat("hi");
    let together = join_all((0..5).map(|_| proxy.post(CHAT, &body))).await;
    let passed = together.iter().filter(|response| response.status() == 200).count();
    assert_eq!(passed, 1, "one on trial");
    proxy.ok(CHAT, &chat("hi")).await;
    assert_eq!(recovers.requests().len(), 5);
}

#[tokio::test]
async fn models_are_listed_by_those_that_have_them() {
    let lists = |model: &'static str| {
        Upstream::start(move |number| match number {
            0 => vec![json("200 OK", &json!({ "data": [{ "id": model }, { "id": "both" }] }).to_string())],
            _ => vec![answer("200 OK", "content-type: application/json\r\n", "{}")],
        })
    };
    let (a, b) = (lists("x").await, lists("y").await);
    let settings = ["proxy.discover_interval=1h"];
    let proxy = proxy(&[("a", &a.url()), ("b", &b.url())], &settings).await;
    let models: Value = proxy.get("/v1/models").await.json().await.unwrap();
    let ids: Vec<_> = models["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect();
    assert_eq!(ids, ["x", "both", "y"]);
    for (model, of_a, of_b) in [("x", 4, 0), ("y", 0, 4), ("both", 2, 2)] {
        let before = (a.requests().len(), b.requests().len());
        for _ in 0..4 {
            proxy.ok(CHAT, &with(chat("hi"), json!({ "model": model }))).await;
        }
        assert_eq!((a.requests().len() - before.0, b.requests().len() - before.1), (of_a, of_b), "{model}");
    }
}
