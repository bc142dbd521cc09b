//! The hub over TLS, known by a certificate of the system's, which here is ours.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_rustls::rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::place::{Place, assert_sound};

/// Ends TLS in front of `hub`, for `times` connections; the port, and the certificate in PEM.
fn front(hub: SocketAddr, times: usize) -> (u16, String) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().take(times) {
            let (stream, config) = (stream.unwrap(), Arc::clone(&config));
            // A client that does not trust us leaves.
            thread::spawn(move || drop(pass(stream, config, hub)));
        }
    });
    (port, cert.pem())
}

/// One request and its answer.
fn pass(stream: TcpStream, config: Arc<ServerConfig>, hub: SocketAddr) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut client = StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let mut hub = TcpStream::connect(hub)?;
    hub.write_all(&head)?;
    io::copy(&mut hub, &mut client)?;
    client.conn.send_close_notify();
    client.flush()
}

#[test]
fn the_hub_is_known_by_its_certificate() {
    let place = Place::with_tiny();
    let (port, certificate) = front(place.hub.address, 100);
    fs::write(place.home.path().join("roots.pem"), certificate).unwrap();
    let pull = |roots: &str| {
        let mut command = place.command(&["models", "pull", "org/tiny"]);
        command.env("HF_ENDPOINT", format!("https://localhost:{port}")).env("SSL_CERT_FILE", roots);
        command.env("SSL_CERT_DIR", "none").output().unwrap()
    };
    let output = pull("roots.pem");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_sound(&place.cache(), "org/tiny");
    let output = pull("none.pem");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(69) && told.contains("no root certificates"), "{told}");
}
