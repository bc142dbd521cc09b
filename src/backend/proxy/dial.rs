//! New connections to an upstream.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

use super::{
    base_url::{BaseUrl, Place},
    connection::{Connection, Http1},
    http2::Http2,
    socket::{Rest, Socket, Stream},
};

/// The head of an answer may be as large as that of a request to us.
const LARGEST_HEAD: usize = 64 << 10;
/// Bytes of one HTTP/2 answer that may lie here while the client does not take them.
const WINDOW: u32 = 256 << 10;
/// Of all answers of a connection together: clients that do not take theirs must not hold up the others'.
const WHOLE_WINDOW: u32 = i32::MAX as u32;

/// An HTTP/2 connection is asked after this time whether it still lives: many requests depend on it.
const QUIET: Duration = Duration::from_secs(20);

/// How to get there.
pub(super) struct Dialer {
    place: Target,
    http2: bool,
    timeout: Duration,
}

enum Target {
    Tcp { host: String, port: u16, tls: Option<(TlsConnector, ServerName<'static>)> },
    Unix(PathBuf),
}

impl Dialer {
    /// # Errors
    /// When the host cannot be the name of a TLS server.
    pub(super) fn new(
        url: &BaseUrl,
        tls: Option<Arc<ClientConfig>>,
        http2: bool,
        timeout: Duration,
    ) -> Result<Self, String> {
        let place = match &url.place {
            Place::Unix(path) => Target::Unix(path.clone()),
            Place::Tcp { host, port, .. } => {
                let named = |config| {
                    let name =
                        ServerName::try_from(host.clone()).map_err(|_| "no TLS server has such a name")?;
                    Ok::<_, &str>((TlsConnector::from(config), name))
                };
                Target::Tcp { host: host.clone(), port: *port, tls: tls.map(named).transpose()? }
            }
        };
        Ok(Self { place, http2, timeout })
    }

    /// # Errors
    /// `TimedOut` when it took too long; else what the system, TLS or HTTP/2 had against it.
    pub(super) async fn connect(&self) -> io::Result<Connection> {
        match timeout(self.timeout, self.handshake()).await {
            Ok(made) => made,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn handshake(&self) -> io::Result<Connection> {
        let mut http2 = self.http2;
        let rest = Rest::default();
        let stream: Box<dyn Stream> = match &self.place {
            Target::Unix(path) => Box::new(Socket::new(UnixStream::connect(path).await?, rest.clone())),
            Target::Tcp { host, port, tls } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                let stream = Socket::new(stream, rest.clone());
                match tls {
                    None => Box::new(stream),
                    Some((connector, name)) => {
                        let stream = connector.connect(name.clone(), stream).await?;
                        http2 &= stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        Box::new(stream)
                    }
                }
            }
        };
        let io = TokioIo::new(stream);
        if http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(QUIET)
                .max_header_list_size(LARGEST_HEAD as u32)
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WHOLE_WINDOW)
                // Until the peer has said how many it takes.
                .initial_max_send_streams(1);
            let (sender, connection) = builder.handshake(io).await.map_err(io::Error::other)?;
            return Ok(Connection::Http2(Http2::start(sender, connection)));
        }
        let (sender, connection) = http1::Builder::new()
            .max_header_size(LARGEST_HEAD)
            .handshake(io)
            .await
            .map_err(io::Error::other)?;
        Ok(Connection::Http1(Box::new(Http1::new(sender, connection, rest))))
    }
}
