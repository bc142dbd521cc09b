//! Sockets from the service manager: those of socket units, and our own from before a restart.

use std::{collections::BTreeSet, env, io};

use listenfd::ListenFd;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use rustix::net::sockopt::socket_acceptconn;

use crate::http::{Inherited, Kept, Listen};

/// Why a socket cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the socket '{name}' from the service manager is no stream socket, TCP or Unix: {error}")]
    Kind { name: String, error: io::Error },
    #[error(
        "the socket '{name}' from the service manager does not listen: its unit needs ListenStream= and Accept=no"
    )]
    Accepted { name: String },
}

/// What a socket of a socket unit speaks, by its `FileDescriptorName=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `http`: plain, whatever is configured.
    Http,
    /// `https`: TLS.
    Https,
    /// Any other name: what an address of `server.listen` would speak.
    AsConfigured,
}

/// A socket of a socket unit.
#[derive(Debug)]
pub struct Activated {
    pub name: String,
    pub socket: Inherited,
}

impl Activated {
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match self.name.as_str() {
            "http" => Protocol::Http,
            "https" => Protocol::Https,
            _ => Protocol::AsConfigured,
        }
    }
}

/// All that the service manager handed over.
#[derive(Debug, Default)]
pub struct Sockets {
    pub activated: Vec<Activated>,
    /// Sockets of this service's earlier runs.
    pub kept: Vec<Kept>,
    /// The names of all that is kept, what cannot be used any more included.
    pub kept_names: BTreeSet<String>,
}

impl Sockets {
    /// Takes what the environment says is there, once. Changes the environment: to be called before threads are
    /// started.
    ///
    /// # Errors
    /// A socket of a socket unit that cannot be listened on.
    pub fn take() -> Result<Self, Error> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut descriptors = ListenFd::from_env();
        let mut this = Self::default();
        let names = names.split(':').chain(std::iter::repeat("unknown"));
        for (index, name) in (0..descriptors.len()).zip(names) {
            let socket = take(&mut descriptors, index, name);
            match (name.strip_prefix(KEPT), socket) {
                (None, socket) => this.activated.push(Activated { name: name.to_owned(), socket: socket? }),
                (Some(listen), socket) => {
                    this.kept_names.insert(name.to_owned());
                    let listen = percent_decode_str(listen).decode_utf8().ok().and_then(|it| it.parse().ok());
                    if let (Some(listen), Ok(socket)) = (listen, socket) {
                        this.kept.push(Kept { listen, socket });
                    }
                }
            }
        }
        Ok(this)
    }
}

fn take(descriptors: &mut ListenFd, index: usize, name: &str) -> Result<Inherited, Error> {
    let none = || io::Error::from(io::ErrorKind::NotFound);
    let kind = |error| Error::Kind { name: name.to_owned(), error };
    let (socket, listens) = match descriptors.take_tcp_listener(index) {
        Ok(socket) => {
            let socket = socket.ok_or_else(none).map_err(kind)?;
            let listens = socket_acceptconn(&socket);
            (Inherited::Tcp(socket), listens)
        }
        Err(_) => {
            let socket = descriptors.take_unix_listener(index).and_then(|it| it.ok_or_else(none));
            let socket = socket.map_err(kind)?;
            let listens = socket_acceptconn(&socket);
            (Inherited::Unix(socket), listens)
        }
    };
    match listens {
        Ok(true) => Ok(socket),
        Ok(false) => Err(Error::Accepted { name: name.to_owned() }),
        Err(error) => Err(kind(error.into())),
    }
}

/// What the names of sockets that we gave to be kept begin with. The address follows; a name may not have a colon in
/// it (systemd.service(5), `FileDescriptorStoreMax=`, and sd_notify(3), `FDNAME=`).
const KEPT: &str = "sconce-listen-";
const NOT_IN_NAMES: &AsciiSet = &CONTROLS.add(b':').add(b'%');

/// The name under which a socket for this address is kept.
pub(super) fn name_of(listen: &Listen) -> String {
    format!("{KEPT}{}", utf8_percent_encode(&listen.to_string(), NOT_IN_NAMES))
}

impl Sockets {
    /// The names of kept sockets that are for none of these addresses.
    pub fn obsolete<'a>(
        names: BTreeSet<String>,
        listened: impl Iterator<Item = &'a Listen>,
    ) -> BTreeSet<String> {
        let used: BTreeSet<String> = listened.map(name_of).collect();
        &names - &used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_sockets_name_has_no_colon_and_leads_back_to_its_address() {
        for text in ["127.0.0.1:8000", "[::1%lo]:80", "unix:/run/a b/50%.sock"] {
            let listen: Listen = text.parse().unwrap();
            let name = name_of(&listen);
            assert!(!name.contains(':'), "{name}");
            let address = percent_decode_str(name.strip_prefix(KEPT).unwrap()).decode_utf8().unwrap();
            assert_eq!(address.parse(), Ok(listen));
        }
    }

    #[test]
    fn a_name_decides_what_is_spoken() {
        let listener = || Inherited::Tcp(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let named = |name: &str| Activated { name: name.to_owned(), socket: listener() }.protocol();
        assert_eq!(named("http"), Protocol::Http);
        assert_eq!(named("https"), Protocol::Https);
        assert_eq!(named("sconce.socket"), Protocol::AsConfigured);
    }
}
