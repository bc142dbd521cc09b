//! One log line a request, written when its answer is out or its client is gone.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use poem::{
    Body, Request,
    http::{Method, StatusCode},
};

use super::{error::ApiError, head::unique_id};
use crate::generation::{GenerationEvent, Usage};

/// What is known of one request and its answer so far. Dropping the last handle writes the line.
pub(crate) struct Exchange {
    pub(crate) id: String,
    method: Method,
    path: String,
    started: Instant,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    status: Option<StatusCode>,
    model: Option<String>,
    key: Option<Arc<str>>,
    upstream: Option<Arc<str>>,
    first_token: Option<Duration>,
    usage: Option<Usage>,
    error: Option<String>,
    /// The whole answer was handed to the connection.
    complete: bool,
}

impl Exchange {
    pub(crate) fn begin(request: &Request) -> Arc<Self> {
        let given = request.header("x-request-id").filter(|id| well_formed(id));
        Arc::new(Self {
            id: given.map_or_else(|| unique_id("req_"), str::to_owned),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            started: Instant::now(),
            told: Mutex::default(),
        })
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn model(&self, model: &str) {
        self.told().model = Some(model.to_owned());
    }

    pub(crate) fn key(&self, name: &Arc<str>) {
        self.told().key = Some(Arc::clone(name));
    }

    /// What the configuration calls the server that answers.
    pub(crate) fn upstream(&self, name: &Arc<str>) {
        self.told().upstream = Some(Arc::clone(name));
    }

    /// The first event of a stream that another server makes.
    pub(crate) fn first_event(&self) {
        self.told().first_token.get_or_insert_with(|| self.started.elapsed());
    }

    /// An error that another server answered with.
    pub(crate) fn refused(&self, how: &str) {
        self.told().error = Some(how.to_owned());
    }

    pub(crate) fn saw(&self, event: &GenerationEvent) {
        match event {
            GenerationEvent::Done(usage) => self.told().usage = Some(*usage),
            GenerationEvent::Finished { .. } => {}
            _ => {
                self.told().first_token.get_or_insert_with(|| self.started.elapsed());
            }
        }
    }

    /// Tokens of a request that generates nothing.
    pub(crate) fn counted(&self, prompt: u64) {
        self.told().usage = Some(Usage { prompt, ..Usage::default() });
    }

    pub(crate) fn failed(&self, error: &ApiError) {
        // Not the message: it may quote what the client sent.
        self.told().error = Some(error.summary());
    }

    pub(crate) fn status(&self, status: StatusCode) {
        self.told().status = Some(status);
    }

    /// The answer's body, watched to its end.
    pub(crate) fn watch(self: &Arc<Self>, body: Body) -> Body {
        let inner: BoxBody = body.into();
        let exchange = Arc::clone(self);
        if inner.is_end_stream() {
            exchange.told().complete = true;
        }
        Body::from(BoxBody::new(Watched { inner, exchange }))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let told = std::mem::take(&mut *self.told());
        let usage = told.usage.unwrap_or_default();
        // Microseconds are as fine as it is worth: 0.112, not 0.11208599999999999.
        let milliseconds = |time: Duration| time.as_micros() as f64 / 1000.0;
        let status = told.status.map(|status| status.as_u16());
        let outcome = match (&told.error, told.complete) {
            (Some(error), _) => error,
            (None, true) => "ok",
            (None, false) => "the client went away",
        };
        tracing::info!(
            method = self.method.as_str(),
            path = self.path,
            status,
            model = told.model,
            key = told.key.as_deref(),
            upstream = told.upstream.as_deref(),
            prompt_tokens = told.usage.map(|_| usage.prompt),
            completion_tokens = told.usage.map(|_| usage.completion),
            first_token_ms = told.first_token.map(milliseconds),
            duration_ms = milliseconds(self.started.elapsed()),
            request_id = self.id,
            outcome,
            // The journal shows this alone; the fields are there to filter by.
            "{} {} {}",
            self.method,
            self.path,
            status.unwrap_or_default(),
        );
    }
}

/// A request id that may stand in headers and logs as it is.
fn well_formed(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
}

type BoxBody = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

struct Watched {
    inner: BoxBody,
    exchange: Arc<Exchange>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) || self.inner.is_end_stream() {
            self.exchange.told().complete = true;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
