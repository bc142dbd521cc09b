//! Upstreams over HTTP/2: requests share connections, and an upstream can end one request without the others.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use h2::{
    Reason, RecvStream, SendStream,
    server::{self, SendResponse},
};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use crate::{
    common::{LONG, TestServer, chat, events as data_of},
    faults::{CHAT, EVENT, stream},
    upstream::{Upstream, json as json_answer, proxy as proxy_of, until},
};

/// What it does with a request.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// A whole answer, late.
    Answer(Duration),
    /// The beginning of a stream, which then ends that way.
    Stream(End),
    /// The beginning of an answer that is not a stream.
    Half(End),
    Refuse,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Done,
    Reset(Reason),
    DoneThenReset(Reason),
}

/// An HTTP/2 server that takes `most` requests a connection at a time.
struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    /// Of those.
    ended: AtomicUsize,
    requests: AtomicUsize,
}

impl Server {
    /// `play` says what it does with the request of this number, counted from 0.
    async fn start(most: u32, play: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, play) = (Arc::<Seen>::default(), Arc::new(play));
        let task = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    seen.connections.fetch_add(1, SeqCst);
                    tokio::spawn(serve(stream, most, Arc::clone(&seen), Arc::clone(&play)));
                }
            }
        });
        Self { address, seen, task }
    }

    fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    fn connections(&self) -> usize {
        self.seen.connections.load(SeqCst)
    }

    fn requests(&self) -> usize {
        self.seen.requests.load(SeqCst)
    }

    async fn behind(&self, settings: &[&str]) -> TestServer {
        proxy_of(&[("a", &self.url())], &[&["proxy.http2=true"], settings].concat()).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    stream: TcpStream,
    most: u32,
    seen: Arc<Seen>,
    play: Arc<impl Fn(usize) -> Act + Send + Sync + 'static>,
) {
    let mut builder = server::Builder::new();
    let mut connection = builder.max_concurrent_streams(most).handshake(stream).await.unwrap();
    while let Some(Ok((request, answer))) = connection.accept().await {
        let act = play(seen.requests.fetch_add(1, SeqCst));
        tokio::spawn(act_on(act, request, answer));
    }
    seen.ended.fetch_add(1, SeqCst);
}

async fn act_on(act: Act, request: Request<RecvStream>, mut answer: SendResponse<Bytes>) {
    let mut body = request.into_body();
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
    }
    let head = |kind: &str| Response::builder().header("content-type", kind).body(()).unwrap();
    match act {
        Act::Answer(late) => {
            sleep(late).await;
            let Ok(mut body) = answer.send_response(head("application/json"), false) else { return };
            let _ = body.send_data("{}".into(), true);
        }
        Act::Stream(end) => {
            let mut body = answer.send_response(head("text/event-stream"), false).unwrap();
            body.send_data(EVENT.into(), false).unwrap();
            finish(body, end, "data: [DONE]\n\n").await;
        }
        Act::Half(end) => {
            let mut body = answer.send_response(head("application/json"), false).unwrap();
            body.send_data("{\"a\":1".into(), false).unwrap();
            finish(body, end, "}").await;
        }
        Act::Refuse => answer.send_reset(Reason::REFUSED_STREAM),
    }
}

/// The rest, or none of it.
async fn finish(mut body: SendStream<Bytes>, end: End, rest: &'static str) {
    // What was sent so far goes out before the end does.
    sleep(Duration::from_millis(50)).await;
    match end {
        End::Done => body.send_data(rest.into(), true).unwrap(),
        End::Reset(reason) => body.send_reset(reason),
        End::DoneThenReset(reason) => {
            body.send_data(rest.into(), true).unwrap();
            sleep(Duration::from_millis(50)).await;
            body.send_reset(reason);
        }
    }
}

#[tokio::test]
async fn an_answer_is_whole_only_when_its_stream_says_so() {
    for (end, whole) in [
        (End::Done, true),
        (End::DoneThenReset(Reason::NO_ERROR), true),
        (End::Reset(Reason::NO_ERROR), false),
        (End::Reset(Reason::CANCEL), false),
    ] {
        let server =
            Server::start(10, move |number| if number == 0 { Act::Stream(end) } else { Act::Half(end) })
                .await;
        let proxy = server.behind(&[]).await;
        let text = proxy.post(CHAT, &stream()).await.text().await.unwrap();
        let events = data_of(&text);
        assert_eq!(events.len(), 2, "{text}");
        assert_eq!(events[1] == "[DONE]", whole, "{end:?}: {text}");
        let (status, answer) = error_or_answer(&proxy).await;
        if whole {
            assert_eq!((status, answer), (200, json!({ "a": 1 })));
        } else {
            assert!(events[1].contains("\"upstream_error\""), "{text}");
            assert_eq!((status, &answer["error"]["code"]), (502, &json!("upstream_error")));
        }
    }
}

