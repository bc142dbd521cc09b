//! The sockets that are served: systemd's where it has any for us, else those of the configuration.

use std::io::{self, Write};

use super::Error;
use crate::{
    http::{self, Address, Inherited, Listeners},
    systemd::{Activated, Manager, Protocol, Sockets},
};

/// Sockets of socket units take the place of `server.listen`. Without them its addresses are opened, or taken up again
/// where the service manager kept them over a restart, and given to it to keep for the next one.
pub(super) async fn open(
    config: &http::Config,
    sockets: Sockets,
    manager: &Manager,
) -> Result<Listeners, Error> {
    let Sockets { activated, kept, kept_names } = sockets;
    let mut listeners = if activated.is_empty() {
        Listeners::resume(config, kept).await?
    } else {
        drop(kept);
        let tls = config.tls_certificate.is_some();
        let spoken = activated.into_iter().map(|socket| speaks(socket, tls));
        Listeners::from_std(spoken.collect::<Result<Vec<_>, _>>()?)?
    };
    if manager.keeps_sockets() {
        for name in Sockets::obsolete(kept_names, listeners.opened().map(|(listen, _)| listen)) {
            tracing::debug!(name, "a kept socket is not listened on any more");
            manager.forget(&name);
        }
        for (listen, socket) in listeners.opened() {
            manager.keep(listen, socket);
        }
        listeners.leave_files();
    }
    Ok(listeners)
}

/// A socket and whether it speaks TLS.
fn speaks(activated: Activated, tls: bool) -> Result<(Inherited, bool), Error> {
    let is_tcp = matches!(activated.socket, Inherited::Tcp(_));
    let speaks = match activated.protocol() {
        Protocol::Http => false,
        Protocol::AsConfigured => tls && is_tcp,
        Protocol::Https if !is_tcp => {
            return Err(Error::configuration(
                "the socket 'https' from the service manager is a Unix socket; name it 'http', Unix sockets speak no TLS",
            ));
        }
        Protocol::Https if !tls => {
            return Err(Error::configuration(
                "the socket 'https' from the service manager needs server.tls_certificate and server.tls_key",
            ));
        }
        Protocol::Https => true,
    };
    Ok((activated.socket, speaks))
}

/// One line an address on standard output, for whoever asked for port 0, and a warning where the world may come in.
pub(super) fn announce(addresses: &[Address], no_keys: bool) {
    let mut lines = String::new();
    for address in addresses {
        lines.push_str(&format!("listening on {address}\n"));
        tracing::info!(%address, "listening");
        if let Address::Tcp { address, .. } = address
            && no_keys
            && !address.ip().is_loopback()
        {
            tracing::warn!(
                %address,
                "everybody who reaches {address} may call: no API key is set (auth.keys_file)"
            );
        }
    }
    let mut out = io::stdout().lock();
    // Nobody reads it, perhaps; that is no reason not to serve.
    let _ = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
}
