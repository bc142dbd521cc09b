//! Every failure as OpenAI's envelope, with the status that SDKs expect.

use std::fmt;

use poem::{
    IntoResponse, Response,
    error::ResponseError,
    http::{StatusCode, header},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::wire::ReadError;
use crate::generation;

/// What failed, as far as a client can tell failures apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    InvalidJson,
    InvalidValue,
    UnsupportedValue,
    ContextLengthExceeded,
    InvalidApiKey,
    ModelNotFound,
    UnknownUrl,
    MethodNotAllowed,
    BodyTimeout,
    BodyTooLarge,
    UnsupportedMediaType,
    RateLimited,
    NotReady,
    UpstreamTimeout,
    UpstreamFailed,
    Internal,
}

impl Kind {
    /// Status, `type` and `code` of the envelope. SDKs retry 408, 409, 429 and 5xx, so that nothing which would fail
    /// again may have one of those.
    fn envelope(self) -> (StatusCode, &'static str, Option<&'static str>) {
        const INVALID: &str = "invalid_request_error";
        match self {
            Self::InvalidJson => (StatusCode::BAD_REQUEST, INVALID, Some("invalid_json")),
            Self::InvalidValue => (StatusCode::BAD_REQUEST, INVALID, Some("invalid_value")),
            Self::UnsupportedValue => (StatusCode::BAD_REQUEST, INVALID, Some("unsupported_value")),
            Self::ContextLengthExceeded => {
                (StatusCode::BAD_REQUEST, INVALID, Some("context_length_exceeded"))
            }
            Self::InvalidApiKey => (StatusCode::UNAUTHORIZED, INVALID, Some("invalid_api_key")),
            Self::ModelNotFound => (StatusCode::NOT_FOUND, INVALID, Some("model_not_found")),
            Self::UnknownUrl => (StatusCode::NOT_FOUND, INVALID, Some("unknown_url")),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, INVALID, Some("method_not_allowed")),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, INVALID, Some("body_timeout")),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, INVALID, Some("body_too_large")),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID, Some("unsupported_media_type"))
            }
            Self::RateLimited => {
                (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("rate_limit_exceeded"))
            }
            Self::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "server_error", Some("not_ready")),
            Self::UpstreamTimeout => (StatusCode::GATEWAY_TIMEOUT, "server_error", Some("upstream_timeout")),
            Self::UpstreamFailed => (StatusCode::BAD_GATEWAY, "server_error", Some("upstream_error")),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "server_error", None),
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        self.envelope().0
    }
}

/// A failure on its way to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    kind: Kind,
    message: String,
    param: Option<String>,
    allow: Option<String>,
}

/// Messages and paths may quote what the client sent, which may be megabytes.
const LONGEST_MESSAGE: usize = 2000;
const LONGEST_PARAM: usize = 200;

fn shortened(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
    text
}

/// Seconds after which a refused client may try again.
pub(crate) const RETRY_AFTER: &str = "1";

impl ApiError {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: shortened(message.into(), LONGEST_MESSAGE), param: None, allow: None }
    }

    pub(crate) fn at(kind: Kind, param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(shortened(param.into(), LONGEST_PARAM)), ..Self::new(kind, message) }
    }

    /// A value that its field does not take.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::at(Kind::InvalidValue, param, message)
    }

    /// A value that the API knows and this server does not honour.
    pub(crate) fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::at(Kind::UnsupportedValue, param, message)
    }

    /// The text tells nothing: what failed is in the log.
    pub(crate) fn internal() -> Self {
        Self::new(Kind::Internal, "The server had an error while processing your request. Its log says more.")
    }

    pub(crate) fn shutting_down() -> Self {
        Self::new(Kind::NotReady, "The server is shutting down.")
    }

    pub(crate) fn method_not_allowed(allow: &str) -> Self {
        let message = format!("This URL does not support that method; it supports {allow}.");
        Self { allow: Some(allow.to_owned()), ..Self::new(Kind::MethodNotAllowed, message) }
    }

    /// For the log: nothing that the client sent but the path of a field.
    pub(crate) fn summary(&self) -> String {
        let (_, kind, code) = self.kind.envelope();
        let code = code.unwrap_or(kind);
        // Below these fields the client chooses the names.
        let free = ["metadata", "logit_bias", "chat_template_kwargs"];
        match &self.param {
            None => code.to_owned(),
            Some(param) => {
                let known = free.iter().find(|free| param.starts_with(**free));
                format!("{code} at {}", known.copied().unwrap_or(param))
            }
        }
    }

    pub(crate) fn to_envelope(&self) -> ErrorResponse {
        let (_, kind, code) = self.kind.envelope();
        let error = Error { message: self.message.clone(), kind, param: self.param.clone(), code };
        ErrorResponse { error }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status(&self) -> StatusCode {
        self.kind.status()
    }

    fn as_response(&self) -> Response {
        let status = self.kind.status();
        let mut response = Response::builder().status(status).content_type("application/json");
        if self.kind == Kind::InvalidApiKey {
            response = response.header(header::WWW_AUTHENTICATE, "Bearer realm=\"sconce\"");
        }
        if matches!(self.kind, Kind::RateLimited | Kind::NotReady) {
            response = response.header(header::RETRY_AFTER, RETRY_AFTER);
        }
        if let Some(allow) = &self.allow {
            response = response.header(header::ALLOW, allow);
        }
        response.body(serde_json::to_vec(&self.to_envelope()).unwrap_or_default())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.as_response()
    }
}

