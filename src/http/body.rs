//! Bodies: of requests, which must arrive in time; of responses, which keep the connection busy until their end.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{patience, phase::Running};

/// An error in a response's body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body. It ends in an error of the kind `TimedOut` when it has not arrived whole within `body_timeout`
/// after the headers, and in one of another kind when the peer leaves or breaks the protocol.
///
/// The connection is closed after the response unless the body was read to its end.
#[derive(Debug)]
pub struct Body {
    /// Gone only while this is dropped.
    incoming: Option<Incoming>,
    /// Gone when the body has been read to its end.
    arrival: Option<Arrival>,
}

#[derive(Debug)]
struct Arrival {
    running: Running,
    deadline: Instant,
    /// Made only when a body is waited for; most come along with their headers.
    timer: Option<Pin<Box<Sleep>>>,
    late: bool,
}

impl Body {
    pub(super) fn new(incoming: Incoming, running: &Running, timeout: Duration) -> Self {
        let arrival = (!http_body::Body::is_end_stream(&incoming)).then(|| Arrival {
            running: running.clone(),
            deadline: Instant::now() + timeout,
            timer: None,
            late: false,
        });
        Self { incoming: Some(incoming), arrival }
    }
}

impl Arrival {
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if !self.late {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(self.deadline)));
            ready!(timer.as_mut().poll(cx));
            self.late = true;
            self.running.state().gave_up_body(None);
        }
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the request's body did not arrive in time"))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if let Some(arrival) = this.arrival.as_mut().filter(|arrival| arrival.late) {
            return arrival.poll_late(cx).map(|error| Some(Err(error)));
        }
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, error))))
            }
            Poll::Ready(frame) => {
                if frame.is_none() || incoming.is_end_stream() {
                    this.arrival = None;
                }
                Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
            }
            Poll::Pending => match &mut this.arrival {
                Some(arrival) => arrival.poll_late(cx).map(|error| Some(Err(error))),
                None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(arrival) = &self.arrival
            && !arrival.late
            && !arrival.running.state().is_http2()
        {
            arrival.running.state().gave_up_body(self.incoming.take());
        }
    }
}

/// Whether all of a body that nobody wanted is here already, as it mostly is when it is small. Then the connection
/// need not end for it.
pub(super) fn is_here(mut unwanted: Incoming) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    // hyper holds two frames ready at most.
    for _ in 0..4 {
        match http_body::Body::poll_frame(Pin::new(&mut unwanted), &mut cx) {
            Poll::Ready(None) => return true,
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(_))) | Poll::Pending => return false,
        }
    }
    false
}

pin_project! {
    /// A response's body on its way out.
    pub(super) struct Outgoing<B> {
        #[pin]
        body: B,
        running: Running,
    }
}

impl<B> Outgoing<B> {
    pub(super) fn new(body: B, running: Running) -> Self {
        Self { body, running }
    }
}

impl<B> http_body::Body for Outgoing<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = self.project().body.poll_frame(cx);
        patience::handed_frame(matches!(frame, Poll::Ready(Some(Ok(_)))));
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
