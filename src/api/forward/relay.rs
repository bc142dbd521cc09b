//! Answers of another server on their way to the client.

use std::{
    io, iter,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use memchr::memmem;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::super::{
    error::ApiError,
    limits::Slot,
    observe::Exchange,
    sse::{KEEP_ALIVE, PING},
};
use super::failure;
use crate::backend::passthrough::{ForwardedBody, IsPrivate};

/// An event that is longer is none.
const LONGEST_EVENT: usize = 4 << 20;

type Next = Poll<Option<io::Result<Frame<Bytes>>>>;

/// Server-sent events as they come, in whole events, so that an error event can follow any of them.
pub(super) struct Events {
    source: Source,
    /// The beginning of an event whose end has not come yet.
    begun: BytesMut,
    done: bool,
    ended: bool,
    quiet: Pin<Box<Sleep>>,
    /// Something went out since the timer was set.
    spoke: bool,
    cut: CancellationToken,
    until_cut: Pin<Box<WaitForCancellationFutureOwned>>,
    exchange: Arc<Exchange>,
    _slot: Slot,
}

/// A stream as it comes.
pub(super) struct Source {
    pub(super) body: ForwardedBody,
    pub(super) framing: Framing,
    /// Its last event has to come, because nothing else tells an end from an accident.
    pub(super) wants_done: bool,
    pub(super) is_private: IsPrivate,
}

/// How an error stands in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// `data: {"error": …}`
    Plain,
    /// The same under `event: error` and with a `type`, as in the streams of `/responses` and `/messages`.
    Typed,
}

impl Events {
    pub(super) fn new(source: Source, slot: Slot, exchange: Arc<Exchange>, cut: CancellationToken) -> Self {
        Self {
            source,
            begun: BytesMut::new(),
            done: false,
            ended: false,
            quiet: Box::pin(sleep(KEEP_ALIVE)),
            spoke: false,
            until_cut: Box::pin(cut.clone().cancelled_owned()),
            cut,
            exchange,
            _slot: slot,
        }
    }

    /// What of `piece` and of what is held back ends an event.
    fn whole(&mut self, mut piece: Bytes) -> Bytes {
        let whole = if self.begun.is_empty() {
            let end = end_of_events(&piece);
            let whole = piece.split_to(end);
            self.begun.extend_from_slice(&piece);
            whole
        } else {
            // An end may be cut in two.
            let from = self.begun.len().saturating_sub(3);
            self.begun.extend_from_slice(&piece);
            match end_of_events(&self.begun[from..]) {
                0 => Bytes::new(),
                end => self.begun.split_to(from + end).freeze(),
            }
        };
        if let Some(event) = last_event(&whole) {
            self.done = ends_a_stream(event);
        }
        self.with_errors_enveloped(whole)
    }

    /// The events, those that are errors of another shape in OpenAI's envelope. Of other events nothing is read.
    fn with_errors_enveloped(&self, events: Bytes) -> Bytes {
        let Source { framing: Framing::Plain, is_private, .. } = &self.source else { return events };
        if memmem::find(&events, b"{\"error\"").is_none() {
            return events;
        }
        let Ok(text) = std::str::from_utf8(&events) else { return events };
        let mut out = String::with_capacity(text.len());
        let end = if text.contains("\r\n\r\n") { "\r\n\r\n" } else { "\n\n" };
        for event in text.split_inclusive(end) {
            let data = event.strip_prefix("data:").map(str::trim).filter(|data| failure::is_error(data));
            let Some(data) = data else {
                out.push_str(event);
                continue;
            };
            self.exchange.refused("upstream error event");
            let shown = if is_private(data.as_bytes()) { "" } else { data };
            match failure::envelope(StatusCode::INTERNAL_SERVER_ERROR, shown.as_bytes()) {
                Some(envelope) => out.extend(["data: ", &envelope, end]),
                None => out.push_str(event),
            }
        }
        out.into()
    }