impl From<generation::Error> for ApiError {
    fn from(error: generation::Error) -> Self {
        use generation::Error as E;
        match error {
            E::InvalidParameter { param, message } => Self::invalid(param, message),
            E::Unsupported { param, message } => Self::unsupported(param, message),
            E::TextTooLong { ref param, .. } => {
                Self::at(Kind::ContextLengthExceeded, param.clone(), error.to_string())
            }
            E::ContextLengthExceeded { .. } => Self::new(Kind::ContextLengthExceeded, error.to_string()),
            E::Unavailable(message) => Self::new(Kind::NotReady, message),
            E::Timeout(message) => Self::new(Kind::UpstreamTimeout, message),
            E::BadGateway(message) => Self::new(Kind::UpstreamFailed, message),
            E::Overloaded(message) => Self::new(Kind::RateLimited, message),
            E::Internal(detail) => {
                tracing::error!(error = detail, "the backend failed: {detail}");
                Self::internal()
            }
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Syntax(message) => {
                Self::new(Kind::InvalidJson, format!("The request's body is not valid JSON: {message}."))
            }
            ReadError::Shape { path, message } if path.is_empty() => Self {
                // serde names a missing or doubled field in backquotes; the client wants to see it as `param`.
                param: ["missing field `", "duplicate field `"]
                    .iter()
                    .find_map(|start| message.strip_prefix(start)?.split('`').next())
                    .map(Into::into),
                ..Self::new(Kind::InvalidValue, format!("Invalid request: {message}."))
            },
            ReadError::Shape { path, message } => {
                let text = format!("Invalid value for '{path}': {message}.");
                Self::invalid(path, text)
            }
        }
    }
}

/// What an operation failed with. All but what poem may raise in passing are errors of this API.
pub(crate) fn from_poem(error: poem::Error) -> ApiError {
    if let Some(error) = error.downcast_ref::<ApiError>() {
        return error.clone();
    }
    if error.status().is_client_error() {
        return ApiError::new(Kind::InvalidValue, format!("Invalid request: {error}."));
    }
    tracing::error!(%error, "a request failed inside the server: {error}");
    ApiError::internal()
}

/// A body that could not be read to its end.
pub(crate) fn from_io(error: &std::io::Error) -> ApiError {
    if error.kind() == std::io::ErrorKind::TimedOut {
        return ApiError::new(Kind::BodyTimeout, "The request's body did not arrive in time.");
    }
    ApiError::new(Kind::InvalidValue, "The request's body ended before it was whole.")
}

/// OpenAI's error envelope. All four keys are always there.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ErrorResponse {
    pub error: Error,
}

/// What went wrong.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Error {
    /// For people: what is wrong and what to do.
    pub message: String,
    /// `invalid_request_error`, `rate_limit_error` or `server_error`.
    #[serde(rename = "type")]
    #[schemars(with = "String")]
    pub kind: &'static str,
    /// The field at fault, by its path: `messages[2].content`.
    #[schemars(required, extend("nullable" = true))]
    pub param: Option<String>,
    /// For programs: `model_not_found`, `context_length_exceeded`, …
    #[schemars(required, with = "String", extend("nullable" = true))]
    pub code: Option<&'static str>,
}
