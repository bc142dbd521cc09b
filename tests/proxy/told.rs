//! What those who run the daemon are told of each upstream.

use serde_json::{Value, json};

use crate::{
    common::{TestServer, chat, with},
    upstream::{Step, Upstream, answer, events, json, proxy},
};

const CHAT: &str = "/v1/chat/completions";

async fn page(server: &TestServer) -> String {
    server.get("/metrics").await.text().await.unwrap()
}

/// A row's value; `labels` without the model's, which stands first.
fn value(page: &str, name: &str, labels: &str) -> f64 {
    let row = format!("{name}{{model=\"gpt-oss-20b\",{labels}}} ");
    let found: Vec<_> = page.lines().filter_map(|line| line.strip_prefix(&row)).collect();
    assert_eq!(found.len(), 1, "{row}\n{page}");
    found[0].parse().unwrap()
}

fn of(page: &str, upstream: &str, name: &str) -> f64 {
    value(page, &format!("sconce_upstream_{name}"), &format!("upstream=\"{upstream}\""))
}

fn failures(page: &str, upstream: &str, kind: &str) -> f64 {
    value(page, "sconce_upstream_failures_total", &format!("upstream=\"{upstream}\",kind=\"{kind}\""))
}

fn circuit(page: &str, upstream: &str) -> Vec<&'static str> {
    let is = |state: &&str| {
        let labels = format!("upstream=\"{upstream}\",state=\"{state}\"");
        value(page, "sconce_upstream_circuit", &labels) == 1.0
    };
    ["closed", "open", "half_open"].into_iter().filter(is).collect()
}

#[tokio::test]
async fn requests_failures_and_retries_are_counted_by_upstream() {
    let gone = Upstream::always(vec![]).await.url();
    let well = Upstream::always(vec![json("200 OK", "{}")]).await;
    let settings = ["proxy.upstreams.gone.weight=1000", "proxy.failure_pause=1h"];
    let proxy = proxy(&[("gone", &gone), ("well", &well.url())], &settings).await;
    for _ in 0..5 {
        proxy.ok(CHAT, &chat("hi")).await;
    }
    let page = page(&proxy).await;
    assert_eq!((of(&page, "gone", "requests_total"), of(&page, "well", "requests_total")), (3.0, 5.0));
    assert_eq!((of(&page, "gone", "retries_total"), of(&page, "well", "retries_total")), (3.0, 0.0));
    assert_eq!(failures(&page, "gone", "unreachable"), 3.0);
    assert_eq!((circuit(&page, "gone"), circuit(&page, "well")), (vec!["open"], vec!["closed"]));
    assert_eq!(of(&page, "well", "first_byte_seconds_count"), 5.0);
    assert_eq!(of(&page, "gone", "first_byte_seconds_count"), 0.0);
    assert!(of(&page, "well", "first_byte_seconds_sum") > 0.0);
    assert_eq!(
        value(&page, "sconce_upstream_first_byte_seconds_bucket", "upstream=\"well\",le=\"+Inf\""),
        5.0
    );
    assert!(page.contains("\n# TYPE sconce_upstream_first_byte_seconds histogram\n"));
    assert!(!page.contains("127.0.0.1"), "{page}");
}

#[tokio::test]
async fn each_way_to_fail_has_a_count_of_its_own() {
    for (steps, status, kind) in [
        (vec![Step::Hang], 504, "timeout"),
        (vec![events(), Step::Hang], 200, "timeout"),
        (vec![Step::Close], 502, "broken"),
        (vec![events(), Step::Close], 200, "broken"),
        (vec![json("429 Slow", "{}")], 429, "busy"),
        (vec![json("503 No", "{}")], 503, "unavailable"),
        (vec![json("504 Late", "{}")], 504, "unavailable"),
        (vec![json("401 Who", "{}")], 502, "refused"),
        (vec![answer("302 There", "location: /\r\n", "")], 502, "refused"),
        (vec![json("400 What", "{}")], 400, ""),
        (vec![json("500 Oh", "{}")], 500, ""),
    ] {
        let upstream = Upstream::always(steps).await;
        let times = ["proxy.first_byte_timeout=200ms", "proxy.idle_timeout=200ms"];
        let proxy = proxy(&[("a", &upstream.url())], &times).await;
        let response = proxy.post(CHAT, &chat("hi")).await;
        assert_eq!(response.status(), status);
        response.bytes().await.unwrap();
        let page = page(&proxy).await;
        for other in ["unreachable", "timeout", "broken", "busy", "unavailable", "refused"] {
            let expected = if other == kind { 1.0 } else { 0.0 };
            assert_eq!(failures(&page, "a", other), expected, "{kind}: {other}");
        }
        assert_eq!(of(&page, "a", "first_byte_seconds_count"), 0.0, "{kind}");
        // Whatever became of it, its log line says who had it.
        proxy.logged(&format!("POST {CHAT}")).await;
        let mut lines = proxy.requests();
        lines.retain(|line| line["path"] != "/metrics");
        assert!(lines.iter().all(|line| line["upstream"] == "a"), "{lines:?}");
        assert!(!format!("{lines:?}").contains("127.0.0.1"), "{lines:?}");
    }
}

#[tokio::test]
async fn what_is_under_way_and_how_they_are() {
    let sick = Upstream::always(vec![json("500 Sick", "")]).await;
    let slow = Upstream::start(|number| match number {
        0 => vec![json("200 OK", "")],
        _ => vec![events(), Step::Hang],
    })
    .await;
    let settings = ["proxy.health_path=/ping", "proxy.health_interval=1h"];
    let proxy = proxy(&[("sick", &sick.url()), ("slow", &slow.url())], &settings).await;
    let open = proxy.post(CHAT, &with(chat("hi"), json!({ "stream": true }))).await;
    let during = page(&proxy).await;
    assert_eq!(of(&during, "slow", "requests_in_flight"), 1.0);
    assert_eq!((of(&during, "sick", "healthy"), of(&during, "slow", "healthy")), (0.0, 1.0));
    drop(open);
    slow.left(1).await;
    let after = page(&proxy).await;
    assert_eq!(of(&after, "slow", "requests_in_flight"), 0.0);
    assert_eq!(of(&after, "sick", "requests_total"), 0.0, "health checks are no requests");
    let lines: Vec<Value> = proxy.requests();
    assert!(lines.iter().any(|line| line["outcome"] == "the client went away" && line["upstream"] == "slow"));
}
