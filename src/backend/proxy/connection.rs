//! Requests over one connection. An HTTP/1.1 connection has no task of its own: whoever waits for its answer drives it,
//! so that an answer passes from socket to socket inside one task, and a request that is dropped closes it at once.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};

use super::{
    socket::{Io, Rest},
    waking::Waking,
};

pub(super) type Payload = Full<Bytes>;

pub(super) enum Connection {
    Http1(Box<Http1>),
    /// Driven by a task; requests share it.
    Http2(http2::SendRequest<Payload>),
}

pub(super) struct Http1 {
    sender: http1::SendRequest<Payload>,
    driver: http1::Connection<Io, Payload>,
    rest: Rest,
    ended: bool,
    waking: Waking,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// Nothing of the request was written: here it is again.
    Unsent(Box<Request<Payload>>, hyper::Error),
    /// It was sent, at least in part.
    Sent(hyper::Error),
}

impl From<TrySendError<Request<Payload>>> for Lost {
    fn from(mut error: TrySendError<Request<Payload>>) -> Self {
        match error.take_message() {
            Some(request) => Self::Unsent(Box::new(request), error.into_error()),
            None => Self::Sent(error.into_error()),
        }
    }
}

impl Connection {
    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&mut self, request: Request<Payload>) -> Result<Response<Incoming>, Lost> {
        match self {
            Self::Http1(connection) => connection.send(request).await,
            Self::Http2(sender) => Ok(sender.try_send_request(request).await?),
        }
    }

    /// The next piece of the answer's body, `incoming`.
    pub(super) fn poll_body(
        &mut self,
        mut incoming: Pin<&mut Incoming>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        use http_body::Body as _;
        let Self::Http1(connection) = self else { return incoming.poll_frame(cx) };
        let Http1 { driver, ended, waking, .. } = &mut **connection;
        waking.poll(cx, |turn| {
            let ready = incoming.as_mut().poll_frame(&mut turn.cx);
            if ready.is_ready() {
                return ready;
            }
            turn.goes_on();
            drive(driver, ended, &mut turn.cx);
            incoming.as_mut().poll_frame(&mut turn.cx)
        })
    }
}

impl Http1 {
    pub(super) fn new(
        sender: http1::SendRequest<Payload>,
        driver: http1::Connection<Io, Payload>,
        rest: Rest,
    ) -> Self {
        Self { sender, driver, rest, ended: false, waking: Waking::new() }
    }

    async fn send(&mut self, request: Request<Payload>) -> Result<Response<Incoming>, Lost> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let (driver, ended, waking) = (&mut self.driver, &mut self.ended, &self.waking);
        let answer = poll_fn(|cx| {
            waking.poll(cx, |turn| {
                let ready = answer.as_mut().poll(&mut turn.cx);
                if ready.is_ready() {
                    return ready;
                }
                turn.goes_on();
                drive(driver, ended, &mut turn.cx);
                answer.as_mut().poll(&mut turn.cx)
            })
        });
        Ok(answer.await?)
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        let Self { driver, ended, waking, .. } = self;
        // Ready, because it need not be driven on by itself.
        let _ = waking.poll(cx, |turn| {
            drive(driver, ended, &mut turn.cx);
            Poll::Ready(())
        });
    }

    /// Whether the next request can go over it, now that an answer has been read to its end.
    pub(super) fn is_reusable(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        !self.ended && self.sender.is_ready()
    }

    /// Whether the peer still holds it open, as far as its packets have come here.
    pub(super) async fn is_open(&mut self) -> bool {
        self.rest.look(true);
        poll_fn(|cx| {
            self.drive(cx);
            Poll::Ready(())
        })
        .await;
        self.rest.look(false);
        !self.ended && self.sender.is_ready()
    }
}

fn drive(driver: &mut http1::Connection<Io, Payload>, ended: &mut bool, cx: &mut Context<'_>) {
    // How it ended is told to whoever waits for an answer over it.
    if !*ended && Pin::new(driver).poll(cx).is_ready() {
        *ended = true;
    }
}

/// What hyper, or the system below it, says in an error: words for the log.
pub(super) fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
