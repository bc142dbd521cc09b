//! The upstreams of one model: a request goes to one of them, and to a second where the first did not get to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, StatusCode, Version};
use http_body_util::{BodyExt, Full, Limited};
use indexmap::IndexMap;
use tokio::time::{Instant, timeout_at};

use super::{
    answer::Answer,
    choice::{self, Candidate},
    circuit::Closed,
    config::{Affinity, Config},
    connection::words,
    head,
    metrics::Failure,
    upstream::{self, Failed, Lease, Upstream},
};
use crate::{
    backend::{
        ModelCard,
        passthrough::{Forward, Forwarded, Unanswered},
    },
    generation::Error,
};

/// An error's body; what is longer is no error of any API.
const LARGEST_ERROR: usize = 64 << 10;
/// Bytes of a conversation that tell it from others.
const PREFIX: usize = 2048;
/// An upstream that is busy and does not say for how long.
const BUSY: Duration = Duration::from_secs(1);

pub(super) struct Fleet {
    pub(super) upstreams: Vec<Arc<Upstream>>,
    affinity: Affinity,
    affinity_header: Option<HeaderName>,
    root_paths: Vec<String>,
    pub(super) discovers: bool,
    /// When the model began to be served, for those that do not say it of theirs.
    pub(super) created: u64,
    turn: AtomicUsize,
}

/// What came of sending a request to one upstream.
enum Tried {
    Answered(Forwarded),
    /// It did not do anything with the request, so that another may have it. With its answer, if it gave one.
    Declined(Result<Forwarded, Error>),
    Failed(Error),
}

impl Fleet {
    /// # Errors
    /// Which upstream cannot be used, and why.
    pub(super) fn new(config: &Config, before: &[Arc<Upstream>], created: u64) -> Result<Self, String> {
        Ok(Self {
            upstreams: upstream::build(config, before)?,
            affinity: config.affinity,
            affinity_header: config.affinity_header.parse().ok(),
            root_paths: config.root_paths.clone(),
            discovers: config.discover_interval.is_some(),
            created,
            turn: AtomicUsize::new(0),
        })
    }

    pub(super) fn is_well(&self) -> bool {
        let now = Instant::now();
        self.upstreams.iter().any(|upstream| upstream.circuit().is_well(now))
    }

    /// What the upstreams list, the first one's word for each; `None` where they are not asked.
    pub(super) fn discovered(&self) -> Option<IndexMap<String, ModelCard>> {
        let mut models = self.discovers.then(IndexMap::new)?;
        for listed in self.upstreams.iter().filter_map(|upstream| upstream.listed.load_full()) {
            for (id, card) in &*listed {
                models.entry(id.clone()).or_insert_with(|| card.clone());
            }
        }
        Some(models)
    }

    pub(super) fn lists(&self, id: &str) -> bool {
        self.discovers && self.upstreams.iter().any(|upstream| upstream.lists(id))
    }

    /// Sends the request to an upstream, and once more to another one if nothing came of that.
    pub(super) async fn forward(&self, mut forward: Forward) -> Result<Forwarded, Unanswered> {
        let affinity = self.affinity(&forward);
        let mut headers = head::to_upstream(std::mem::take(&mut forward.headers), &forward.request_id);
        let several = self.upstreams.len() > 1;
        let mut declined: Option<(Arc<Upstream>, Result<Forwarded, Error>)> = None;
        // A loop, because two attempts written out would each have room of their own in this future.
        loop {
            let first = declined.as_ref().map(|(first, _)| first);
            let now = Instant::now();
            let (lease, again) = match (self.choose(&forward, affinity, first, now), declined.take()) {
                (Ok(lease), None) => (lease, false),
                // The first one's answer ends here, before the second begins.
                (Ok(lease), Some((first, _))) => {
                    first.counts.retries.fetch_add(1, Relaxed);
                    let (from, to) = (&*first.name, &*lease.upstream.name);
                    tracing::debug!(from, to, "a request goes to another upstream");
                    (lease, true)
                }
                (Err(error), None) => return Err(error.into()),
                (Err(_), Some((first, with))) => return with.map_err(by(&first)),
            };
            let upstream = Arc::clone(&lease.upstream);
            let own = if several && !again { headers.clone() } else { std::mem::take(&mut headers) };
            match self.attempt(lease, &forward, own, now).await {
                Tried::Answered(answer) => return Ok(answer),
                Tried::Failed(error) => return Err(by(&upstream)(error)),
                Tried::Declined(with) if again => return with.map_err(by(&upstream)),
                Tried::Declined(with) => declined = Some((upstream, with)),
            }
        }
    }

    fn affinity(&self, forward: &Forward) -> Option<u64> {
        let bytes = match self.affinity {
            Affinity::None => return None,
            Affinity::Prefix => {
                let whole = forward.body.get(forward.conversation.clone()?)?;
                &whole[..whole.len().min(PREFIX)]
            }
            Affinity::Header => forward.headers.get(self.affinity_header.as_ref()?)?.as_bytes(),
        };
        Some(choice::key(bytes))
    }

