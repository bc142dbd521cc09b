//! Opening the sockets that are listened on.

use std::{
    fmt, io,
    net::{self, SocketAddr},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net as unix_net,
    },
    path::PathBuf,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::sockopt,
};
use tokio::net::{TcpListener, TcpSocket, UnixListener, lookup_host};

use super::{
    Config, Connections, Listen, Peer,
    connections::Registry,
    socket::Transport,
    unix::{self, SocketFile},
};

/// What waits in the kernel's queue beyond this is for the peer to try again (the kernel has its own limit too).
pub(super) const BACKLOG: u32 = 4096;
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {listen}: no such host: {error}")]
    Resolve { listen: Listen, error: io::Error },
    #[error("cannot listen on {listen}: {error}")]
    Bind { listen: Listen, error: io::Error },
    #[error("cannot listen on unix:{}: another server answers there", path.display())]
    Live { path: PathBuf },
    #[error("cannot listen on unix:{}: there is something that is not a socket", path.display())]
    NotASocket { path: PathBuf },
    #[error("an inherited socket cannot be used: {0}")]
    Inherited(#[source] io::Error),
}

impl Error {
    /// What the system said.
    #[must_use]
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Resolve { error, .. } | Self::Bind { error, .. } | Self::Inherited(error) => Some(error),
            Self::Live { .. } | Self::NotASocket { .. } => None,
        }
    }
}

/// An address that is listened on, as a client would write it: `http://127.0.0.1:8000`, `unix:/run/sconce.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Tcp { address: SocketAddr, tls: bool },
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { address, tls: false } => write!(f, "http://{address}"),
            Self::Tcp { address, tls: true } => write!(f, "https://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A socket that is listened on already: opened by another process, or by this one's predecessor.
#[derive(Debug)]
pub enum Inherited {
    Tcp(net::TcpListener),
    Unix(unix_net::UnixListener),
}

/// A socket that was opened for an address of the configuration and outlived the process that did.
#[derive(Debug)]
pub struct Kept {
    pub listen: Listen,
    pub socket: Inherited,
}

#[derive(Debug)]
enum Socket {
    Tcp { listener: TcpListener, tls: bool },
    Unix(UnixListener),
}

#[derive(Debug)]
struct Listener {
    socket: Socket,
    /// What it was opened for; `None` where another process opened it.
    listen: Option<Listen>,
    /// The Unix socket's file, removed when dropped, unless it belongs to somebody else.
    file: Option<SocketFile>,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp { listener, .. } => listener.as_fd(),
            Socket::Unix(listener) => listener.as_fd(),
        }
    }
}

/// Open sockets, not yet served. Peers can connect and wait from here on; nobody can once this is dropped.
#[derive(Debug)]
pub struct Listeners {
    listeners: Vec<Listener>,
    addresses: Vec<Address>,
    /// Where to look first, so that one busy listener does not starve the others.
    next: usize,
    registry: Arc<Registry>,
}

impl Listeners {
    /// Opens every address of the configuration. A host name is listened on at all its addresses (with port 0: at
    /// its first).
    ///
    /// # Errors
    /// When one of them cannot be opened; those opened before are closed again.
    pub async fn bind(config: &Config) -> Result<Self, Error> {
        Self::resume(config, Vec::new()).await
    }

    /// The same, going on with the sockets of `kept` that are for an address of the configuration still. Whoever
    /// waits in their queues is served. The others are closed.
    ///
    /// # Errors
    /// As for [`bind`](Self::bind).
    pub async fn resume(config: &Config, mut kept: Vec<Kept>) -> Result<Self, Error> {
        let tls = config.tls_certificate.is_some();
        let mut this = Self::empty();
        for listen in &config.listen {
            let own: Vec<_> =
                kept.extract_if(.., |kept| kept.listen == *listen).map(|it| it.socket).collect();
            let failed = |error| Error::Bind { listen: listen.clone(), error };
            match listen {
                Listen::Tcp(host) => {
                    let resolved = lookup_host(host)
                        .await
                        .map_err(|error| Error::Resolve { listen: listen.clone(), error })?;
                    this.bind_tcp(listen, resolved.collect(), own, tls).map_err(failed)?;
                }
                Listen::Unix(path) => {
                    let resumed = own.into_iter().find_map(|socket| match socket {
                        Inherited::Unix(listener) => Some((listener, SocketFile::of(path)?)),
                        Inherited::Tcp(_) => None,
                    });
                    let (listener, file) = match resumed {
                        Some((listener, file)) => {
                            listener.set_nonblocking(true).map_err(failed)?;
                            unix::set_mode(path, &config.unix_socket_mode)?;
                            (listener, file)
                        }
                        None => unix::bind(path, &config.unix_socket_mode)?,
                    };
                    this.push_unix(listener, Some(listen), Some(file)).map_err(failed)?;
                }
            }
        }
        Ok(this)
    }

