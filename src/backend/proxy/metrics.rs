//! What is counted of each upstream, under the names that it is watched by.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;

use super::{circuit::State, upstream::Upstream};
use crate::backend::metric::{Histogram, Metric, Value};

/// How an upstream failed a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// There was no connection.
    Unreachable,
    /// The answer did not begin, go on or end in time.
    Timeout,
    /// The connection broke, or what came was no HTTP.
    Broken,
    /// It answered 429.
    Busy,
    /// It answered 502, 503 or 504.
    Unavailable,
    /// It refused our key, or pointed elsewhere.
    Refused,
}

impl Failure {
    const ALL: [(Self, &str); 6] = [
        (Self::Unreachable, "unreachable"),
        (Self::Timeout, "timeout"),
        (Self::Broken, "broken"),
        (Self::Busy, "busy"),
        (Self::Unavailable, "unavailable"),
        (Self::Refused, "refused"),
    ];
}

/// Grows for as long as the upstream is there.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: AtomicU64,
    /// Requests that went on to another upstream.
    pub(super) retries: AtomicU64,
    failures: [AtomicU64; Failure::ALL.len()],
    pub(super) first_byte: Histogram,
}

impl Counts {
    pub(super) fn failed(&self, failure: Failure) {
        self.failures[failure as usize].fetch_add(1, Relaxed);
    }
}

pub(super) fn metrics(upstream: &Upstream) -> Vec<Metric> {
    let row = |name, help, more: Option<(&'static str, &str)>, value| {
        let own = ("upstream", upstream.name.clone());
        let labels = [own].into_iter().chain(more.map(|(label, text)| (label, text.into()))).collect();
        Metric { name, help, labels, value }
    };
    let number = |name, help, value| row(name, help, None, Value::Number(value));
    let Counts { requests, retries, failures, first_byte } = &upstream.counts;
    let (state, outstanding, healthy) = {
        let circuit = upstream.circuit();
        (circuit.state(Instant::now()), circuit.outstanding(), circuit.is_healthy())
    };
    let mut rows = vec![
        number(
            "sconce_upstream_requests_total",
            "Requests that an upstream was chosen for.",
            requests.load(Relaxed),
        ),
        number(
            "sconce_upstream_retries_total",
            "Requests that went to another upstream after this one.",
            retries.load(Relaxed),
        ),
        number(
            "sconce_upstream_requests_in_flight",
            "Requests that an upstream has now.",
            outstanding.into(),
        ),
        number(
            "sconce_upstream_healthy",
            "1 when its last health check went well, or there is none.",
            healthy.into(),
        ),
    ];
    rows.extend(Failure::ALL.map(|(failure, kind)| {
        let help = "Requests that an upstream failed, by how it did.";
        let count = failures[failure as usize].load(Relaxed);
        row("sconce_upstream_failures_total", help, Some(("kind", kind)), Value::Number(count))
    }));
    rows.extend(State::ALL.map(|(of, name)| {
        let help = "1 for the state of its circuit breaker, 0 for the others.";
        row("sconce_upstream_circuit", help, Some(("state", name)), Value::Number((of == state).into()))
    }));
    rows.push(row(
        "sconce_upstream_first_byte_seconds",
        "From sending a request to the first piece of its answer, where that was a success.",
        None,
        Value::Times(first_byte.times()),
    ));
    rows
}
