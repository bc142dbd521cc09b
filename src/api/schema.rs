//! The bridge from wire types (serde and schemars) to poem-openapi.
//!
//! poem-openapi writes the operations; each wire type appears there as a reference, and its schema comes straight from
//! schemars into the document's components (see [`super::document`]). So one definition reads, writes and documents.

use std::borrow::Cow;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value};

/// Makes wire types usable wherever poem-openapi wants a `Type`, and lists them for the document.
macro_rules! wire_types {
    ($($type:ty),+ $(,)?) => {
        $(impl poem_openapi::types::Type for $type {
            const IS_REQUIRED: bool = true;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> std::borrow::Cow<'static, str> {
                <$type as schemars::JsonSchema>::schema_name()
            }

            fn schema_ref() -> poem_openapi::registry::MetaSchemaRef {
                $crate::api::schema::reference::<$type>()
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(std::iter::once(self))
            }
        })+

        fn add_all(generator: &mut schemars::SchemaGenerator) {
            $(let _ = generator.subschema_for::<$type>();)+
        }
    };
}

use super::{chat, completions, embeddings, error, health, models, rerank, tokenize};

wire_types!(
    chat::CreateChatCompletionRequest,
    chat::CreateChatCompletionResponse,
    chat::CreateChatCompletionStreamResponse<'static>,
    completions::CreateCompletionRequest,
    completions::CreateCompletionResponse,
    embeddings::CreateEmbeddingRequest,
    embeddings::CreateEmbeddingResponse,
    rerank::CreateRerankRequest,
    rerank::CreateRerankResponse,
    models::ListModelsResponse,
    models::Model,
    tokenize::TokenizeRequest,
    tokenize::TokenizeResponse,
    tokenize::DetokenizeRequest,
    tokenize::DetokenizeResponse,
    health::Health,
    error::ErrorResponse,
);

pub(crate) fn reference<T: JsonSchema>() -> poem_openapi::registry::MetaSchemaRef {
    poem_openapi::registry::MetaSchemaRef::Reference(Cow::into_owned(T::schema_name()))
}

/// `components.schemas` of the document: every wire type and what it is made of, in OpenAPI 3.0's dialect.
pub(crate) fn components() -> Map<String, Value> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    add_all(&mut generator);
    let mut schemas = generator.take_definitions(true);
    schemas.values_mut().for_each(tidy);
    schemas.sort_keys();
    schemas
}

/// Rust's number formats (`uint32`, `double`) mean nothing to clients; `additionalProperties: true` is the default.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let keep = ["int64", "float", "date", "uri", "password", "byte"];
            if let Some(Value::String(format)) = object.get("format")
                && !keep.contains(&format.as_str())
                && object.contains_key("type")
            {
                object.shift_remove("format");
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(values) => values.iter_mut().for_each(tidy),
        _ => {}
    }
}
