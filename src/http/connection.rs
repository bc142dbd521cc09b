//! One connection's life: TLS, HTTP, and the clock that watches both.

use std::{convert::Infallible, future::poll_fn, net::SocketAddr, pin::pin, sync::Arc};

use bytes::Bytes;
use futures_util::TryFutureExt;
use http::{HeaderValue, Request, Response, Version, header};
use http_body::Body as _;
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::net::unix::UCred;
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use super::{
    body::{Body, BoxError, Outgoing},
    clock::{Clock, End, Limits},
    connections::{Place, Registry},
    patience::Streams,
    phase::{Running, State},
    socket::{Socket, Transport},
    stream::{Channel, Stream},
};

/// A request's head, headers included, is refused with 431 from this size on (HTTP/2 counts by its own rules).
const MAX_HEAD: usize = 64 << 10;

/// Who sent a request, an extension of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Tcp {
        address: SocketAddr,
        tls: bool,
    },
    /// The peer process as the kernel knew it when it connected; absent where it would not say.
    Unix(Option<UCred>),
}

/// What all connections of a server share.
pub(super) struct Room {
    limits: Limits,
    builder: auto::Builder<Streams>,
}

impl Room {
    pub(super) fn new(registry: Arc<Registry>, limits: Limits) -> Self {
        let mut builder = auto::Builder::new(Streams { registry, patience: limits.idle });
        // hyper's own header timeout would also count the rest between requests.
        builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD);
        let ping = limits.idle.min(std::time::Duration::from_secs(20));
        builder.http2().timer(TokioTimer::new()).keep_alive_interval(ping).keep_alive_timeout(ping);
        Self { limits, builder }
    }
}

/// Serves one connection to its end. Fails silently but for the debug log: whatever goes wrong is the peer's doing.
pub(super) async fn run<S, B>(
    room: Arc<Room>,
    place: Place,
    transport: Transport,
    peer: Peer,
    tls: Option<Arc<ServerConfig>>,
    service: S,
) where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let state = &place.state;
    let mut clock = Clock::new(Arc::clone(state), room.limits);
    let mut timer = pin!(clock.timer());
    let socket = Socket::new(transport, Arc::clone(state));
    let channel = match tls {
        None => Channel::Plain(socket),
        Some(config) => {
            let mut handshake = pin!(TlsAcceptor::from(config).accept(socket));
            match poll_fn(|cx| clock.poll(cx, timer.as_mut(), handshake.as_mut(), |_| false)).await {
                End::Done(Ok(stream)) => {
                    state.shook_hands();
                    Channel::Tls(Box::new(stream))
                }
                End::Done(Err(error)) => return tracing::debug!(?peer, %error, "TLS handshake failed"),
                End::Closed(reason) => return tracing::debug!(?peer, reason, "TLS handshake ended"),
            }
        }
    };
    let stream = TokioIo::new(Stream::new(channel, Arc::clone(state)));
    let hook = Hook { service, peer, state: Arc::clone(state), limits: room.limits };
    let mut work =
        pin!(room.builder.serve_connection(stream, service_fn(move |request| hook.answer(request))));
    let end = poll_fn(|cx| {
        clock.poll(cx, timer.as_mut(), work.as_mut(), |work| {
            work.graceful_shutdown();
            true
        })
    });
    match end.await {
        End::Done(Ok(())) => {}
        End::Done(Err(error)) => tracing::debug!(?peer, error, "connection failed"),
        End::Closed(reason) => tracing::debug!(?peer, reason, "connection closed"),
    }
}

/// Stands between hyper and the application, to see requests begin and end.
struct Hook<S> {
    service: S,
    peer: Peer,
    state: Arc<State>,
    limits: Limits,
}

impl<S, B> Hook<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    fn answer(
        &self,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Outgoing<B>>, Infallible>> + use<S, B> {
        let running = Running::begin(&self.state);
        let http1_body = request.version() != Version::HTTP_2 && !request.body().is_end_stream();
        if http1_body {
            self.state.body_begins();
        }
        request.extensions_mut().insert(self.peer);
        let answer =
            self.service.call(request.map(|incoming| Body::new(incoming, &running, self.limits.body)));
        // Not an async block: it would have room for the answer's future twice, as captured and as awaited.
        answer.map_ok(move |mut response| {
            if http1_body && running.state().ends_with_answer() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response.map(|body| Outgoing::new(body, running))
        })
    }
}
