//! TLS: both protocols by ALPN, certificates replaced under load, peers that are not TLS at all.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod http_support;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http_support::{LONG, Server, get, h2, millis, read_to_end, send, until};
use sconce::http::{
    Config, Inherited, Listeners,
    tls::{Error, Reloadable},
};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName},
    },
};

struct Files {
    directory: TempDir,
    trusted: Vec<CertificateDer<'static>>,
}

impl Files {
    fn new() -> Self {
        let mut this = Self { directory: tempfile::tempdir().unwrap(), trusted: Vec::new() };
        this.renew();
        this
    }

    fn certificate(&self) -> PathBuf {
        self.directory.path().join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    /// Another certificate and key in the same files.
    fn renew(&mut self) {
        let new = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(self.certificate(), new.cert.pem()).unwrap();
        std::fs::write(self.key(), new.signing_key.serialize_pem()).unwrap();
        self.trusted.push(new.cert.der().clone());
    }

    fn load(&self) -> Result<Reloadable, Error> {
        Reloadable::load(self.certificate(), self.key())
    }

    fn connector(&self, alpn: &[&str]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        for certificate in &self.trusted {
            roots.add(certificate.clone()).unwrap();
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        // A resumed session would show no certificate.
        config.resumption = tokio_rustls::rustls::client::Resumption::disabled();
        TlsConnector::from(Arc::new(config))
    }
}

async fn connect(server: &Server, connector: &TlsConnector) -> TlsStream<TcpStream> {
    let stream = server.connect().await;
    let name = ServerName::try_from("localhost").unwrap();
    timeout(LONG, connector.connect(name, stream)).await.unwrap().unwrap()
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn alpn_chooses_the_protocol() {
    let files = Files::new();
    let server = Server::start_tls(Some(Arc::new(files.load().unwrap())), |_| {}).await;
    assert!(server.addresses[0].to_string().starts_with("https://127.0.0.1:"));

    for offered in [&["http/1.1"][..], &[]] {
        let mut h1 = connect(&server, &files.connector(offered)).await;
        assert_eq!(h1.get_ref().1.alpn_protocol(), offered.first().map(|name| name.as_bytes()));
        assert!(get(&mut h1, "/peer").await.ends_with("tls: true }"));
        assert!(get(&mut h1, "/").await.ends_with("hello"));
    }
    let stream = connect(&server, &files.connector(&["h2", "http/1.1"])).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut h2 = h2::Client::start(stream).await;
    h2.get(1, "/").await;
    assert_eq!(h2.body(1).await, b"hello");
    h2.get(3, "/quiet").await;
    until("the request", || server.app.alive() == 1).await;
    drop(h2);
    until("the request to be dropped", || server.app.alive() == 0).await;
    server.wait_for_connections(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_to_new_connections_and_no_request_fails() {
    let mut files = Files::new();
    let tls = Arc::new(files.load().unwrap());
    let server = Arc::new(Server::start_tls(Some(Arc::clone(&tls)), |_| {}).await);
    let before = files.trusted[0].clone();
    let mut old = connect(&server, &files.connector(&[])).await;
    assert_eq!(shown(&old), before);
    files.renew();
    let after = files.trusted[1].clone();

    let stop = Arc::new(AtomicBool::new(false));
    let requests = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (server, stop, requests) = (Arc::clone(&server), Arc::clone(&stop), Arc::clone(&requests));
            let connector = files.connector(&[]);
            tokio::spawn(async move {
                while !stop.load(SeqCst) {
                    let mut stream = connect(&server, &connector).await;
                    for _ in 0..3 {
                        assert!(get(&mut stream, "/").await.ends_with("hello"));
                        requests.fetch_add(1, SeqCst);
                    }
                }
            })
        })
        .collect();
    until("some load", || requests.load(SeqCst) > 20).await;
    tls.adopt(&files.load().unwrap());
    let so_far = requests.load(SeqCst);
    until("more load", || requests.load(SeqCst) > so_far + 20).await;
    stop.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }

    assert!(get(&mut old, "/").await.ends_with("hello"));
    assert_eq!(shown(&connect(&server, &files.connector(&[])).await), after);
    drop(old);
    Arc::into_inner(server).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_reload_keeps_what_was_there() {
    let mut files = Files::new();
    let tls = Arc::new(files.load().unwrap());
    let server = Server::start_tls(Some(Arc::clone(&tls)), |_| {}).await;
    let certificate = std::fs::read(files.certificate()).unwrap();
    files.trusted.truncate(1);
    files.renew();
    std::fs::write(files.certificate(), certificate).unwrap();
    let error = files.load().unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    let mut client = connect(&server, &files.connector(&[])).await;
    assert_eq!(shown(&client), files.trusted[0]);
    assert!(get(&mut client, "/").await.ends_with("hello"));
    drop(client);
    server.stop().await;
}

#[test]
fn errors_name_the_file_and_what_is_wrong() {
    let check = |damage: &dyn Fn(&Files), file: fn(&Files) -> PathBuf, what: &str| {
        let files = Files::new();
        damage(&files);
        let error = files.load().unwrap_err().to_string();
        assert!(error.starts_with(&file(&files).display().to_string()), "{error}");
        assert!(error.contains(what), "{error}");
        assert!(!error.contains("c2VjcmV0"), "{error}");
    };
    let write = |path: PathBuf, text: &str| std::fs::write(path, text).unwrap();
    let secret = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0!\n-----END PRIVATE KEY-----\n";

    check(
        &|f| std::fs::remove_file(f.certificate()).unwrap(),
        Files::certificate,
        "cannot be read: No such file",
    );
    check(&|f| std::fs::remove_file(f.key()).unwrap(), Files::key, "cannot be read: No such file");
    check(&|f| write(f.certificate(), "nothing"), Files::certificate, "holds no certificate");
    check(&|f| write(f.key(), "nothing"), Files::key, "holds no private key");
    check(&|f| write(f.key(), secret), Files::key, "is not base64");
    check(&|f| write(f.key(), &secret.replace('!', "")), Files::key, "is of a kind that is not supported");
    check(
        &|f| write(f.certificate(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        Files::certificate,
        "the certificate cannot be used",
    );
    check(
        &|f| write(f.certificate(), "-----BEGIN CERTIFICATE-----\nAAAA\n"),
        Files::certificate,
        "has no end",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_fails_its_own_connection_only() {
    let files = Files::new();
    let server = Server::start_tls(Some(Arc::new(files.load().unwrap())), |_| {}).await;
    let mut plain = server.connect().await;
    send(&mut plain, "GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    let (bytes, _) = read_to_end(&mut plain).await;
    assert!(!bytes.starts_with(b"HTTP"));
    assert_eq!(server.app.requests(), 0);
    assert!(get(&mut connect(&server, &files.connector(&[])).await, "/").await.ends_with("hello"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handshake_is_under_the_first_byte_timeout() {
    let files = Files::new();
    let server = Server::start_tls(Some(Arc::new(files.load().unwrap())), |config| {
        config.first_byte_timeout = millis(400);
    })
    .await;
    let client = server.connect().await;
    let (mut read, mut write) = client.into_split();
    let drip = tokio::spawn(async move {
        // The beginning of a handshake record that says it is long.
        for byte in [0x16, 3, 1, 1, 0].into_iter().chain(std::iter::repeat_n(1, 200)) {
            if write.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let (_, took) = read_to_end(&mut read).await;
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
    timeout(LONG, drip).await.unwrap().unwrap();

    let mut silent = connect(&server, &files.connector(&[])).await;
    let (_, took) = read_to_end(&mut silent).await;
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
    server.wait_for_connections(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    const SIZE: usize = 20_000_000;
    let files = Files::new();
    let server = Server::start_tls(Some(Arc::new(files.load().unwrap())), |_| {}).await;
    let mut client = connect(&server, &files.connector(&[])).await;
    send(&mut client, &format!("POST /refuse HTTP/1.1\r\nhost: test\r\ncontent-length: {SIZE}\r\n\r\n"))
        .await;
    let chunk = vec![b'x'; 1_000_000];
    for _ in 0..SIZE / chunk.len() {
        client.write_all(&chunk).await.unwrap();
    }
    assert!(http_support::response(&mut client).await.starts_with("HTTP/1.1 413 "));
    drop(client);
    server.wait_for_connections(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_peer_that_does_not_read_is_closed() {
    let files = Files::new();
    let server = Server::start_tls(Some(Arc::new(files.load().unwrap())), |config| {
        config.idle_timeout = millis(400);
    })
    .await;
    let mut client = connect(&server, &files.connector(&[])).await;
    send(&mut client, "GET /flood HTTP/1.1\r\nhost: test\r\n\r\n").await;
    until("the request", || server.app.requests() == 1).await;
    server.wait_for_connections(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_inherited_sockets_each_speaks_what_it_is_meant_to() {
    let files = Files::new();
    let [secure, plain] = [true, false].map(|tls| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        (listener.local_addr().unwrap(), (Inherited::Tcp(listener), tls))
    });
    let at = plain.0;
    let listeners = Listeners::from_std([secure.1, plain.1]).unwrap();
    let server = Server::serve(listeners, Config::default(), Some(Arc::new(files.load().unwrap())));
    assert!(get(&mut connect(&server, &files.connector(&[])).await, "/peer").await.ends_with("tls: true }"));
    let mut stream = TcpStream::connect(at).await.unwrap();
    assert!(get(&mut stream, "/peer").await.ends_with("tls: false }"));
    drop(stream);
    server.stop().await;
}
