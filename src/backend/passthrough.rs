//! Requests that are handed on as they came, and answers that come back the same way.

use std::{ops::Range, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use indexmap::IndexMap;

use super::ModelCard;
use crate::generation::Error;

/// What may be asked of another server, by its path below the prefix.
pub const OPERATIONS: [&str; 13] = [
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/tokenize",
    "/detokenize",
    "/rerank",
    "/score",
    "/responses",
    "/messages",
    "/messages/count_tokens",
    "/audio/speech",
    "/audio/transcriptions",
    "/audio/translations",
];

/// What a backend can do whose answers are made by another server: requests are handed to it unparsed.
pub trait Passthrough: Send + Sync {
    /// Sends a request on and waits for the head of its answer. Dropping the future, or the answer's body, ends the
    /// request at the other server too.
    fn forward(&self, request: Forward) -> BoxFuture<'_, Result<Forwarded, Unanswered>>;

    /// The models that the other server lists, each served under the id that it has there. `None` where the one model of
    /// the configuration is served.
    fn discovered(&self) -> Option<IndexMap<String, ModelCard>>;

    /// Whether a model is one of those.
    fn lists(&self, id: &str) -> bool;
}

/// A request as the client sent it, and where in it those things stand that the other server may need otherwise.
#[derive(Debug, Clone)]
pub struct Forward {
    /// The model's id here.
    pub id: String,
    /// Below the API's prefix: `/chat/completions`.
    pub path: &'static str,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub model: Field,
    /// The part of the body that begins alike in the turns of one conversation.
    pub conversation: Option<Range<usize>>,
    pub request_id: String,
}

/// Where the model's name stands in the body, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// A JSON string with its quotes.
    Json(Range<usize>),
    /// The content of a part of a form.
    Form(Range<usize>),
}

/// The answer, its body still on its way.
pub struct Forwarded {
    /// What the configuration calls the server that answers.
    pub upstream: Arc<str>,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: ForwardedBody,
    pub is_private: IsPrivate,
    /// Nothing but the end of the connection tells where the body ends, so that an early end looks like the end.
    pub ends_with_connection: bool,
}

/// Whether a text shows what no answer may: where the other server is, or its key.
pub type IsPrivate = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Why there is no answer.
#[derive(Debug)]
pub struct Unanswered {
    /// The last one that was asked, if one was.
    pub upstream: Option<Arc<str>>,
    pub error: Error,
}

impl From<Error> for Unanswered {
    fn from(error: Error) -> Self {
        Self { upstream: None, error }
    }
}

/// A body that is read from the other server as it is asked for, and no faster.
pub type ForwardedBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = Error> + Send + Sync>>;
