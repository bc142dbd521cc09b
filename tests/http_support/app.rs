//! The application under test: one path for each way to behave.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use sconce::http::{Body, BoxError, Peer};

type AnyBody = UnsyncBoxBody<Bytes, BoxError>;

#[derive(Debug, Clone, Default)]
pub struct App(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    alive: AtomicUsize,
    requests: AtomicUsize,
}

impl App {
    /// Handlers and response bodies that have not been dropped.
    pub fn alive(&self) -> usize {
        self.0.alive.load(SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.0.requests.load(SeqCst)
    }
}

struct Alive(Arc<Counts>);

impl Alive {
    fn new(counts: &Arc<Counts>) -> Self {
        counts.alive.fetch_add(1, SeqCst);
        Self(Arc::clone(counts))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, SeqCst);
    }
}

impl hyper::service::Service<Request<Body>> for App {
    type Response = Response<AnyBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Body>) -> Self::Future {
        self.0.requests.fetch_add(1, SeqCst);
        let alive = Alive::new(&self.0);
        if request.uri().path() == "/refuse-unseen" {
            drop(request);
            return Box::pin(async { Ok(text(StatusCode::PAYLOAD_TOO_LARGE, "too large")) });
        }
        Box::pin(async move { Ok(answer(request, alive).await) })
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<AnyBody> {
    let body = Full::new(text.into()).map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(status).body(body).unwrap()
}

/// A body of `chunk` again and again, `count` times, each after `pause`.
fn chunks(alive: Alive, chunk: Bytes, count: usize, pause: Duration) -> Response<AnyBody> {
    let body = stream::unfold((alive, 0), move |(alive, n)| {
        let chunk = chunk.clone();
        async move {
            if n == count {
                return None;
            }
            if n > 0 && !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            Some((Ok::<_, BoxError>(Frame::data(chunk)), (alive, n + 1)))
        }
    });
    Response::new(StreamBody::new(body).boxed_unsync())
}

async fn answer(request: Request<Body>, alive: Alive) -> Response<AnyBody> {
    let peer = *request.extensions().get::<Peer>().expect("each request names its peer");
    let second = Duration::from_secs(1);
    match request.uri().path() {
        "/" => text(StatusCode::OK, "hello"),
        "/peer" => text(StatusCode::OK, format!("{peer:?}")),
        "/length" => match request.into_body().collect().await {
            Ok(body) => text(StatusCode::OK, body.to_bytes().len().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                text(StatusCode::REQUEST_TIMEOUT, "late")
            }
            Err(error) => text(StatusCode::BAD_REQUEST, error.to_string()),
        },
        "/refuse" => text(StatusCode::PAYLOAD_TOO_LARGE, "too large"),
        "/sleep" => {
            tokio::time::sleep(second / 2).await;
            text(StatusCode::OK, "rested")
        }
        "/quiet" => std::future::pending().await,
        "/quiet-body" => {
            let _body = request.into_body();
            std::future::pending().await
        }
        "/keep-body" => {
            let kept = request.into_body();
            chunks(alive, Bytes::from_static(b"tick"), 2, second / 20).map(|body| {
                body.map_frame(move |frame| {
                    let _kept = &kept;
                    frame
                })
                .boxed_unsync()
            })
        }
        "/quiet-stream" => chunks(alive, Bytes::from_static(b"event"), 2, 3600 * second),
        "/ticks" => chunks(alive, Bytes::from_static(b"tick"), 10, second / 20),
        "/endless-ticks" => chunks(alive, Bytes::from_static(b"tick"), usize::MAX, second / 100),
        "/flood" => chunks(alive, Bytes::from(vec![b'x'; 1 << 16]), usize::MAX, Duration::ZERO),
        _ => text(StatusCode::NOT_FOUND, "nothing here"),
    }
}
