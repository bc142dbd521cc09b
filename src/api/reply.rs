//! Answers as poem-openapi documents them: what a 200 holds, and every failure with its envelope.

use std::marker::PhantomData;

use poem::{Body, IntoResponse, Response, http::StatusCode};
use poem_openapi::{
    ApiResponse,
    registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};
use serde::Serialize;

use super::{
    error::{ApiError, ErrorResponse},
    health,
    schema::reference,
};

/// What a successful answer may hold.
pub(crate) trait Content {
    /// A 503 has the same object as a 200.
    const UNWELL: bool = false;

    fn media_types() -> Vec<MetaMediaType>;

    /// The statuses besides 200, each with what it means here.
    fn failures() -> &'static [(u16, &'static str)];
}

/// The answer to a request with a body: a JSON object.
pub(crate) struct Json<T>(PhantomData<T>);

/// The same, or events `E` when the request asks for a stream.
pub(crate) struct JsonOrEvents<T, E>(PhantomData<(T, E)>);

/// The answer to a request without a body.
pub(crate) struct Page<T>(PhantomData<T>);

/// The answer of a health check: the same object whether it is well or not.
pub(crate) struct Health;

/// Plain text, for programs.
pub(crate) struct Text;

const INVALID_KEY: (u16, &str) = (401, "The API key is missing or wrong.");
const INTERNAL: (u16, &str) = (500, "The server failed; its log says more.");

const WITH_BODY: [(u16, &str); 11] = [
    (
        400,
        "The request is malformed, out of range, too long for the model, or asks for what is not supported.",
    ),
    INVALID_KEY,
    (404, "No such model; the message names those that are served."),
    (408, "The body did not arrive in time."),
    (413, "The body is larger than the server takes."),
    (415, "The body is not `application/json`."),
    (429, "Too many requests at once; try again after `retry-after` seconds."),
    INTERNAL,
    (502, "Another server makes this model's answers, and failed."),
    (503, "The model is not ready, or the server is shutting down."),
    (504, "Another server makes this model's answers, and took too long."),
];

const WITHOUT_BODY: [(u16, &str); 3] = [INVALID_KEY, (404, "No such model."), INTERNAL];

impl<T: Type> Content for Json<T> {
    fn media_types() -> Vec<MetaMediaType> {
        vec![MetaMediaType { content_type: "application/json", schema: T::schema_ref() }]
    }

    fn failures() -> &'static [(u16, &'static str)] {
        &WITH_BODY
    }
}

impl<T: Type, E: Type> Content for JsonOrEvents<T, E> {
    fn media_types() -> Vec<MetaMediaType> {
        let event = MetaSchema {
            items: Some(Box::new(E::schema_ref())),
            description: Some("Server-sent events: each `data: <object>`, the last `data: [DONE]`."),
            ..MetaSchema::new("array")
        };
        let events = MetaMediaType {
            content_type: "text/event-stream",
            schema: MetaSchemaRef::Inline(Box::new(event)),
        };
        Json::<T>::media_types().into_iter().chain([events]).collect()
    }

    fn failures() -> &'static [(u16, &'static str)] {
        &WITH_BODY
    }
}

impl<T: Type> Content for Page<T> {
    fn media_types() -> Vec<MetaMediaType> {
        Json::<T>::media_types()
    }

    fn failures() -> &'static [(u16, &'static str)] {
        &WITHOUT_BODY
    }
}

impl Content for Text {
    fn media_types() -> Vec<MetaMediaType> {
        let schema = MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")));
        vec![MetaMediaType { content_type: "text/plain", schema }]
    }

    fn failures() -> &'static [(u16, &'static str)] {
        &[INVALID_KEY]
    }
}

impl Content for Health {
    const UNWELL: bool = true;

    fn media_types() -> Vec<MetaMediaType> {
        Json::<health::Health>::media_types()
    }

    fn failures() -> &'static [(u16, &'static str)] {
        &[]
    }
}

/// An answer whose content is documented by `C`.
pub(crate) struct Reply<C> {
    response: Response,
    content: PhantomData<C>,
}

impl<C> Reply<C> {
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(value).map_err(|error| {
            tracing::error!(%error, "an answer could not be written as JSON: {error}");
            ApiError::internal()
        })?;
        Ok(Self::new(Response::builder().content_type("application/json").body(body)))
    }

    pub(crate) fn new(response: Response) -> Self {
        Self { response, content: PhantomData }
    }
}

impl Reply<Text> {
    pub(crate) fn text(text: String) -> Self {
        Self::new(Response::builder().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
    }
}

impl Reply<Health> {
    pub(crate) fn health(health: &health::Health) -> Result<Self, ApiError> {
        let mut reply = Self::json(health)?;
        if health.status == health::Status::Unavailable {
            reply.response.set_status(StatusCode::SERVICE_UNAVAILABLE);
        }
        Ok(reply)
    }
}

impl<T, E> Reply<JsonOrEvents<T, E>> {
    /// Events as they stand; see [`super::sse`].
    pub(crate) fn events(body: Body) -> Self {
        let head = Response::builder()
            .content_type("text/event-stream")
            .header("cache-control", "no-cache")
            .header("x-accel-buffering", "no");
        Self::new(head.body(body))
    }
}

impl<C: Send> IntoResponse for Reply<C> {
    fn into_response(self) -> Response {
        self.response
    }
}

impl<C: Content> ApiResponse for Reply<C> {
    fn meta() -> MetaResponses {
        let ok = MetaResponse {
            description: "The answer.",
            status: Some(200),
            status_range: None,
            content: C::media_types(),
            headers: vec![header("x-request-id", "Names the request in the server's log.")],
        };
        let unwell = C::UNWELL.then(|| MetaResponse {
            description: "Not now; the reason is told.",
            status: Some(503),
            status_range: None,
            content: C::media_types(),
            headers: vec![],
        });
        let failures = C::failures().iter().map(|(status, description)| MetaResponse {
            description,
            status: Some(*status),
            status_range: None,
            content: vec![MetaMediaType {
                content_type: "application/json",
                schema: reference::<ErrorResponse>(),
            }],
            headers: match status {
                401 => vec![header("WWW-Authenticate", "How to authenticate.")],
                429 | 503 => vec![header("retry-after", "Seconds to wait before another try.")],
                _ => vec![],
            },
        });
        MetaResponses { responses: std::iter::once(ok).chain(failures).chain(unwell).collect() }
    }

    fn register(_: &mut Registry) {}
}

fn header(name: &str, description: &str) -> MetaHeader {
    MetaHeader {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        required: true,
        deprecated: false,
        schema: MetaSchemaRef::Inline(Box::new(MetaSchema::new("string"))),
    }
}
