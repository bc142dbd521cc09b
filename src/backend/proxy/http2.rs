//! An HTTP/2 connection to an upstream: a task drives it, and requests share it, as many as the peer takes at one time.

use std::{
    error::Error,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{Connection, SendRequest},
};
use hyper_util::rt::TokioExecutor;
use tokio::task::AbortHandle;

use super::{
    connection::{Lost, Payload},
    socket::Io,
};

type Driver = Connection<Io, Payload, TokioExecutor>;

#[derive(Clone)]
pub(super) struct Http2(Arc<Shared>);

struct Shared {
    sender: SendRequest<Payload>,
    driver: Driven,
    task: AbortHandle,
    streams: AtomicUsize,
}

/// Gone at its end, so that requests that wait there come back.
#[derive(Clone)]
struct Driven(Arc<Mutex<Option<Box<Driver>>>>);

impl Driven {
    fn lock(&self) -> MutexGuard<'_, Option<Box<Driver>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one request, given back when dropped.
pub(super) struct Stream(Http2);

impl Http2 {
    /// Drives the connection until it ends, or nobody has it any more. With the place of the request that it was made for.
    pub(super) fn start(sender: SendRequest<Payload>, driver: Driver) -> Stream {
        let driver = Driven(Arc::new(Mutex::new(Some(Box::new(driver)))));
        let driven = driver.clone();
        let task = tokio::spawn(poll_fn(move |cx| {
            let mut place = driven.lock();
            // Taken out, so that a panic in it ends the connection too.
            let Some(mut driver) = place.take() else { return Poll::Ready(()) };
            let polled = Pin::new(&mut driver).poll(cx).map(|_| ());
            if polled.is_pending() {
                *place = Some(driver);
            }
            polled
        }));
        let (task, streams) = (task.abort_handle(), AtomicUsize::new(1));
        Stream(Self(Arc::new(Shared { sender, driver, task, streams })))
    }

    /// A place for one more request, unless the peer has as many as it takes: the request would wait for another one's end.
    pub(super) fn stream(&self) -> Option<Stream> {
        let Shared { driver, streams, .. } = &*self.0;
        let most = driver.lock().as_ref()?.current_max_send_streams();
        let taken = streams.fetch_update(Relaxed, Relaxed, |streams| (streams < most).then_some(streams + 1));
        taken.is_ok().then(|| Stream(self.clone()))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.sender.is_closed()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.0.streams.load(Relaxed) == 0
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // While a request waits for a place, hyper does not see that nobody waits for it any more.
        self.task.abort();
    }
}

impl Stream {
    pub(super) fn connection(&self) -> &Http2 {
        &self.0
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&self, request: Request<Payload>) -> Result<Response<Incoming>, Lost> {
        let copy = request.clone();
        let mut sender = self.0.0.sender.clone();
        sender.try_send_request(request).await.map_err(|error| match Lost::from(error) {
            Lost::Sent(error) if is_unprocessed(&error) => Lost::Unsent(Box::new(copy), error),
            lost => lost,
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.0.streams.fetch_sub(1, Relaxed);
    }
}

/// Whether the peer did nothing with the request: it says so (RFC 9113, section 8.7), or has not got its body. Of a GOAWAY
/// h2 tells those streams alone that come after the last one it names.
fn is_unprocessed(error: &hyper::Error) -> bool {
    let said = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    let said = said.is_some_and(|error| {
        error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    });
    // hyper's word for a request that still waited for its stream when the connection ended.
    said || error.is_user()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::BodyExt;
    use tokio::{net::TcpListener, time::timeout};

    use super::{
        super::{connection::Connection, dial::Dialer},
        *,
    };

    /// Answers with more than a stream's window holds.
    async fn flood(listener: TcpListener) {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut answer))) = connection.accept().await {
            let mut body = answer.send_response(Response::new(()), false).unwrap();
            body.send_data(Bytes::from(vec![b'x'; 300 << 10]), true).unwrap();
        }
    }

    #[tokio::test]
    async fn an_answer_is_read_beside_many_that_are_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let server = tokio::spawn(flood(listener));
        let dialer = Dialer::new(&url, None, true, Duration::from_secs(10)).unwrap();
        let Connection::Http2(stream) = dialer.connect().await.unwrap() else { panic!() };
        let ask = async || {
            let mut request = Request::new(Payload::default());
            *request.uri_mut() = "http://x/".parse().unwrap();
            timeout(Duration::from_secs(10), stream.send(request)).await.unwrap().unwrap().into_body()
        };
        let mut unread = Vec::new();
        for _ in 0..100 {
            unread.push(ask().await);
        }
        let read = timeout(Duration::from_secs(10), ask().await.collect()).await;
        assert_eq!(read.expect("an answer in time").unwrap().to_bytes().len(), 300 << 10);
        server.abort();
    }
}
