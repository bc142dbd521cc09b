//! Requests for models whose answers another server makes: checked, limited and logged like all others, then handed on
//! unparsed.

mod failure;
mod relay;
mod subject;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, header};
use http_body_util::{BodyExt, combinators::BoxBody};
use poem::{Body, Request, RequestBody, Response, http::Method};
use serde::de::IgnoredAny;
use tokio_util::sync::CancellationToken;

use self::{
    relay::{Events, Framing, Rest, Source},
    subject::Subject,
};
use super::{
    App,
    auth::{Caller, Entry},
    error::{ApiError, Kind},
    limits::{Admitted, Slot},
    observe::Exchange,
    payload,
    router::Router,
    routes::{V1, unknown_model},
};
use crate::{
    backend::{
        Registry as Models,
        passthrough::{Forward, Forwarded, ForwardedBody, OPERATIONS, Unanswered},
    },
    generation,
};

/// A JSON answer of up to this size is looked at whole before its status is passed on: until then its server may still
/// fail in the middle of it.
const HELD: usize = 1 << 20;
/// One that nothing but the end of the connection ends is always looked at whole, which tells its end from an accident.
const LARGEST_UNDELIMITED: usize = 64 << 20;

/// Stands before the routes, and answers what is asked of models of other servers.
pub(crate) struct Forwarding {
    prefix: String,
    models: Models,
    /// The server's end.
    cut: CancellationToken,
    /// Those of the operations that the routes have too.
    own: Vec<&'static str>,
}

impl Forwarding {
    pub(crate) fn new(prefix: String, models: Models, cut: CancellationToken) -> Self {
        let routes = V1::paths();
        let is_own = |path: &&str| routes.iter().any(|own| own == path);
        Self { prefix, models, cut, own: OPERATIONS.into_iter().filter(is_own).collect() }
    }