async fn error_or_answer(proxy: &TestServer) -> (u16, Value) {
    let response = proxy.post(CHAT, &chat("hi")).await;
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn requests_beyond_what_a_connection_takes_go_over_another() {
    let server = Server::start(2, |number| match number {
        1 | 2 => Act::Answer(Duration::from_secs(3600)),
        _ => Act::Answer(Duration::ZERO),
    })
    .await;
    let proxy = server.behind(&["proxy.first_byte_timeout=20s"]).await;
    proxy.ok(CHAT, &chat("hi")).await;
    let mut long = Vec::new();
    for count in 2..=3 {
        let request = proxy.client.post(proxy.url(CHAT)).json(&chat("hi"));
        long.push(tokio::spawn(request.send()));
        until("the request", || server.requests() == count).await;
    }
    assert_eq!(server.connections(), 1, "two at a time go over one");
    for _ in 0..5 {
        proxy.ok(CHAT, &chat("hi")).await;
    }
    assert_eq!((server.requests(), server.connections()), (8, 2));
    long.iter().for_each(JoinHandle::abort);
    // What they leave is taken again.
    proxy.logged("the client went away").await;
    let question = chat("hi");
    let at_once = (0..4).map(|_| proxy.ok(CHAT, &question));
    timeout(LONG, join_all(at_once)).await.unwrap();
    assert_eq!(server.requests(), 12);
}

#[tokio::test]
async fn connections_that_are_not_needed_any_more_are_closed() {
    let server = Server::start(1, |_| Act::Answer(Duration::from_millis(200))).await;
    let proxy = server.behind(&["proxy.health_interval=100ms"]).await;
    let question = chat("hi");
    join_all((0..5).map(|_| proxy.ok(CHAT, &question))).await;
    let made = server.connections();
    assert!(made > 1, "{made}");
    until("all but one to end", || server.seen.ended.load(SeqCst) == made - 1).await;
    proxy.ok(CHAT, &chat("hi")).await;
    assert_eq!(server.connections(), made);
}

#[tokio::test]
async fn a_request_that_was_refused_unseen_is_sent_again() {
    let server = Server::start(10, |number| match number {
        1 => Act::Refuse,
        _ => Act::Answer(Duration::ZERO),
    })
    .await;
    let proxy = server.behind(&[]).await;
    for _ in 0..3 {
        proxy.ok(CHAT, &chat("hi")).await;
    }
    assert_eq!((server.requests(), server.connections()), (4, 2));

    let refusing = Server::start(10, |_| Act::Refuse).await;
    let other = Upstream::always(vec![json_answer("200 OK", "{}")]).await;
    let settings = ["proxy.upstreams.a.http2=true", "proxy.upstreams.a.weight=1000"];
    let proxy = proxy_of(&[("a", &refusing.url()), ("b", &other.url())], &settings).await;
    proxy.ok(CHAT, &chat("hi")).await;
    assert_eq!((refusing.requests(), other.requests().len()), (1, 1));
    let response = refusing.behind(&[]).await.post(CHAT, &chat("hi")).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = &(payload.len() as u32).to_be_bytes()[1..];
    [length, &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Takes one request a connection, and answers a second one with a GOAWAY that names the first as the last.
async fn answer_once(mut stream: TcpStream) {
    const SETTINGS: u8 = 4;
    let mut requests = 0;
    stream.read_exact(&mut [0; 24]).await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let [a, b, c, kind, flags, stream_id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await.unwrap();
        // Of a request's frames the last one ends the stream.
        let is_request = kind < 2 && flags & 1 == 1;
        let id = u32::from_be_bytes(stream_id);
        let answer = match (kind, flags) {
            (SETTINGS, 0) => frame(SETTINGS, 1, 0, &[]),
            _ if is_request && requests == 0 => {
                requests += 1;
                // HPACK: `:status: 200`, then `content-type` with a literal value.
                let fields = [&[0x88, 0x0f, 0x10, 16][..], b"application/json"].concat();
                [frame(1, 4, id, &fields), frame(0, 1, id, b"{}")].concat()
            }
            _ if is_request => frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
            _ => continue,
        };
        stream.write_all(&answer).await.unwrap();
    }
}

#[tokio::test]
async fn a_request_that_goaway_leaves_out_is_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(answer_once(stream));
        }
    });
    let proxy = proxy_of(&[("a", &url)], &["proxy.http2=true"]).await;
    for _ in 0..5 {
        assert_eq!(proxy.ok(CHAT, &chat("hi")).await, json!({}));
    }
    server.abort();
}
