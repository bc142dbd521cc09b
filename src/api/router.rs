//! Which operation a URL and a method name.
//!
//! What poem and poem-openapi have for it is not used: it reads the query of each request for parameters that no operation
//! has, answers a wrong method without `Allow`, and compiles a regular expression at the start.

use std::{borrow::Cow, collections::HashMap};

use percent_encoding::percent_decode_str;
use poem::{
    Request, RequestBody, Response,
    endpoint::{BoxEndpoint, DynEndpoint},
    http::Method,
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions, OpenApi,
    registry::{MetaParamIn, MetaSchemaRef},
    types::Type,
};

use super::error::{ApiError, Kind, from_poem};

type Endpoints = HashMap<Method, BoxEndpoint<'static>>;

/// The operations by their paths.
#[derive(Default)]
pub(crate) struct Router {
    whole: HashMap<String, Operations>,
    /// By what their paths begin with. The rest of a path is their parameter.
    beginnings: Vec<(String, Operations)>,
}

/// What one path has.
struct Operations {
    endpoints: Endpoints,
    /// The methods that it has, as `Allow` names them.
    allow: String,
}

impl Router {
    /// The operations of `api`, their paths below `prefix`.
    pub(crate) fn add(&mut self, prefix: &str, api: impl OpenApi) {
        let mut operations = HashMap::new();
        api.add_routes(&mut operations);
        for (path, endpoints) in operations {
            self.insert(format!("{prefix}{path}"), endpoints);
        }
    }

    /// One path. Where it ends in a parameter, `/:name`, that takes the whole rest of a path: a model's id may have
    /// slashes in it.
    pub(crate) fn insert(&mut self, path: String, endpoints: Endpoints) {
        let mut allowed: Vec<&str> = endpoints.keys().map(Method::as_str).collect();
        if endpoints.contains_key(&Method::GET) {
            allowed.push("HEAD");
        }
        allowed.sort_unstable();
        let operations = Operations { allow: allowed.join(", "), endpoints };
        match path.split_once(':') {
            Some((beginning, _)) => self.beginnings.push((beginning.to_owned(), operations)),
            None => {
                let before = self.whole.insert(path, operations);
                debug_assert!(before.is_none(), "a path is there twice");
            }
        }
    }

    /// Answers a request, if it is for one of the operations.
    pub(crate) async fn call(&self, mut request: Request) -> Result<Response, ApiError> {
        let (operations, rest) = self.find(request.uri().path()).ok_or_else(unknown_url)?;
        if let Some(rest) = rest {
            request.set_data(Rest(rest));
        }
        let is_head = request.method() == Method::HEAD;
        if is_head {
            request.set_method(Method::GET);
        }
        let Some(endpoint) = operations.endpoints.get(request.method()) else {
            return Err(ApiError::method_not_allowed(&operations.allow));
        };
        // By the trait object's own name: each smart pointer before it would have a future of its own around its call.
        let mut response = DynEndpoint::call(&**endpoint, request).await.map_err(from_poem)?;
        if is_head {
            response.set_body(());
        }
        Ok(response)
    }

    fn find(&self, path: &str) -> Option<(&Operations, Option<String>)> {
        if let Some(operations) = self.whole.get(path) {
            return Some((operations, None));
        }
        self.beginnings.iter().find_map(|(beginning, operations)| {
            let rest = path.strip_prefix(&**beginning).filter(|rest| !rest.is_empty())?;
            Some((operations, Some(rest.to_owned())))
        })
    }
}

fn unknown_url() -> ApiError {
    ApiError::new(Kind::UnknownUrl, "Unknown request URL. Please check it for typos; /docs lists them all.")
}

/// What of a path its operation does not tell, as it came.
#[derive(Clone)]
struct Rest(String);

/// A model's id at the end of a path, as text.
pub(crate) struct PathId(pub(crate) String);

impl<'a> ApiExtractor<'a> for PathId {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    const PARAM_IS_REQUIRED: bool = true;
    type ParamType = String;
    type ParamRawType = String;

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Path)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(String::schema_ref())
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<String>,
    ) -> poem::Result<Self> {
        let Rest(rest) = request.data().ok_or_else(ApiError::internal)?;
        let id = percent_decode_str(rest).decode_utf8().map(Cow::into_owned);
        let no_text = |_| ApiError::at(Kind::ModelNotFound, "model", "No model has an id like this.");
        Ok(Self(id.map_err(no_text)?))
    }
}