    /// The operation, if it is one that another server may have to answer.
    pub(crate) fn operation(&self, request: &Request) -> Option<&'static str> {
        let path = request.uri().path().strip_prefix(&*self.prefix)?;
        let path = OPERATIONS.into_iter().find(|operation| *operation == path)?;
        // The router refuses other methods of its paths.
        let is_here = request.method() == Method::POST || !self.own.contains(&path);
        // Models may come with a reload.
        (is_here && self.models.has_passthrough()).then_some(path)
    }

    /// Answers an operation: by the model's server, or by `router`'s where the model is one of this server's.
    pub(crate) async fn answer(
        &self,
        path: &'static str,
        mut request: Request,
        router: &Router,
    ) -> Result<Response, ApiError> {
        if request.method() != Method::POST {
            return Err(ApiError::method_not_allowed("POST"));
        }
        let caller = Caller::check(&request)?;
        let admitted = Admitted::enter(&request, caller.clone())?;
        let app = Arc::clone(App::of(&request)?);
        let exchange = super::exchange(&request)?;
        let mut body = RequestBody::new(request.take_body());
        let content_type = request.content_type().unwrap_or_default();
        let is_form = path.starts_with("/audio/") && content_type.starts_with("multipart/form-data");
        if !is_form {
            payload::check_headers(&request)?;
        }
        let whole = payload::read(&request, &mut body, &app).await?;
        let bytes = &whole.bytes;
        let subject = if is_form {
            Subject::of_form(bytes, request.content_type().unwrap_or_default())?
        } else {
            Subject::of_json(bytes)?
        };
        let Some(model) = self.models.passthrough(&subject.model) else {
            if !self.own.contains(&path) {
                return Err(self.has_not(&subject.model));
            }
            // What was checked and read is not checked and read again.
            request.set_data(caller);
            request.set_data(whole);
            return router.call(request).await;
        };
        if app.log_prompts {
            payload::log(bytes);
        }
        exchange.model(&subject.model);
        let slot = admitted.turn(model.lease()).await?;
        let forward = Forward {
            id: subject.model,
            path,
            query: request.uri().query().map(str::to_owned),
            headers: std::mem::take(request.headers_mut()),
            body: bytes.clone(),
            model: subject.field,
            conversation: subject.conversation,
            request_id: exchange.id.clone(),
        };
        self.forward(forward, slot, exchange).await
    }

    /// Why an operation that only other servers have is not there for a model.
    fn has_not(&self, model: &str) -> ApiError {
        if self.models.find(model).is_none() {
            return unknown_model(&self.models, model);
        }
        let message = format!("The backend of '{model}' does not have this operation.");
        ApiError::unsupported("model", message)
    }

    async fn forward(
        &self,
        forward: Forward,
        slot: Slot,
        exchange: Arc<Exchange>,
    ) -> Result<Response, ApiError> {
        let path = forward.path;
        let through = slot.backend().passthrough().ok_or_else(ApiError::internal)?;
        let answer = through.forward(forward).await.map_err(|Unanswered { upstream, error }| {
            if let Some(upstream) = upstream {
                exchange.upstream(&upstream);
            }
            ApiError::from(error)
        })?;
        let Forwarded { upstream, status, mut headers, body, is_private, ends_with_connection } = answer;
        exchange.upstream(&upstream);
        if !status.is_success() {
            exchange.refused(&format!("upstream status {}", status.as_u16()));
            let body = body.collect().await.map_err(ApiError::from)?.to_bytes();
            let body = if is_private(&body) { Bytes::new() } else { body };
            return Ok(failure::response(status, headers, body));
        }
        let is_audio = path.starts_with("/audio/");
        let encoding = headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
        if !is_audio && encoding.is_some_and(|encoding| !matches!(encoding, b"" | b"identity")) {
            // Nobody asked for that, and what is in it cannot be looked at.
            return Err(not_an_answer());
        }
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is = |media_type: &str| {
            kind.get(..media_type.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(media_type))
        };
        let body = if is("text/event-stream") {
            // Buffering between here and the client would undo a stream.
            headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
            let typed = ["/responses", "/messages"].contains(&path);
            let framing = if typed { Framing::Typed } else { Framing::Plain };
            // Streams of sound and of its text end with events of their own.
            let wants_done = ends_with_connection && !is_audio;
            let source = Source { body, framing, wants_done, is_private };
            boxed(Events::new(source, slot, exchange, self.cut.clone()))
        } else if is("application/json") {
            let most = if ends_with_connection { LARGEST_UNDELIMITED } else { HELD };
            match gather(body, most).await.map_err(ApiError::from)? {
                (whole, None) => {
                    serde_json::from_slice::<IgnoredAny>(&whole).map_err(|_| not_an_answer())?;
                    whole.into()
                }
                (_, Some(_)) if ends_with_connection => return Err(not_an_answer()),
                (first, Some(rest)) => boxed(Rest::new(first, rest, slot, self.cut.clone())),
            }
        } else if is_audio {
            boxed(Rest::new(Bytes::new(), body, slot, self.cut.clone()))
        } else {
            return Err(not_an_answer());
        };
        let mut response = Response::builder().status(status).body(body);
        *response.headers_mut() = headers;
        Ok(response)
    }
}

fn boxed(body: impl http_body::Body<Data = Bytes, Error = std::io::Error> + Send + Sync + 'static) -> Body {
    Body::from(BoxBody::new(body))
}

fn not_an_answer() -> ApiError {
    ApiError::new(Kind::UpstreamFailed, "The upstream server answered with what is no answer of this API.")
}

/// The whole of a body that is not long; of a longer one, what has been read of it, and the rest.
async fn gather(
    mut body: ForwardedBody,
    most: usize,
) -> Result<(Bytes, Option<ForwardedBody>), generation::Error> {
    if http_body::Body::size_hint(&body).lower() > most as u64 {
        return Ok((Bytes::new(), Some(body)));
    }
    let mut read = Bytes::new();
    let mut more = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame?.into_data() else { continue };
        // Most answers come in one piece, which is then not copied.
        if read.is_empty() && more.is_empty() {
            read = piece;
            continue;
        }
        if more.is_empty() {
            more.extend_from_slice(&read);
        }
        more.extend_from_slice(&piece);
        if more.len() > most {
            return Ok((more.freeze(), Some(body)));
        }
    }
    Ok((if more.is_empty() { read } else { more.freeze() }, None))
}
