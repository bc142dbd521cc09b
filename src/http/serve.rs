//! The server's run: accept, drain, cut, done.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::service::Service;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    Config, Listeners, Peer,
    accept::Acceptor,
    body::{Body, BoxError},
    clock::Limits,
    connection::{self, Room},
    connections::Registry,
    phase::Order,
    socket::Transport,
    tls,
};

/// What is given after `cut` for responses' last bytes to leave.
const FLUSH: Duration = Duration::from_secs(1);
/// What dropped connections may take to be gone. Only a handler that blocks its thread takes so long.
const GONE: Duration = Duration::from_secs(1);

/// When to stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// No new connections; those at rest close, running requests finish.
    pub draining: CancellationToken,
    /// The drain has lasted long enough: one second more for what is being written, then connections are dropped.
    pub cut: CancellationToken,
}

/// Serves until `shutdown`, and returns when no connection is left. `service` is cloned for each connection; a
/// request it runs is dropped as soon as its client has left. `tls` is for the listeners that are to speak it.
///
/// Dropping the returned future drops all connections.
pub async fn serve<S, B>(
    listeners: Listeners,
    config: &Config,
    tls: Option<Arc<tls::Reloadable>>,
    service: S,
    shutdown: Shutdown,
) where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let registry = Arc::clone(listeners.registry());
    let _no_leak = CutWhenDropped(Arc::clone(&registry));
    let room = Arc::new(Room::new(Arc::clone(&registry), Limits::from(config)));
    let mut acceptor = Acceptor::new(listeners, config.max_connections);
    loop {
        let (transport, mut peer, permit) = tokio::select! {
            biased;
            () = shutdown.draining.cancelled() => break,
            () = shutdown.cut.cancelled() => break,
            () = registry.probe.notified() => {
                registry.answers.fetch_add(1, Relaxed);
                continue;
            }
            accepted = acceptor.next() => accepted,
        };
        let mut server_config = None;
        if let (Transport::Tcp(stream), Peer::Tcp { tls: is_tls, .. }) = (&transport, &mut peer) {
            // Fails only when the peer has already gone, which will show.
            let _ = stream.set_nodelay(true);
            server_config = tls.as_ref().filter(|_| *is_tls).map(|tls| tls.current());
            *is_tls = server_config.is_some();
        }
        let place = registry.enter(permit);
        let connection =
            connection::run(Arc::clone(&room), place, transport, peer, server_config, service.clone());
        tokio::spawn(connection);
    }
    drop(acceptor);

    registry.order(Order::Drain);
    tokio::select! {
        () = registry.empty() => return,
        () = shutdown.cut.cancelled() => {}
    }
    if timeout(FLUSH, registry.empty()).await.is_err() {
        tracing::debug!("cutting off the connections that are left");
        registry.order(Order::Cut);
        if timeout(GONE, registry.empty()).await.is_err() {
            tracing::warn!("a request's handler blocks its thread, not waiting for it");
        }
    }
}

struct CutWhenDropped(Arc<Registry>);

impl Drop for CutWhenDropped {
    fn drop(&mut self) {
        self.0.order(Order::Cut);
    }
}
