//! A server that answers just what a test says, byte for byte, and remembers what it was asked.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::common::{LONG, TestServer};

/// What it does after a request.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Send(String),
    /// The same, for ever.
    Repeat(String),
    Wait(Duration),
    /// Ends the connection in order.
    Close,
    /// Ends it with a reset.
    Reset,
    /// Says nothing until the peer leaves.
    Hang,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<String>>,
    connections: AtomicUsize,
    /// Connections whose peer has left.
    left: AtomicUsize,
    sent: AtomicUsize,
}

pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// `play` says what it does with the request of this number, counted from 0.
    pub(crate) async fn start(play: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let play = Arc::new(play);
        let task = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    seen.connections.fetch_add(1, Ordering::SeqCst);
                    let (seen, play) = (Arc::clone(&seen), Arc::clone(&play));
                    tokio::spawn(async move { serve(stream, &seen, &*play).await });
                }
            }
        });
        Self { address, seen, task }
    }

    pub(crate) async fn always(steps: Vec<Step>) -> Self {
        Self::start(move |_| steps.clone()).await
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn sent(&self) -> usize {
        self.seen.sent.load(Ordering::SeqCst)
    }

    /// Waits until as many connections have ended because their peer left.
    pub(crate) async fn left(&self, count: usize) {
        until("the peer to leave", || self.seen.left.load(Ordering::SeqCst) >= count).await;
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LONG, waiting).await.unwrap_or_else(|_| panic!("waited too long for {what}"));
}

async fn serve(mut stream: TcpStream, seen: &Seen, play: &(dyn Fn(usize) -> Vec<Step> + Send + Sync)) {
    stream.set_nodelay(true).unwrap();
    while let Some(request) = read_request(&mut stream).await {
        let number = {
            let mut requests = seen.requests.lock().unwrap();
            requests.push(request);
            requests.len() - 1
        };
        for step in play(number) {
            let ended = match step {
                Step::Send(text) => stream.write_all(text.as_bytes()).await.is_err(),
                Step::Repeat(text) => {
                    while stream.write_all(text.as_bytes()).await.is_ok() {
                        seen.sent.fetch_add(text.len(), Ordering::SeqCst);
                    }
                    true
                }
                Step::Wait(time) => {
                    sleep(time).await;
                    false
                }
                Step::Close => return,
                Step::Reset => {
                    stream.set_zero_linger().unwrap();
                    return;
                }
                Step::Hang => {
                    let _ = stream.read(&mut [0; 1]).await;
                    true
                }
            };
            if ended {
                seen.left.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
    }
}

/// Head and body; `None` when the peer has left.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(text.into_owned());
            }
        }
        let mut more = [0; 4096];
        match stream.read(&mut more).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&more[..read]),
        }
    }
}

pub(crate) fn answer(status: &str, fields: &str, body: &str) -> Step {
    Step::Send(format!("HTTP/1.1 {status}\r\n{fields}content-length: {}\r\n\r\n{body}", body.len()))
}

pub(crate) fn json(status: &str, body: &str) -> Step {
    answer(status, "content-type: application/json\r\n", body)
}

/// The head of a stream.
pub(crate) fn events() -> Step {
    Step::Send(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
    )
}

/// A chunk of a stream.
pub(crate) fn chunk(text: &str) -> Step {
    Step::Send(format!("{:x}\r\n{text}\r\n", text.len()))
}

/// A proxy in front of upstreams by name, which checks nobody's health.
pub(crate) async fn proxy(upstreams: &[(&str, &str)], settings: &[&str]) -> TestServer {
    let urls: Vec<String> =
        upstreams.iter().map(|(name, url)| format!("proxy.upstreams.{name}.base_url={url}")).collect();
    let mut all = vec!["backend=proxy", "proxy.health_path=", "proxy.root_paths=[]"];
    all.extend(urls.iter().map(String::as_str));
    all.extend(settings);
    ready(TestServer::set(&all)).await
}

/// The server once it has looked at its upstreams.
pub(crate) async fn ready(server: TestServer) -> TestServer {
    server.logged("\"message\":\"ready\"").await;
    server
}
