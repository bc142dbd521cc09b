//! The OpenAPI document: operations from poem-openapi, schemas from schemars.

use std::collections::HashMap;

use poem::{endpoint::BoxEndpoint, http::Method};
use poem_openapi::{
    OpenApi, OpenApiService,
    registry::{MetaApi, MetaSchema, Registry},
};
use serde_json::{Map, Value};

use super::{
    routes::{Root, V1},
    schema,
};
use crate::backend::passthrough::OPERATIONS;

const DESCRIPTION: &str = "An OpenAI-compatible API from one machine. Every failure is OpenAI's error envelope; every \
                           answer has an `x-request-id`. Unknown fields of a request are accepted and ignored; known \
                           fields that a backend does not honour are refused. What is asked of a model that another \
                           server answers for is passed on to it unchecked.";

/// The document as JSON text, its operations under `prefix`.
#[must_use]
pub fn openapi_document(prefix: &str) -> String {
    // Only the operations' metadata is used, which no instance is needed for.
    let text = OpenApiService::new(Described, "sconce", env!("CARGO_PKG_VERSION")).spec();
    // poem-openapi has just written it: it is an object with these members.
    let mut document: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
    let under = V1::paths();
    if let Some(Value::Object(paths)) = document.get_mut("paths") {
        *paths = std::mem::take(paths)
            .into_iter()
            .map(
                |(path, item)| {
                    if under.contains(&path) { (format!("{prefix}{path}"), item) } else { (path, item) }
                },
            )
            .collect();
    }
    let components = document.entry("components").or_insert_with(|| Value::Object(Map::new()));
    components["schemas"] = Value::Object(schema::components());
    document.insert(
        "info".to_owned(),
        serde_json::json!({
            "title": "sconce",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!("{DESCRIPTION} {}", only_elsewhere(prefix, &under)),
            "license": { "name": "MIT OR Apache-2.0" },
        }),
    );
    document.insert("servers".to_owned(), serde_json::json!([{ "url": "/" }]));
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

/// Operations that only other servers have, so that they have no schema here.
fn only_elsewhere(prefix: &str, own: &[String]) -> String {
    let others = OPERATIONS.iter().filter(|path| !own.iter().any(|own| own == *path));
    let others: Vec<String> = others.map(|path| format!("`POST {prefix}{path}`")).collect();
    format!(
        "For such models alone there are besides {}: each takes a JSON object with the model's id as `model` (of \
         `{prefix}/audio/transcriptions` and `{prefix}/audio/translations`, a form with such a field), and the rest is \
         as that server has it.",
        others.join(", ")
    )
}

/// Both groups of operations, for their metadata.
struct Described;

impl OpenApi for Described {
    fn meta() -> Vec<MetaApi> {
        <(V1, Root)>::meta()
    }

    fn register(registry: &mut Registry) {
        <(V1, Root)>::register(registry);
        // poem-openapi wants every schema that is referred to; the real ones are put in afterwards.
        let names = schema::components().into_iter().map(|(name, _)| (name, MetaSchema::ANY));
        registry.schemas.extend(names);
    }

    fn add_routes(self, _: &mut HashMap<String, HashMap<Method, BoxEndpoint<'static>>>) {}
}
