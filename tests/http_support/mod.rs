//! A server around a small application, and clients that misbehave.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of it")]

pub mod app;
pub mod h2;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use sconce::{
    http::{Address, Config, Connections, Listen, Listeners, Shutdown, serve, tls},
    units,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, timeout},
};

/// Longer than anything here takes; a test that waits so long has failed.
pub const LONG: Duration = Duration::from_secs(20);

pub fn millis(millis: u64) -> units::Duration {
    units::Duration(Duration::from_millis(millis))
}

pub struct Server {
    pub addresses: Vec<Address>,
    pub connections: Connections,
    pub shutdown: Shutdown,
    pub app: app::App,
    pub done: JoinHandle<()>,
}

impl Server {
    /// On a free port of the loopback, unless `configure` says otherwise.
    pub async fn start(configure: impl FnOnce(&mut Config)) -> Self {
        Self::start_tls(None, configure).await
    }

    pub async fn start_tls(tls: Option<Arc<tls::Reloadable>>, configure: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { listen: vec![Listen::Tcp("127.0.0.1:0".to_owned())], ..Config::default() };
        config.tls_certificate = tls.is_some().then(|| "given".into());
        configure(&mut config);
        let listeners = Listeners::bind(&config).await.unwrap();
        Self::serve(listeners, config, tls)
    }

    pub fn serve(listeners: Listeners, config: Config, tls: Option<Arc<tls::Reloadable>>) -> Self {
        let addresses = listeners.addresses().to_vec();
        let connections = listeners.connections();
        let shutdown = Shutdown::default();
        let app = app::App::default();
        let done = tokio::spawn({
            let (app, shutdown) = (app.clone(), shutdown.clone());
            async move { serve(listeners, &config, tls, app, shutdown).await }
        });
        Self { addresses, connections, shutdown, app, done }
    }

    pub fn tcp(&self) -> SocketAddr {
        self.addresses
            .iter()
            .find_map(|address| match address {
                Address::Tcp { address, .. } => Some(*address),
                Address::Unix(_) => None,
            })
            .unwrap()
    }

    pub async fn connect(&self) -> TcpStream {
        let stream = timeout(LONG, TcpStream::connect(self.tcp())).await.unwrap().unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Until exactly `count` connections are open.
    pub async fn wait_for_connections(&self, count: usize) {
        until(&format!("{count} connections"), || self.connections.count() == count).await;
    }

    /// Drains, and checks that nothing is left behind.
    pub async fn stop(self) {
        self.shutdown.draining.cancel();
        timeout(LONG, self.done).await.expect("the drain ends").unwrap();
        assert_eq!(self.connections.count(), 0);
        assert_eq!(self.app.alive(), 0);
    }
}

/// Waits for a condition; returns how long that took.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "still waiting for {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}

pub async fn send(stream: &mut (impl AsyncWrite + Unpin), text: &str) {
    timeout(LONG, stream.write_all(text.as_bytes())).await.expect("the peer reads").unwrap();
}

pub async fn get(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> String {
    send(stream, &format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).await;
    response(stream).await
}

/// One whole response with a content-length, head and body together.
pub async fn response(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = read_until(stream, "\r\n\r\n").await;
    let head = bytes.clone().to_lowercase();
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    timeout(LONG, stream.read_exact(&mut body)).await.expect("a body in time").unwrap();
    bytes.push_str(std::str::from_utf8(&body).unwrap());
    bytes
}

/// Reads byte by byte until `end` has come.
pub async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        let byte = timeout(LONG, stream.read_u8()).await.expect("an answer in time").expect("no early end");
        bytes.push(byte);
    }
    String::from_utf8(bytes).unwrap()
}

/// Reads to the stream's end, be it clean or not; returns what came and how long it took.
pub async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> (Vec<u8>, Duration) {
    let start = Instant::now();
    let mut all = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match timeout(LONG, stream.read(&mut buffer)).await.expect("the peer closes") {
            Ok(0) | Err(_) => return (all, start.elapsed()),
            Ok(n) => all.extend_from_slice(&buffer[..n]),
        }
    }
}
