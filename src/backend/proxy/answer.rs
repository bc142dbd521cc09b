//! The body of an upstream's answer, on its way through.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    connection::{Connection, words},
    metrics::Failure,
    upstream::Lease,
};
use crate::generation::Error;

const TOO_LONG: &str = "the request took longer than `total_timeout`";

/// Read as it is asked for. Dropping it ends the request at the upstream; read to its end, it gives its connection back.
pub(super) struct Answer {
    /// Gone at the end.
    open: Option<Open>,
    is_success: bool,
    lease: Lease,
    /// Made when a piece is waited for.
    idle: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    until: Option<Pin<Box<Sleep>>>,
}

/// An HTTP/2 stream ends before its place is given back.
struct Open {
    incoming: Incoming,
    connection: Connection,
}

impl Answer {
    pub(super) fn new(
        status: StatusCode,
        incoming: Incoming,
        connection: Connection,
        lease: Lease,
        until: Option<Instant>,
    ) -> Self {
        let mut answer = Self {
            open: Some(Open { incoming, connection }),
            is_success: status.is_success(),
            lease,
            idle: None,
            waiting: false,
            until: until.map(|until| Box::pin(sleep_until(until))),
        };
        if answer.open.as_ref().is_some_and(|open| open.incoming.is_end_stream()) {
            // There is nobody to wake: a connection that is not free at once is not kept.
            answer.finish(&mut Context::from_waker(std::task::Waker::noop()));
        }
        answer
    }

    fn finish(&mut self, cx: &mut Context<'_>) {
        if let Some(Open { connection: Connection::Http1(mut connection), .. }) = self.open.take()
            && connection.is_reusable(cx)
        {
            self.lease.upstream.pool.put(connection);
        }
        self.lease.succeeded();
    }

    fn fail(
        &mut self,
        failure: Failure,
        what: &str,
        error: Error,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.open = None;
        // Whoever refuses a request may well close before all of it was sent, or its refusal read.
        if self.is_success {
            self.lease.failed(failure, what);
        }
        Poll::Ready(Some(Err(error)))
    }

    fn late(&mut self, what: &str) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.fail(Failure::Timeout, what, too_late())
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        let deadline = Instant::now() + self.lease.upstream.times.idle;
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if !self.waiting {
            idle.as_mut().reset(deadline);
            self.waiting = true;
        }
        if idle.as_mut().poll(cx).is_ready() {
            return Poll::Ready("it said nothing for `idle_timeout`");
        }
        match &mut self.until {
            Some(until) => until.as_mut().poll(cx).map(|()| TOO_LONG),
            None => Poll::Pending,
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        loop {
            let Some(Open { incoming, connection }) = &mut this.open else { return Poll::Ready(None) };
            let over = this.until.as_ref().is_some_and(|until| until.deadline() <= Instant::now());
            match connection.poll_body(Pin::new(incoming), cx) {
                // One that always has more to say is never waited for. It may be the client that was slow.
                Poll::Ready(Some(Ok(_))) if over && !incoming.is_end_stream() => {
                    this.open = None;
                    return Poll::Ready(Some(Err(too_late())));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    this.waiting = false;
                    if incoming.is_end_stream() {
                        this.finish(cx);
                    }
                    // Trailers tell of the hop before.
                    if frame.is_data() {
                        if this.is_success {
                            this.lease.heard();
                        }
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    let told = this.lease.upstream.hide(words(&error));
                    return this.fail(Failure::Broken, &told, broken_off());
                }
                // hyper tells RST_STREAM with NO_ERROR like an end.
                Poll::Ready(None) if connection.is_shared() && !incoming.is_end_stream() => {
                    return this.fail(Failure::Broken, "its stream was reset", broken_off());
                }
                Poll::Ready(None) => {
                    this.finish(cx);
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    return match this.poll_late(cx) {
                        Poll::Ready(what) => this.late(what),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.open.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.open.as_ref().map_or(SizeHint::with_exact(0), |open| open.incoming.size_hint())
    }
}

fn too_late() -> Error {
    Error::Timeout("The upstream server took too long to go on.".to_owned())
}

fn broken_off() -> Error {
    Error::BadGateway("The answer broke off at the upstream server.".to_owned())
}
