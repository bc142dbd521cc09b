//! Server-sent events: a generation as a body that grows.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use poem::Body;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{error::ApiError, limits::Slot, observe::Exchange};
use crate::generation::{Events, GenerationEvent};

/// Proxies cut connections that say nothing for a minute.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A comment, which every client skips. An `id:`, a `retry:` or an empty event breaks openai-python.
pub(crate) const PING: Bytes = Bytes::from_static(b": ping\n\n");
const DONE: &[u8] = b"data: [DONE]\n\n";
/// Room for one event of a few words.
const ONE: usize = 384;
/// Bytes that leave together at most, so that a stream which never waits does not keep a thread to itself.
const TOGETHER: usize = 16 << 10;

/// Writes the events of a generation as the objects of one operation.
pub(crate) trait Encoder: Send + 'static {
    /// Written as soon as the generation was accepted.
    fn opening(&mut self, out: &mut Vec<u8>);

    /// Writes nothing where the event has no object of its own.
    fn event(&mut self, event: GenerationEvent, out: &mut Vec<u8>);
}

/// `data: {json}` and an empty line.
pub(crate) fn data(value: &impl Serialize, out: &mut Vec<u8>) {
    write(b"data: ", value, b"\n\n", out);
}

fn write(before: &[u8], value: &impl Serialize, after: &[u8], out: &mut Vec<u8>) {
    let length = out.len();
    out.reserve(ONE.max(before.len() + after.len()));
    out.extend_from_slice(before);
    if let Err(error) = serde_json::to_writer(&mut *out, value) {
        tracing::error!(%error, "an event could not be written as JSON: {error}");
        out.truncate(length);
        return failure(&ApiError::internal(), out);
    }
    out.extend_from_slice(after);
}

/// What all objects of one stream have around their choice. It is most of each, and written once.
pub(crate) struct Frame {
    before: Box<[u8]>,
    after: Box<[u8]>,
}

impl Frame {
    /// That of an object whose `choices` are empty.
    pub(crate) fn of(object: &impl Serialize) -> Self {
        // In a text within the object these quotes would be escaped.
        const CHOICES: &str = "\"choices\":[";
        let text = serde_json::to_string(object).unwrap_or_default();
        let middle = text.find(CHOICES).map_or(0, |place| place + CHOICES.len());
        let (before, after) = text.as_bytes().split_at(middle);
        Self { before: [b"data: ", before].concat().into(), after: [after, b"\n\n"].concat().into() }
    }

    /// The object with this choice, as an event.
    pub(crate) fn data(&self, choice: &impl Serialize, out: &mut Vec<u8>) {
        write(&self.before, choice, &self.after, out);
    }
}

/// An error after the first byte: the envelope as an event.
fn failure(error: &ApiError, out: &mut Vec<u8>) {
    let envelope = serde_json::to_string(&error.to_envelope()).unwrap_or_default();
    out.extend([b"data: ", envelope.as_bytes(), b"\n\n"].into_iter().flatten());
}

/// A generation as the body of a response. Dropping it cancels the generation and frees its slot. What goes wrong on
/// the way, and a `cut` by the server's end, is an error event after which the stream ends without `[DONE]`.
pub(crate) fn body(
    events: Events,
    encoder: impl Encoder,
    slot: Slot,
    exchange: Arc<Exchange>,
    cut: CancellationToken,
) -> Body {
    Body::from_bytes_stream(stream(events, encoder, slot, exchange, cut).map(Ok::<_, std::io::Error>))
}

fn stream(
    events: Events,
    mut encoder: impl Encoder,
    slot: Slot,
    exchange: Arc<Exchange>,
    cut: CancellationToken,
) -> impl Stream<Item = Bytes> + Send {
    async_stream::stream! {
        // Held while the stream lives, and longer than the events are: they are of the model that it holds.
        let _slot = slot;
        let mut events = events;
        let mut cut = pin!(cut.cancelled_owned());
        let mut quiet = pin!(sleep(KEEP_ALIVE));
        let mut out = Vec::new();
        encoder.opening(&mut out);
        let mut last = false;
        while !last {
            // Events that are there at the same time leave together, and none waits for one that is not.
            let event = if out.is_empty() {
                tokio::select! {
                    biased;
                    event = poll_fn(|cx| poll(&mut events, cx)) => event,
                    () = &mut cut => Some(Err(ApiError::shutting_down())),
                    () = &mut quiet => {
                        yield PING;
                        quiet.as_mut().reset(Instant::now() + KEEP_ALIVE);
                        continue;
                    }
                }
            } else {
                let full = out.len() >= TOGETHER;
                let more = poll_fn(|cx| Poll::Ready(if full { Poll::Pending } else { poll(&mut events, cx) }));
                match more.await {
                    Poll::Ready(event) => event,
                    Poll::Pending => {
                        yield std::mem::take(&mut out).into();
                        quiet.as_mut().reset(Instant::now() + KEEP_ALIVE);
                        continue;
                    }
                }
            };
            match event {
                Some(Ok(event)) => {
                    exchange.saw(&event);
                    last = matches!(event, GenerationEvent::Done(_));
                    encoder.event(event, &mut out);
                    if last {
                        out.extend_from_slice(DONE);
                    }
                }
                Some(Err(error)) => {
                    exchange.failed(&error);
                    failure(&error, &mut out);
                    last = true;
                }
                None => {
                    let error = ApiError::internal();
                    tracing::error!("a generation ended without its last event");
                    exchange.failed(&error);
                    failure(&error, &mut out);
                    last = true;
                }
            }
        }
        yield out.into();
    }
}

/// The next event. A panic in the backend ends this stream with an error, not the connection without one.
fn poll(events: &mut Events, cx: &mut Context<'_>) -> Poll<Option<Result<GenerationEvent, ApiError>>> {
    match catch_unwind(AssertUnwindSafe(|| events.as_mut().poll_next(cx))) {
        Ok(event) => event.map(|event| event.map(|event| event.map_err(ApiError::from))),
        Err(_) => Poll::Ready(Some(Err(ApiError::internal()))),
    }
}
