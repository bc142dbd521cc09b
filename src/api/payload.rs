//! JSON bodies in, JSON bodies out.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use poem::{Request, RequestBody, http::header};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    payload::Payload,
    registry::{MetaMediaType, MetaRequest, Registry},
    types::Type,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    App,
    error::{ApiError, Kind, from_io},
    limits::HeldBody,
    wire,
};

/// A request's JSON body: read within the limits, parsed, its ranges checked. Boxed, because it passes through several
/// futures, each of which would have room for it.
pub(crate) struct WireJson<T>(
    pub(crate) Box<T>,
    #[expect(
        dead_code,
        reason = "room that is given back when the request is answered or its stream begins"
    )]
    Arc<HeldBody>,
);

/// A request's body, and its room in memory.
#[derive(Clone)]
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    held: Arc<HeldBody>,
}

impl<T: Type + 'static> Payload for WireJson<T> {
    const CONTENT_TYPE: &'static str = "application/json";

    fn schema_ref() -> poem_openapi::registry::MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<'a, T> ApiExtractor<'a> for WireJson<T>
where
    T: Type + DeserializeOwned + garde::Validate<Context = ()> + 'static,
{
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: Self::CONTENT_TYPE, schema: Self::schema_ref() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        check_headers(request)?;
        let app = App::of(request)?;
        let Whole { bytes, held } = match request.data::<Whole>() {
            // It was looked at whether it is for another server.
            Some(whole) => whole.clone(),
            None => read(request, body, app).await?,
        };
        if app.log_prompts {
            log(&bytes);
        }
        let value: Box<T> = wire::read(&bytes).map_err(ApiError::from)?;
        value.validate().map_err(|report| out_of_range(&report))?;
        Ok(Self(value, held))
    }
}

/// JSON, said so or not said at all; `curl -d` alone says that it sends a form.
pub(crate) fn check_headers(request: &Request) -> Result<(), ApiError> {
    if let Some(media_type) = request.content_type() {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let suffix = essence.rsplit_once('+').map_or("", |(_, suffix)| suffix);
        if !essence.eq_ignore_ascii_case("application/json") && !suffix.eq_ignore_ascii_case("json") {
            let essence = essence.to_ascii_lowercase();
            let message = format!("This URL takes 'content-type: application/json', not '{essence}'.");
            return Err(ApiError::new(Kind::UnsupportedMediaType, message));
        }
    }
    match request.header(header::CONTENT_ENCODING) {
        None | Some("identity" | "") => Ok(()),
        Some(_) => {
            Err(ApiError::new(Kind::UnsupportedMediaType, "Compressed request bodies are not supported."))
        }
    }
}

/// Reads a body within the limits.
pub(crate) async fn read(request: &Request, body: &mut RequestBody, app: &App) -> Result<Whole, ApiError> {
    let mut held = HeldBody::default();
    let bytes = read_into(request, body, app, &mut held).await?;
    Ok(Whole { bytes, held: Arc::new(held) })
}

async fn read_into(
    request: &Request,
    body: &mut RequestBody,
    app: &App,
    held: &mut HeldBody,
) -> Result<Bytes, ApiError> {
    let limit = app.admission.max_body_size();
    let too_large = || {
        let message = format!("The request's body is larger than {limit} bytes, the limit of this server.");
        ApiError::new(Kind::BodyTooLarge, message)
    };
    let announced: Option<usize> =
        request.header(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let body = body.take().map_err(|_| ApiError::internal())?;
    let mut chunks = body.into_bytes_stream();
    let first = chunks.try_next().await.map_err(|error| from_io(&error))?.unwrap_or_default();
    app.admission.hold(held, first.len())?;
    let Some(second) = chunks.try_next().await.map_err(|error| from_io(&error))? else {
        return if first.len() > limit { Err(too_large()) } else { Ok(first) };
    };
    app.admission.hold(held, second.len())?;
    // The announced length is a hint that a client may have made up: memory grows with what really arrives.
    let mut whole =
        BytesMut::with_capacity(announced.unwrap_or(0).min(1 << 20).max(first.len() + second.len()));
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&second);
    while let Some(chunk) = chunks.try_next().await.map_err(|error| from_io(&error))? {
        if whole.len() + chunk.len() > limit {
            return Err(too_large());
        }
        app.admission.hold(held, chunk.len())?;
        whole.extend_from_slice(&chunk);
    }
    if whole.len() > limit { Err(too_large()) } else { Ok(whole.freeze()) }
}

pub(crate) fn log(body: &[u8]) {
    tracing::info!(body = %String::from_utf8_lossy(body), "request body");
}

/// Leaves a trace of the fields that a request brought and that this API does not know.
pub(crate) fn note_unknown(fields: &Map<String, Value>) {
    if !fields.is_empty() {
        let names: Vec<&str> = fields.keys().map(String::as_str).collect();
        tracing::debug!(fields = names.join(","), "unknown fields of a request were ignored");
    }
}

fn out_of_range(report: &garde::Report) -> ApiError {
    match report.iter().next() {
        Some((path, error)) => {
            ApiError::invalid(path.to_string(), format!("Invalid value for '{path}': {error}."))
        }
        None => ApiError::internal(),
    }
}