    /// Takes sockets that another process listens on for us, each with whether it is to speak TLS (TCP ones can).
    ///
    /// # Errors
    /// When one of them is not what it is said to be.
    pub fn from_std(inherited: impl IntoIterator<Item = (Inherited, bool)>) -> Result<Self, Error> {
        let mut this = Self::empty();
        for (socket, tls) in inherited {
            match socket {
                Inherited::Tcp(listener) => {
                    from_std(listener).and_then(|listener| this.push_tcp(listener, None, tls))
                }
                Inherited::Unix(listener) => {
                    listener.set_nonblocking(true).and_then(|()| this.push_unix(listener, None, None))
                }
            }
            .map_err(Error::Inherited)?;
        }
        Ok(this)
    }

    fn empty() -> Self {
        Self { listeners: Vec::new(), addresses: Vec::new(), next: 0, registry: Arc::new(Registry::new()) }
    }

    fn bind_tcp(
        &mut self,
        listen: &Listen,
        mut addresses: Vec<SocketAddr>,
        mut kept: Vec<Inherited>,
        tls: bool,
    ) -> io::Result<()> {
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.first().is_some_and(|address| address.port() == 0) {
            addresses.truncate(1);
        }
        let mut bound = false;
        let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            let opened = match kept.extract_if(.., |socket| is_for(socket, address)).next() {
                Some(Inherited::Tcp(listener)) => from_std(listener),
                _ => listen_tcp(address),
            };
            match opened {
                Ok(listener) => {
                    self.push_tcp(listener, Some(listen), tls)?;
                    bound = true;
                }
                // A name may have an address in a family that this machine does not have.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
                    ) =>
                {
                    failed = error;
                }
                Err(error) => return Err(error),
            }
        }
        if bound { Ok(()) } else { Err(failed) }
    }

    fn push_tcp(&mut self, listener: TcpListener, listen: Option<&Listen>, tls: bool) -> io::Result<()> {
        // Accepted sockets inherit these, which spares a few system calls each.
        sockopt::set_socket_keepalive(&listener, true)?;
        sockopt::set_tcp_keepidle(&listener, KEEPALIVE)?;
        sockopt::set_tcp_keepintvl(&listener, KEEPALIVE / 4)?;
        sockopt::set_tcp_keepcnt(&listener, 4)?;
        self.addresses.push(Address::Tcp { address: listener.local_addr()?, tls });
        let socket = Socket::Tcp { listener, tls };
        self.listeners.push(Listener { socket, listen: listen.cloned(), file: None });
        Ok(())
    }

    fn push_unix(
        &mut self,
        listener: unix_net::UnixListener,
        listen: Option<&Listen>,
        file: Option<SocketFile>,
    ) -> io::Result<()> {
        let path = listener.local_addr()?.as_pathname().map(PathBuf::from).unwrap_or_default();
        let socket = Socket::Unix(UnixListener::from_std(listener)?);
        self.listeners.push(Listener { socket, listen: listen.cloned(), file });
        self.addresses.push(Address::Unix(path));
        Ok(())
    }

    /// What is listened on, in the configuration's order.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The sockets that were opened for an address of the configuration, for somebody who keeps them open when this
    /// process ends (see [`resume`](Self::resume)).
    pub fn opened(&self) -> impl Iterator<Item = (&Listen, BorrowedFd<'_>)> {
        self.listeners.iter().filter_map(|listener| Some((listener.listen.as_ref()?, listener.as_fd())))
    }

    /// Leaves the files of Unix sockets where they are: somebody keeps the sockets open.
    pub fn leave_files(&mut self) {
        for file in self.listeners.iter_mut().filter_map(|listener| listener.file.take()) {
            file.leave();
        }
    }

    /// A live count of the connections that `serve` will hold.
    #[must_use]
    pub fn connections(&self) -> Connections {
        Connections(Arc::clone(&self.registry))
    }

    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub(super) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Transport, Peer)>> {
        let count = self.listeners.len();
        for index in (0..count).map(|i| (self.next + i) % count) {
            let accepted = match &self.listeners[index].socket {
                Socket::Tcp { listener, tls } => listener
                    .poll_accept(cx)
                    .map_ok(|(stream, address)| (Transport::Tcp(stream), Peer::Tcp { address, tls: *tls })),
                Socket::Unix(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| {
                    let peer = Peer::Unix(stream.peer_cred().ok());
                    (Transport::Unix(stream), peer)
                }),
            };
            if accepted.is_ready() {
                self.next = index + 1;
                return accepted;
            }
        }
        Poll::Pending
    }

    /// Whether a peer waits in the kernel's queue.
    pub(super) fn has_waiting(&self) -> bool {
        let mut fds: Vec<_> =
            self.listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)).collect();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }
}

fn from_std(listener: net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Whether a socket listens at `address`; for port 0, at whatever port.
fn is_for(socket: &Inherited, address: SocketAddr) -> bool {
    let Inherited::Tcp(listener) = socket else { return false };
    listener.local_addr().is_ok_and(|at| at.ip() == address.ip() && [0, at.port()].contains(&address.port()))
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
