//! Which web pages may call: cross-origin resource sharing.

use poem::{
    Request, Response,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which web pages may call from a browser. Off while no origin is allowed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Config {
    /// Origins such as `https://chat.example.org`, or `*` for all.
    pub allowed_origins: Vec<String>,
}

/// Headers that a page's script may read.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, openai-processing-ms, openai-version, retry-after, retry-after-ms",
);
/// Seconds for which a browser may remember a preflight.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");

impl Config {
    /// The origin that the answer to `request` must name, where its page may call.
    pub(crate) fn allowed(&self, request: &Request) -> Option<HeaderValue> {
        let origin = request.headers().get(header::ORIGIN)?;
        let allowed =
            self.allowed_origins.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin);
        allowed.then(|| origin.clone())
    }

    /// The answer to a preflight, which allows just what it asks for: SDKs send a dozen headers of their own.
    pub(crate) fn preflight(&self, request: &Request) -> Option<Response> {
        if self.allowed_origins.is_empty() || request.method() != Method::OPTIONS {
            return None;
        }
        let method = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        let mut response = Response::builder().status(StatusCode::NO_CONTENT).finish();
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("access-control-request-headers"));
        if self.allowed(request).is_some() {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
            if let Some(asked) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
            }
        }
        Some(response)
    }

    /// Lets the page of `origin` read the answer. Caches must tell answers by their origin wherever one may matter.
    pub(crate) fn share(&self, headers: &mut HeaderMap, origin: Option<HeaderValue>) {
        if self.allowed_origins.is_empty() {
            return;
        }
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}
