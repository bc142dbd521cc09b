//! Server-sent events: a generation as a body that grows.

use std::{
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt};
use poem::Body;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{error::ApiError, limits::Slot, observe::Exchange};
use crate::generation::{Events, GenerationEvent};

/// Proxies cut connections that say nothing for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A comment, which every client skips. An `id:`, a `retry:` or an empty event breaks openai-python.
const PING: Bytes = Bytes::from_static(b": ping\n\n");
const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// Writes the events of a generation as the objects of one operation.
pub(crate) trait Encoder: Send + 'static {
    /// Written as soon as the generation was accepted.
    fn opening(&mut self) -> Vec<Bytes>;

    /// `None` where the event has no object of its own.
    fn event(&mut self, event: GenerationEvent) -> Option<Bytes>;
}

/// `data: {json}` and an empty line.
pub(crate) fn data(value: &impl Serialize) -> Bytes {
    let mut event = Vec::with_capacity(384);
    event.extend_from_slice(b"data: ");
    if let Err(error) = serde_json::to_writer(&mut event, value) {
        tracing::error!(%error, "an event could not be written as JSON");
        return failure(&ApiError::internal());
    }
    event.extend_from_slice(b"\n\n");
    event.into()
}

/// An error after the first byte: the envelope as an event.
fn failure(error: &ApiError) -> Bytes {
    let envelope = serde_json::to_string(&error.to_envelope()).unwrap_or_default();
    format!("data: {envelope}\n\n").into()
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
    mut events: Events,
    mut encoder: impl Encoder,
    slot: Slot,
    exchange: Arc<Exchange>,
    cut: CancellationToken,
) -> impl Stream<Item = Bytes> + Send {
    async_stream::stream! {
        // Held while the stream lives.
        let _slot = slot;
        let opening = encoder.opening();
        if !opening.is_empty() {
            yield opening.concat().into();
        }
        let mut cut = pin!(cut.cancelled_owned());
        loop {
            let event = tokio::select! {
                biased;
                event = next(&mut events) => event,
                () = &mut cut => Some(Err(ApiError::shutting_down())),
                () = tokio::time::sleep(KEEP_ALIVE) => {
                    yield PING;
                    continue;
                }
            };
            match event {
                Some(Ok(event)) => {
                    exchange.saw(&event);
                    let last = matches!(event, GenerationEvent::Done(_));
                    if let Some(chunk) = encoder.event(event) {
                        yield chunk;
                    }
                    if last {
                        yield DONE;
                        return;
                    }
                }
                Some(Err(error)) => {
                    exchange.failed(&error);
                    yield failure(&error);
                    return;
                }
                None => {
                    let error = ApiError::internal();
                    tracing::error!("a generation ended without its last event");
                    exchange.failed(&error);
                    yield failure(&error);
                    return;
                }
            }
        }
    }
}

/// The next event. A panic in the backend ends this stream with an error, not the connection without one.
async fn next(events: &mut Events) -> Option<Result<GenerationEvent, ApiError>> {
    let mut events: Pin<&mut Events> = Pin::new(events);
    match AssertUnwindSafe(events.next()).catch_unwind().await {
        Ok(event) => event.map(|event| event.map_err(ApiError::from)),
        Err(_) => Some(Err(ApiError::internal())),
    }
}
