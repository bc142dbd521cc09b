//! Asks the upstreams how they are, and what they serve.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures_util::{future::join_all, stream};
use http_body_util::{BodyExt, Limited, StreamBody};
use indexmap::IndexMap;
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};

use super::{
    InUse,
    connection::{Connection, words},
    fleet::Fleet,
    upstream::{Failed, Upstream},
};
use crate::backend::ModelCard;

/// A health check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);
const LARGEST_LIST: usize = 4 << 20;

/// Checks all upstreams, again and again, for as long as the backend is there.
pub(super) async fn watch(in_use: Weak<ArcSwapOption<InUse>>) {
    let in_use = || in_use.upgrade().and_then(|in_use| in_use.load_full());
    let mut discovered = Instant::now();
    while let Some(current) = in_use() {
        let (health, discover) = (current.health_interval, current.discover_interval);
        drop(current);
        sleep(discover.map_or(health, |discover| discover.min(health))).await;
        let Some(current) = in_use() else { return };
        let due = discover.is_some_and(|interval| discovered.elapsed() >= interval);
        if due {
            discovered = Instant::now();
        }
        check_all(&current.fleet, due).await;
    }
}

/// One round.
pub(super) async fn check_all(fleet: &Fleet, discover: bool) {
    join_all(fleet.upstreams.iter().map(|upstream| async {
        check(upstream).await;
        upstream.pool.sweep(false);
        if discover && fleet.discovers {
            list(upstream, fleet.created).await;
        }
    }))
    .await;
}

async fn check(upstream: &Arc<Upstream>) {
    let Some(path) = upstream.health_path() else { return };
    let found = match timeout(PATIENCE, ask(upstream, path)).await {
        // One that has no such path is there all the same.
        Ok(Ok((status, _))) if status < 500 => Ok(()),
        Ok(Ok((status, _))) => Err(format!("its health check answers {status}")),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(format!("its health check took longer than {} s", PATIENCE.as_secs())),
    };
    let news = upstream.circuit().checked(found.is_ok(), Instant::now());
    match found {
        Ok(()) if news => tracing::info!(upstream = &*upstream.name, "is well again"),
        Ok(()) => {}
        Err(error) => {
            upstream.pool.sweep(true);
            if news {
                tracing::warn!(upstream = &*upstream.name, error, "is not well");
            }
        }
    }
}

/// Status and body of a GET.
async fn ask(upstream: &Upstream, path: &str) -> Result<(u16, Bytes), String> {
    let request = upstream.get(path).ok_or("its path is none")?;
    let (response, mut connection) = upstream.send(request).await.map_err(|failed| {
        upstream.hide(match failed {
            Failed::Unreachable(error) => words(&error),
            Failed::Broken(error) => words(&error),
        })
    })?;
    let (head, mut incoming) = response.into_parts();
    let pieces = stream::poll_fn(|cx| connection.poll_body(Pin::new(&mut incoming), cx));
    let body = Limited::new(StreamBody::new(pieces), LARGEST_LIST);
    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    if let Connection::Http1(mut connection) = connection
        && poll_fn(|cx| Poll::Ready(connection.is_reusable(cx))).await
    {
        upstream.pool.put(connection);
    }
    Ok((head.status.as_u16(), body))
}

#[derive(Deserialize)]
struct List {
    data: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    id: String,
    created: Option<u64>,
    owned_by: Option<String>,
    max_model_len: Option<u32>,
}

/// Asks for its models. When it does not say, those that it had stay.
async fn list(upstream: &Upstream, now: u64) {
    let listed = match timeout(PATIENCE, ask(upstream, &upstream.models_path())).await {
        Ok(Ok((200, body))) => serde_json::from_slice::<List>(&body).map_err(|error| error.to_string()),
        Ok(Ok((status, _))) => Err(format!("status {status}")),
        Ok(Err(error)) => Err(error),
        Err(_) => Err("it took too long".to_owned()),
    };
    match listed {
        Ok(list) => {
            let card = |row: Row| {
                let card = ModelCard {
                    created: row.created.unwrap_or(now),
                    owner: row.owned_by.unwrap_or_else(|| "upstream".to_owned()),
                    fingerprint: String::new(),
                    context_length: row.max_model_len.unwrap_or(0),
                };
                (row.id, card)
            };
            let models: IndexMap<_, _> = list.data.into_iter().map(card).collect();
            upstream.listed.store(Some(Arc::new(models)));
        }
        Err(error) => tracing::warn!(upstream = &*upstream.name, error, "did not list its models"),
    }
}
