//! Upstreams that are reached over TLS, and want to see who comes.

use std::{convert::Infallible, fs, path::Path, sync::Arc};

use http_body_util::Full;
use hyper::{Response, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier},
};

use crate::{
    common::{TestServer, chat},
    upstream::{Step, Upstream, proxy, read_request, ready, until},
};

const CHAT: &str = "/v1/chat/completions";

struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes `NAME.pem` and `NAME.key`.
    fn issue_to(&self, directory: &Path, name: &str) {
        let (certificate, key) = self.issue(name);
        fs::write(directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// Of one that asks nobody for a certificate.
fn server_config(authority: &Authority, protocols: &[&[u8]]) -> ServerConfig {
    let (certificate, key) = authority.issue("localhost");
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

/// A server that answers those who show a certificate of the authority, over HTTP/1.1 and whatever they offer.
struct Strict {
    url: String,
    task: JoinHandle<()>,
}

impl Strict {
    async fn start(authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let (certificate, key) = authority.issue("localhost");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/v1", listener.local_addr().unwrap().port());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let stream = match acceptor.accept(stream).into_fallible().await {
                        Ok(stream) => stream,
                        Err((_, mut stream)) => {
                            // It was told why by TLS, and reads that unless a reset overtakes it.
                            stream.shutdown().await.unwrap();
                            let _ = stream.read_to_end(&mut Vec::new()).await;
                            return;
                        }
                    };
                    let answer = service_fn(async |_| {
                        let answer = Response::builder().header("content-type", "application/json");
                        Ok::<_, Infallible>(answer.body(Full::<&[u8]>::new(b"{}")).unwrap())
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Self { url, task }
    }
}

impl Drop for Strict {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A proxy that shows the certificate `NAME.pem` of its directory.
async fn showing(directory: TempDir, strict: &Strict, name: &str, more: &[&str]) -> TestServer {
    let certificate = [format!("proxy.tls_certificate={name}.pem"), format!("proxy.tls_key={name}.key")];
    let url = format!("proxy.base_url={}", strict.url);
    let mut settings = vec!["backend=proxy", "proxy.health_path=", "proxy.tls_roots=roots.pem", &url];
    settings.extend(certificate.iter().filter(|_| !name.is_empty()).map(String::as_str));
    settings.extend(more);
    let arguments: Vec<&str> = settings.into_iter().flat_map(|setting| ["--set", setting]).collect();
    ready(TestServer::start_in(directory, &arguments)).await
}

/// With the authority's own certificate, one that it issued, and one that another did.
fn directory(authority: &Authority) -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("roots.pem"), authority.certificate.pem()).unwrap();
    authority.issue_to(directory.path(), "right");
    Authority::new().issue_to(directory.path(), "wrong");
    directory
}

#[tokio::test]
async fn a_certificate_of_theirs_lets_in() {
    let authority = Authority::new();
    let strict = Strict::start(&authority).await;
    // It does not speak HTTP/2, so that this is not spoken.
    for more in [&[][..], &["proxy.http2=true"]] {
        let proxy = showing(directory(&authority), &strict, "right", more).await;
        for _ in 0..3 {
            assert_eq!(proxy.ok(CHAT, &chat("hi")).await, json!({}));
        }
    }
}

#[tokio::test]
async fn none_or_one_of_others_does_not() {
    let authority = Authority::new();
    let strict = Strict::start(&authority).await;
    for name in ["", "wrong"] {
        let proxy = showing(directory(&authority), &strict, name, &[]).await;
        let (status, error) = proxy.error(CHAT, &chat("hi")).await;
        assert!([502, 503].contains(&status), "{status} {error}");
        assert!(error["message"].as_str().unwrap().contains("upstream server"), "{error}");
        // The handshake ends before a client knows what the server thinks of its certificate (RFC 8446, section 4.4).
        until("a word about it", || proxy.log().contains("received fatal alert")).await;
        let line = proxy.requests().pop().unwrap();
        assert_eq!((&line["upstream"], &line["status"]), (&json!("default"), &json!(status)));
        assert!(!proxy.log().contains("PRIVATE"), "{}", proxy.log());
    }
}

#[tokio::test]
async fn a_new_certificate_in_the_same_file_is_taken_up() {
    let authority = Authority::new();
    let strict = Strict::start(&authority).await;
    let proxy = showing(directory(&authority), &strict, "wrong", &[]).await;
    proxy.error(CHAT, &chat("hi")).await;
    for name in ["pem", "key"] {
        fs::copy(proxy.path(&format!("right.{name}")), proxy.path(&format!("wrong.{name}"))).unwrap();
    }
    proxy.signal(Signal::HUP);
    proxy.logged("reloaded; models").await;
    proxy.ok(CHAT, &chat("hi")).await;
    // One that cannot be used changes nothing.
    fs::write(proxy.path("wrong.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    proxy.signal(Signal::HUP);
    proxy.logged("not reloaded").await;
    assert!(proxy.log().contains("upstream 'default': wrong.pem: "), "{}", proxy.log());
    proxy.ok(CHAT, &chat("hi")).await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_trusted_nor_its_name_told() {
    let authority = Authority::new();
    let strict = Strict::start(&authority).await;
    let elsewhere =
        Strict { url: strict.url.replace("localhost", "127.0.0.1"), task: tokio::spawn(async {}) };
    let proxy = showing(directory(&authority), &elsewhere, "right", &[]).await;
    let (status, error) = proxy.error(CHAT, &chat("hi")).await;
    assert_eq!((status, &error["code"]), (503, &json!("not_ready")));
    let lines = proxy.requests();
    assert!(lines[0]["error"].as_str().unwrap().contains("certificate not valid for name"), "{lines:?}");
    assert!(!format!("{lines:?}").contains("127.0.0.1"), "{lines:?}");
}

#[tokio::test]
async fn a_handshake_that_hangs_counts_as_connecting() {
    let hanging = Upstream::always(vec![Step::Hang]).await;
    let url = hanging.url().replace("http://127.0.0.1", "https://localhost");
    let proxy = proxy(&[("a", &url)], &["proxy.connect_timeout=200ms"]).await;
    let (status, error) = proxy.error(CHAT, &chat("hi")).await;
    assert_eq!((status, &error["code"]), (503, &json!("not_ready")));
    assert!(hanging.requests().is_empty());
}

#[tokio::test]
async fn a_connection_that_ends_in_order_between_requests_is_not_used_again() {
    let authority = Authority::new();
    let acceptor = TlsAcceptor::from(Arc::new(server_config(&authority, &[])));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/v1", listener.local_addr().unwrap().port());
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            read_request(&mut stream).await.unwrap();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            stream.write_all(head.as_bytes()).await.unwrap();
            // A close_notify comes before the end.
            stream.shutdown().await.unwrap();
        }
    });
    let ending = Strict { url, task };
    let proxy = showing(directory(&authority), &ending, "", &[]).await;
    for _ in 0..20 {
        assert_eq!(proxy.ok(CHAT, &chat("hi")).await, json!({}));
    }
}

/// HTTP/2 at first, and HTTP/1.1 ever after.
#[tokio::test]
async fn a_request_for_http2_is_one_for_http1_where_that_is_spoken_in_the_end() {
    let authority = Authority::new();
    let acceptors = [&b"h2"[..], b"http/1.1"]
        .map(|protocol| TlsAcceptor::from(Arc::new(server_config(&authority, &[protocol]))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptors[0].accept(stream).await.unwrap();
        let mut connection = h2::server::Builder::new().handshake::<_, bytes::Bytes>(stream).await.unwrap();
        let mut requests = 0;
        let http1 = async {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = acceptors[1].accept(stream).await.unwrap();
                let request = read_request(&mut stream).await.unwrap();
                let body = json!(request.lines().find_map(|line| line.strip_prefix("host: "))).to_string();
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
                let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let http2 = async {
            while let Some(Ok((_, mut answer))) = connection.accept().await {
                requests += 1;
                if requests > 1 {
                    answer.send_reset(h2::Reason::REFUSED_STREAM);
                    continue;
                }
                let head = Response::builder().header("content-type", "application/json").body(()).unwrap();
                answer.send_response(head, false).unwrap().send_data("2".into(), true).unwrap();
            }
        };
        tokio::join!(http1, http2);
    });
    let changing = Strict { url: format!("https://localhost:{port}/v1"), task };
    let proxy = showing(directory(&authority), &changing, "", &["proxy.http2=true"]).await;
    assert_eq!(proxy.ok(CHAT, &chat("hi")).await, json!(2));
    assert_eq!(proxy.ok(CHAT, &chat("hi")).await, json!(format!("localhost:{port}")));
}
