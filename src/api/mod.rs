//! The only room that knows poem and OpenAI's wire shape.
//!
//! A request passes [`Api::call`] (id, log line, CORS, the envelope around every failure), the route's operation in
//! [`routes`], which checks the key and reads the body, then the operation's `convert` into the domain's words, a place
//! in the queue, the backend, and back out as JSON or as server-sent events.

pub mod auth;
pub mod chat;
pub mod completions;
pub mod cors;
mod docs;
mod document;
pub mod embeddings;
pub mod error;
mod forward;
mod head;
pub mod health;
pub mod limits;
mod metrics;
pub mod models;
mod observe;
mod payload;
pub mod prompt;
mod reply;
pub mod rerank;
mod router;
mod routes;
mod sampling;
mod schema;
mod sse;
pub mod tokenize;
pub mod usage;
pub mod wire;

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::{FutureExt, future::Either};
use http_body_util::combinators::BoxBody;
use poem::{
    Request, RequestParts, Response,
    error::ResponseError,
    http::{HeaderName, HeaderValue, Method, uri::Scheme},
    web::{LocalAddr, RemoteAddr},
};
use tokio_util::sync::CancellationToken;

pub use document::openapi_document;

use self::{
    auth::KeyRing,
    error::ApiError,
    forward::Forwarding,
    limits::Admission,
    observe::Exchange,
    router::Router,
    routes::{Root, V1},
};
use crate::backend::Registry;

/// A body, either way.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// What the API is made of.
pub struct Parts {
    /// Before every path of the API proper: `/v1`.
    pub prefix: String,
    pub models: Registry,
    pub keys: KeyRing,
    pub limits: limits::Config,
    pub cors: cors::Config,
    /// Log the texts of requests.
    pub log_prompts: bool,
    /// Cancelled when the server begins to shut down: readiness ends.
    pub draining: CancellationToken,
    /// Cancelled when the time to drain is over: what still runs ends with an error.
    pub cut: CancellationToken,
}

/// What operations need of the server.
struct App {
    keys: ArcSwap<KeyRing>,
    admission: Arc<Admission>,
    log_prompts: bool,
}

impl App {
    fn of(request: &Request) -> Result<&Arc<Self>, ApiError> {
        request.data().ok_or_else(ApiError::internal)
    }
}

/// The record of the request that is being answered.
fn exchange(request: &Request) -> Result<Arc<Exchange>, ApiError> {
    request.data().cloned().ok_or_else(ApiError::internal)
}

/// The API as a service for the accept loop. Clones share everything.
#[derive(Clone)]
pub struct Api {
    app: Arc<App>,
    forwarding: Arc<Forwarding>,
    router: Arc<Router>,
    cors: Arc<cors::Config>,
    cut: CancellationToken,
}

impl Api {
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { prefix, models, keys, limits, cors, log_prompts, draining, cut } = parts;
        let app = Arc::new(App {
            keys: ArcSwap::from_pointee(keys),
            admission: Admission::new(&limits),
            log_prompts,
        });
        let v1 = V1 { models: models.clone(), cut: cut.clone() };
        let forwarding = Forwarding::new(prefix.clone(), models.clone(), cut.clone());
        let root = Root { models: models.clone(), draining };
        let mut router = Router::default();
        router.add(&prefix, v1);
        router.add("", root);
        for (path, page) in docs::pages(prefix, models) {
            router.insert(path.to_owned(), HashMap::from([(Method::GET, page)]));
        }
        Self { app, forwarding: Arc::new(forwarding), router: Arc::new(router), cors: Arc::new(cors), cut }
    }

    /// From now on these keys are the ones that are accepted.
    pub fn set_keys(&self, keys: KeyRing) {
        self.app.keys.store(Arc::new(keys));
    }

    /// Whether callers need a key now.
    #[must_use]
    pub fn needs_key(&self) -> bool {
        !self.app.keys.load().is_empty()
    }

    /// From now on these limits hold. Who is in stays in.
    pub fn set_limits(&self, limits: &limits::Config) {
        self.app.admission.set(limits);
    }

    /// How many requests are here now.
    #[must_use]
    pub fn load(&self) -> limits::Load {
        self.app.admission.load()
    }

    /// Answers one request.
    pub async fn call(&self, request: http::Request<Body>) -> http::Response<Body> {
        let (parts, body) = request.into_parts();
        let parts = RequestParts::from((parts, LocalAddr::default(), RemoteAddr::default(), Scheme::HTTP));
        let mut request = Request::from_parts(parts, body.into());
        let exchange = Exchange::begin(&request);
        let origin = self.cors.allowed(&request);
        let mut response = match self.cors.preflight(&request) {
            Some(response) => response,
            None => {
                request.set_data(Arc::clone(&self.app));
                request.set_data(Arc::clone(&exchange));
                self.answer(request).await.unwrap_or_else(|error| {
                    exchange.failed(&error);
                    error.as_response()
                })
            }
        };
        self.sign(&mut response, &exchange);
        self.cors.share(response.headers_mut(), origin);
        exchange.status(response.status());
        let body = exchange.watch(response.take_body());
        response.set_body(body);
        response.into()
    }

    /// The operation's answer, or what it failed with: an error, a panic, or the server's end.
    async fn answer(&self, request: Request) -> Result<Response, ApiError> {
        let work = match self.forwarding.operation(&request) {
            // Boxed, because other requests need no room for this.
            Some(path) => Either::Left(self.forwarding.answer(path, request, &self.router).boxed()),
            None => Either::Right(self.router.call(request)),
        };
        tokio::select! {
            biased;
            // The panic hook has logged a panic.
            done = AssertUnwindSafe(work).catch_unwind() => done.unwrap_or_else(|_| Err(ApiError::internal())),
            () = self.cut.cancelled() => Err(ApiError::shutting_down()),
        }
    }

    /// The headers that every answer has.
    fn sign(&self, response: &mut Response, exchange: &Exchange) {
        const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
        const PROCESSING: HeaderName = HeaderName::from_static("openai-processing-ms");
        const VERSION: HeaderName = HeaderName::from_static("openai-version");
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&exchange.id) {
            headers.insert(REQUEST_ID, id);
        }
        let milliseconds = u64::try_from(exchange.elapsed().as_millis()).unwrap_or(u64::MAX);
        headers.insert(PROCESSING, milliseconds.into());
        headers.insert(VERSION, HeaderValue::from_static("2020-10-01"));
    }
}