    fn fail(&mut self, error: &ApiError) -> Next {
        self.ended = true;
        self.exchange.failed(error);
        Poll::Ready(Some(Ok(Frame::data(event(error, self.source.framing)))))
    }

    fn poll_others(&mut self, cx: &mut Context<'_>) -> Next {
        if self.until_cut.as_mut().poll(cx).is_ready() {
            return self.fail(&ApiError::shutting_down());
        }
        if self.spoke {
            self.quiet.as_mut().reset(Instant::now() + KEEP_ALIVE);
            self.spoke = false;
        }
        if self.quiet.as_mut().poll(cx).is_ready() {
            self.spoke = true;
            return Poll::Ready(Some(Ok(Frame::data(PING))));
        }
        Poll::Pending
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next {
        let this = &mut *self;
        loop {
            if this.ended {
                return Poll::Ready(None);
            }
            if this.cut.is_cancelled() {
                return this.fail(&ApiError::shutting_down());
            }
            match this.source.body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(piece) = frame.into_data() else { continue };
                    let whole = this.whole(piece);
                    if this.begun.len() > LONGEST_EVENT {
                        return this.fail(&broken("sent what is no event"));
                    }
                    if !whole.is_empty() {
                        this.exchange.first_event();
                        this.spoke = true;
                        return Poll::Ready(Some(Ok(Frame::data(whole))));
                    }
                }
                // After its last event nothing is missing, however the connection ends.
                Poll::Ready(Some(Err(_))) if this.done && this.begun.is_empty() => this.ended = true,
                Poll::Ready(Some(Err(error))) => return this.fail(&error.into()),
                Poll::Ready(None) => {
                    if !this.begun.trim_ascii().is_empty() {
                        return this.fail(&broken("ended in the middle of an event"));
                    }
                    if this.source.wants_done && !this.done {
                        return this.fail(&broken("ended before its answer did"));
                    }
                    this.ended = true;
                }
                Poll::Pending => return this.poll_others(cx),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

fn broken(how: &str) -> ApiError {
    crate::generation::Error::BadGateway(format!("The upstream server {how}.")).into()
}

fn event(error: &ApiError, framing: Framing) -> Bytes {
    let mut envelope = serde_json::to_value(error.to_envelope()).unwrap_or_default();
    let name = match framing {
        Framing::Plain => "",
        Framing::Typed => {
            // `/messages` has the error in an object, `/responses` beside its type.
            for key in ["message", "param", "code"] {
                envelope[key] = envelope["error"][key].clone();
            }
            envelope["type"] = "error".into();
            "event: error\n"
        }
    };
    format!("{name}data: {envelope}\n\n").into()
}

/// The last of some whole events. Comments are none.
fn last_event(events: &[u8]) -> Option<&[u8]> {
    let mut events = events.trim_ascii_end();
    while !events.is_empty() {
        let (before, event) = events.split_at(end_of_events(events));
        if lines(event).any(|line| !line.is_empty() && !line.starts_with(b":")) {
            return Some(event);
        }
        events = before.trim_ascii_end();
    }
    None
}

/// Whether nothing comes after an event: `[DONE]`, and what streams of `/responses` and `/messages` end with.
fn ends_a_stream(event: &[u8]) -> bool {
    let last =
        [&b"message_stop"[..], b"response.completed", b"response.incomplete", b"response.failed", b"error"];
    lines(event).any(|line| {
        let value = |field: &[u8]| line.strip_prefix(field).map(<[u8]>::trim_ascii);
        let data = value(b"data:");
        // Some servers leave the name to the data.
        let named = data.and_then(|data| data.strip_prefix(b"{\"type\":")).map(<[u8]>::trim_ascii_start);
        let named = named.and_then(|rest| rest.strip_prefix(b"\"")?.split(|byte| *byte == b'"').next());
        data == Some(b"[DONE]") || value(b"event:").or(named).is_some_and(|name| last.contains(&name))
    })
}

/// Lines by any line end, with empty ones between those of `\r\n`.
fn lines(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(event);
    iter::from_fn(move || {
        let text = rest?;
        let end = memchr::memchr2(b'\n', b'\r', text);
        rest = end.map(|end| &text[end + 1..]);
        Some(&text[..end.unwrap_or(text.len())])
    })
}

/// The length of the part that ends with an event's end: an empty line, by whatever ends lines.
fn end_of_events(bytes: &[u8]) -> usize {
    if bytes.ends_with(b"\n\n") {
        return bytes.len();
    }
    let mut end = bytes.len();
    while let Some(at) = memchr::memrchr2(b'\n', b'\r', &bytes[..end]) {
        let before = &bytes[..=at];
        if [&b"\n\n"[..], b"\n\r\n", b"\r\r"].iter().any(|empty| before.ends_with(empty)) {
            return at + 1;
        }
        end = at;
    }
    0
}

/// Any other answer as it comes: what has been read of it already, and the rest. Its early end ends the connection, which
/// is all that can be done then.
pub(super) struct Rest {
    first: Option<Bytes>,
    body: ForwardedBody,
    until_cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _slot: Slot,
}

impl Rest {
    pub(super) fn new(first: Bytes, body: ForwardedBody, slot: Slot, cut: CancellationToken) -> Self {
        let first = Some(first).filter(|first| !first.is_empty());
        Self { first, body, until_cut: Box::pin(cut.cancelled_owned()), _slot: slot }
    }
}

impl Body for Rest {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match self.body.as_mut().poll_frame(cx) {
            Poll::Pending => {
                self.until_cut.as_mut().poll(cx).map(|()| Some(Err(io::ErrorKind::Interrupted.into())))
            }
            ready => ready.map_err(io::Error::other),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, |first| first.len() as u64);
        let rest = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(first));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(first)) {
            hint.set_upper(upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_end_with_an_empty_line_by_any_line_end() {
        for (bytes, end) in [
            ("", 0),
            ("data: a", 0),
            ("data: a\n", 0),
            ("data: a\n\n", 9),
            ("data: a\n\ndata: b\n", 9),
            ("data: a\r\n\r\ndata", 11),
            ("data: a\r\rdata", 9),
            ("data: a\r\ndata: b\r\n", 0),
            ("a\n\nb\n\nc\nd", 6),
        ] {
            assert_eq!(end_of_events(bytes.as_bytes()), end, "{bytes:?}");
        }
    }

    #[test]
    fn the_last_event_is_told_from_what_else_may_end_a_stream() {
        let ends = |events: &str| last_event(events.as_bytes()).map(ends_a_stream);
        for (events, expected) in [
            ("", None),
            (": ping\n\n", None),
            (": a\r\n: b\r\n\r\n: c\n\n", None),
            ("data: {}\n\n", Some(false)),
            ("data: [DONE]\n\n", Some(true)),
            ("data:[DONE]\r\n\r\n", Some(true)),
            ("data: {}\n\ndata: [DONE]\n\n: ping\n\n", Some(true)),
            ("data: [DONE]\n\ndata: {}\n\n", Some(false)),
            (": ping\ndata: [DONE]\n\n", Some(true)),
            ("data: {\"content\":\"[DONE]\"}\n\n", Some(false)),
            ("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n", Some(true)),
            ("event: response.completed\r\ndata: {}\r\n\r\n", Some(true)),
            ("event: response.output_text.done\ndata: {}\n\n", Some(false)),
            ("event: error\ndata: {}\n\n", Some(true)),
            ("data: {\"type\": \"message_stop\"}\n\n", Some(true)),
            ("data: {\"type\":\"response.completed\",\"x\":1}\n\n", Some(true)),
            ("data: {\"type\":\"message_start\"}\n\n", Some(false)),
        ] {
            assert_eq!(ends(events), expected, "{events:?}");
        }
    }
}