    fn choose(
        &self,
        forward: &Forward,
        affinity: Option<u64>,
        not: Option<&Arc<Upstream>>,
        now: Instant,
    ) -> Result<Lease, Error> {
        let turn = self.turn.fetch_add(1, Relaxed);
        let mut full = false;
        // Another request may take the last place between looking and taking; then the others are looked at again.
        for _ in 0..=self.upstreams.len() {
            let (mut open, mut busy) = (Vec::with_capacity(self.upstreams.len()), Vec::new());
            for upstream in &self.upstreams {
                let other = not.is_some_and(|not| Arc::ptr_eq(not, upstream));
                if other || (self.discovers && !upstream.lists(&forward.id)) {
                    continue;
                }
                let circuit = upstream.circuit();
                match circuit.check(now) {
                    Ok(()) => open.push((upstream, circuit.outstanding())),
                    Err(Closed::Busy) => busy.push((upstream, circuit.outstanding())),
                    Err(Closed::Full) => full = true,
                    Err(Closed::Unwell) => {}
                }
            }
            if open.is_empty() {
                open = busy;
            }
            let candidates: Vec<_> = open
                .iter()
                .map(|(upstream, outstanding)| Candidate {
                    name: &upstream.name,
                    weight: upstream.weight,
                    outstanding: *outstanding,
                })
                .collect();
            let Some(index) = choice::choose(&candidates, affinity, turn) else { break };
            if let Ok(lease) = Lease::take(open[index].0, &forward.request_id, now) {
                return Ok(lease);
            }
        }
        if full {
            return Err(Error::Overloaded(
                "The upstream servers of this model have as many requests as they take. Please try again later."
                    .to_owned(),
            ));
        }
        Err(unreachable())
    }

    async fn attempt(&self, mut lease: Lease, forward: &Forward, headers: HeaderMap, now: Instant) -> Tried {
        let upstream = Arc::clone(&lease.upstream);
        let at_root = self.root_paths.iter().any(|path| path.trim_matches('/') == &forward.path[1..]);
        let Some(request) = upstream.request(forward, headers, at_root) else {
            return Tried::Failed(Error::invalid("", "The query of the URL cannot be passed on."));
        };
        let until = upstream.times.total.map(|total| now + total);
        let first_byte = now + upstream.times.first_byte;
        let deadline = until.map_or(first_byte, |until| until.min(first_byte));
        let (response, connection) = match timeout_at(deadline, upstream.send(request)).await {
            Err(_) => {
                let what = "no answer began in time (`first_byte_timeout`, `total_timeout`)";
                lease.failed(Failure::Timeout, what);
                return Tried::Failed(Error::Timeout(
                    "The upstream server took too long to answer.".to_owned(),
                ));
            }
            Ok(Err(Failed::Unreachable(error))) => {
                lease.failed(Failure::Unreachable, &upstream.hide(words(&error)));
                return Tried::Declined(Err(unreachable()));
            }
            Ok(Err(Failed::Broken(error))) => {
                lease.failed(Failure::Broken, &upstream.hide(words(&error)));
                let message = "The upstream server broke the connection off, or did not answer in HTTP.";
                return Tried::Failed(Error::BadGateway(message.to_owned()));
            }
            Ok(Ok(answered)) => answered,
        };
        let (head, incoming) = response.into_parts();
        let declined = match head.status {
            StatusCode::TOO_MANY_REQUESTS => {
                lease.busy(head::retry_after(&head.headers).unwrap_or(BUSY));
                true
            }
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                lease.failed(Failure::Unavailable, &format!("status {}", head.status));
                head.status != StatusCode::GATEWAY_TIMEOUT
            }
            status => {
                lease.answered();
                if let Some(what) = is_for_us(status) {
                    lease.refused(status, what);
                    let message = "The upstream server does not take requests from this one.";
                    return Tried::Failed(Error::BadGateway(message.to_owned()));
                }
                false
            }
        };
        let is_private = {
            let upstream = Arc::clone(&upstream);
            Arc::new(move |text: &[u8]| upstream.is_shown_by(text))
        };
        let ends_with_connection = head.version < Version::HTTP_2 && head::is_undelimited(&head.headers);
        let mut answer = Forwarded {
            upstream: Arc::clone(&upstream.name),
            status: head.status,
            headers: head::from_upstream(head.headers),
            ends_with_connection,
            body: Box::pin(Answer::new(head.status, incoming, connection, lease, until)),
            is_private,
        };
        if !head.status.is_success() {
            answer = with_its_body(answer, deadline).await;
        }
        if declined { Tried::Declined(Ok(answer)) } else { Tried::Answered(answer) }
    }
}

fn by(upstream: &Upstream) -> impl FnOnce(Error) -> Unanswered + use<> {
    let upstream = Some(Arc::clone(&upstream.name));
    |error| Unanswered { upstream, error }
}

fn unreachable() -> Error {
    Error::Unavailable(
        "No upstream server of this model can be reached now. Please try again later.".to_owned(),
    )
}

/// What a status says that is meant for us, not for the client.
fn is_for_us(status: StatusCode) -> Option<&'static str> {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            Some("an upstream refuses its API key")
        }
        _ if status.is_redirection() || status.is_informational() => {
            Some("an upstream points elsewhere: check its base URL")
        }
        _ => None,
    }
}

/// An error with its body read, which is left out where it is too long, or not there by the time that answers begin.
async fn with_its_body(answer: Forwarded, deadline: Instant) -> Forwarded {
    let Forwarded { headers, body, .. } = answer;
    let read = timeout_at(deadline, Limited::new(body, LARGEST_ERROR).collect()).await;
    let text = read.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let body = Full::new(text).map_err(|never| match never {});
    Forwarded { headers: passed(headers), body: Box::pin(body), ends_with_connection: false, ..answer }
}

/// Of an error's fields, those that say when to try again; its body may be put otherwise.
fn passed(mut headers: HeaderMap) -> HeaderMap {
    for name in ["content-encoding", "content-disposition", "content-language"] {
        headers.remove(name);
    }
    headers
}
