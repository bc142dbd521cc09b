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
    client::conn::{TrySendError, http1},
};

use super::{
    http2,
    socket::{Io, Rest},
    waking::Waking,
};

pub(super) type Payload = Full<Bytes>;

pub(super) enum Connection {
    Http1(Box<Http1>),
    Http2(http2::Stream),
}

pub(super) struct Http1 {
    sender: http1::SendRequest<Payload>,
    driver: Driver,
    rest: Rest,
    waking: Waking,
}

/// Gone at its end: a request that is queued when the peer closes comes back only as the queue is dropped.
type Driver = Option<http1::Connection<Io, Payload>>;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// The upstream did nothing with the request, mostly because nothing of it was written: here it is again.
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
            Self::Http2(stream) => stream.send(request).await,
        }
    }

    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// The next piece of the answer's body, `incoming`.
    pub(super) fn poll_body(
        &mut self,
        mut incoming: Pin<&mut Incoming>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        use http_body::Body as _;
        let Self::Http1(connection) = self else { return incoming.poll_frame(cx) };
        let Http1 { driver, waking, .. } = &mut **connection;
        waking.poll(cx, |turn| {
            let ready = incoming.as_mut().poll_frame(&mut turn.cx);
            if ready.is_ready() {
                return ready;
            }
            turn.goes_on();
            drive(driver, &mut turn.cx);
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
        Self { sender, driver: Some(driver), rest, waking: Waking::new() }
    }

    async fn send(&mut self, request: Request<Payload>) -> Result<Response<Incoming>, Lost> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let (driver, waking) = (&mut self.driver, &self.waking);
        let answer = poll_fn(|cx| {
            waking.poll(cx, |turn| {
                let ready = answer.as_mut().poll(&mut turn.cx);
                if ready.is_ready() {
                    return ready;
                }
                turn.goes_on();
                drive(driver, &mut turn.cx);
                answer.as_mut().poll(&mut turn.cx)
            })
        });
        Ok(answer.await?)
    }

    /// Whether the next request can go over it, now that an answer has been read to its end.
    pub(super) fn is_reusable(&mut self, cx: &mut Context<'_>) -> bool {
        let Self { driver, waking, .. } = self;
        // Ready, because it need not be driven on by itself.
        let _ = waking.poll(cx, |turn| {
            drive(driver, &mut turn.cx);
            Poll::Ready(())
        });
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Whether the peer still holds it open, as far as its packets have come here.
    pub(super) async fn is_open(&mut self) -> bool {
        self.rest.look(true);
        let is_open = poll_fn(|cx| Poll::Ready(self.is_reusable(cx))).await;
        self.rest.look(false);
        is_open
    }
}

fn drive(driver: &mut Driver, cx: &mut Context<'_>) {
    // How it ended is told to whoever waits for an answer over it.
    if driver.as_mut().is_some_and(|driver| Pin::new(driver).poll(cx).is_ready()) {
        *driver = None;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;
    use hyper_util::rt::TokioIo;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::timeout,
    };

    use super::{super::socket::Stream, *};

    async fn connected() -> (Http1, DuplexStream) {
        let (near, far) = duplex(4096);
        let near: Box<dyn Stream> = Box::new(near);
        let (sender, driver) = http1::handshake(TokioIo::new(near)).await.unwrap();
        (Http1::new(sender, driver, Rest::default()), far)
    }

    async fn sent(connection: &mut Http1) -> Result<Response<Incoming>, Lost> {
        let request = Request::new(Payload::from("a question"));
        timeout(Duration::from_secs(10), connection.send(request)).await.expect("an answer or an error")
    }

    #[tokio::test]
    async fn a_request_comes_back_from_a_connection_that_closes_before_it_is_written() {
        let (mut connection, mut far) = connected().await;
        let peer = async {
            far.read_u8().await.unwrap();
            far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        };
        let (first, ()) = tokio::join!(sent(&mut connection), peer);
        assert_eq!(first.unwrap().status(), 204);
        assert!(connection.is_open().await);
        drop(far);
        let Err(Lost::Unsent(request, _)) = sent(&mut connection).await else { panic!() };
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "a question");
        assert!(!connection.is_open().await);
    }

    #[tokio::test]
    async fn a_request_that_was_written_is_lost_with_its_connection() {
        let (mut connection, mut far) = connected().await;
        let peer = async move { far.read_u8().await.unwrap() };
        let (sent, _) = tokio::join!(sent(&mut connection), peer);
        assert!(matches!(sent, Err(Lost::Sent(_))));
        assert!(!connection.is_open().await);
    }

    #[tokio::test]
    async fn an_answer_that_ends_with_its_connection_is_whole() {
        let (mut connection, mut far) = connected().await;
        let peer = async move {
            far.read_u8().await.unwrap();
            far.write_all(b"HTTP/1.1 200 OK\r\n\r\nthe answer").await.unwrap();
        };
        let (sent, ()) = tokio::join!(sent(&mut connection), peer);
        let mut incoming = sent.unwrap().into_body();
        let mut connection = Connection::Http1(Box::new(connection));
        let mut text = Vec::new();
        while let Some(frame) =
            poll_fn(|cx| connection.poll_body(Pin::new(&mut incoming), cx)).await.transpose().unwrap()
        {
            text.extend_from_slice(frame.data_ref().unwrap());
        }
        assert_eq!(text, b"the answer");
    }
}
