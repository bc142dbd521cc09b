//! Documents by how well they answer a query, in the shape that Jina and Cohere gave it and vLLM has.

use std::{borrow::Cow, fmt, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Map, Value};

use super::{
    embeddings::{EmbeddingUsage, cut, cut_in_range},
    error::ApiError,
    payload::note_unknown,
};
use crate::generation::{RerankRequest, Scores};

/// A query, and documents that may answer it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema, garde::Validate)]
#[garde(allow_unvalidated)]
#[schemars(example = serde_json::json!({
    "model": "gpt-oss-20b", "query": "How warm is it?", "documents": ["It is 20 degrees.", "It rains."],
}))]
pub struct CreateRerankRequest {
    /// The model's id, as `GET /models` lists it.
    pub model: String,
    pub query: String,
    /// Texts, or objects with a `text`; up to 2048.
    #[garde(length(min = 1, max = MOST_DOCUMENTS))]
    #[schemars(length(min = 1, max = MOST_DOCUMENTS))]
    pub documents: Vec<Document>,
    /// How many of the best to tell; all when absent or 0.
    pub top_n: Option<u32>,
    /// Repeat the documents in the answer; true when absent.
    pub return_documents: Option<bool>,
    /// Cut query and document, the longer one first, until both have so many tokens together; -1 cuts them to as many as the
    /// model takes. Without this, a pair that is too long is refused. (An extension, vLLM's.)
    #[garde(custom(cut_in_range))]
    #[schemars(range(min = -1, max = u32::MAX))]
    pub truncate_prompt_tokens: Option<i64>,
    /// Whether a pair that is too long is cut, the longer one first, to as many tokens as the model takes. (An extension,
    /// text-embeddings-inference's.)
    pub truncate: Option<bool>,
    /// Not honoured: documents are cut by `truncate_prompt_tokens`.
    pub max_tokens_per_doc: Option<u32>,
    /// Not honoured: a document is scored whole.
    pub max_chunks_per_doc: Option<u32>,
    /// Not honoured: a document's `text` is what is scored.
    pub rank_fields: Option<Vec<String>>,
    /// Fields that this API does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Documents that one request may have, as at Jina.
const MOST_DOCUMENTS: usize = 2048;

/// A text, or the `text` of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Document(String);

struct DocumentReader;

impl<'de> Visitor<'de> for DocumentReader {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an object with a 'text'")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Document, E> {
        Ok(Document(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Document, E> {
        Ok(Document(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Document, A::Error> {
        let object = WithText::deserialize(MapAccessDeserializer::new(object))?;
        Ok(Document(object.text))
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentReader)
    }
}

/// A document as an object.
#[derive(Debug, Deserialize, JsonSchema)]
struct WithText {
    text: String,
}

impl JsonSchema for Document {
    fn schema_name() -> Cow<'static, str> {
        "RerankDocument".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let object = WithText::json_schema(generator);
        json_schema!({ "oneOf": [{ "type": "string", "title": "A text" }, object] })
    }
}

/// The documents, best first.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CreateRerankResponse {
    pub id: String,
    pub model: Arc<str>,
    pub results: Vec<RerankResult>,
    pub usage: EmbeddingUsage,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RerankResult {
    /// The document's place in the request.
    pub index: u32,
    /// Between 0 and 1 for models whose score is a probability, as most are.
    pub relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<RankedDocument>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RankedDocument {
    pub text: String,
}

/// How the answer is made.
pub(crate) struct Delivery {
    top: usize,
    documents: Option<Vec<String>>,
}

/// What a backend must do, and how the answer is made.
///
/// # Errors
/// What is known and not honoured.
pub(crate) fn convert(request: CreateRerankRequest) -> Result<(RerankRequest, Delivery), ApiError> {
    let CreateRerankRequest {
        model: _,
        query,
        documents,
        top_n,
        return_documents,
        truncate_prompt_tokens,
        truncate,
        max_tokens_per_doc,
        max_chunks_per_doc,
        rank_fields,
        extra,
    } = request;
    let refused = [
        (
            max_tokens_per_doc.is_some(),
            "max_tokens_per_doc",
            "give 'truncate_prompt_tokens' to cut what is too long",
        ),
        (max_chunks_per_doc.is_some(), "max_chunks_per_doc", "a document is scored whole"),
        (rank_fields.is_some(), "rank_fields", "give each document's text, or an object with a 'text'"),
    ];
    if let Some((_, name, instead)) = refused.into_iter().find(|(given, _, _)| *given) {
        let message = format!("'{name}' is not supported: leave it out; {instead}.");
        return Err(ApiError::unsupported(name, message));
    }
    note_unknown(&extra);
    let documents: Vec<String> = documents.into_iter().map(|Document(text)| text).collect();
    let top = top_n.filter(|top| *top > 0).map_or(documents.len(), |top| top as usize);
    let returned = return_documents.unwrap_or(true).then(|| documents.clone());
    let truncate = cut(truncate_prompt_tokens, truncate)?;
    let request = RerankRequest { query, documents, truncate };
    Ok((request, Delivery { top, documents: returned }))
}

/// The best first; of equals, the one that came first.
pub(crate) fn respond(scores: Scores, id: String, model: &str, delivery: Delivery) -> CreateRerankResponse {
    let Scores { scores, prompt_tokens } = scores;
    let mut ranked: Vec<(u32, f32)> = (0..).zip(scores).collect();
    ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    ranked.truncate(delivery.top);
    let mut documents = delivery.documents;
    let mut document = |index: u32| {
        let text = documents.as_mut()?.get_mut(index as usize).map(std::mem::take)?;
        Some(RankedDocument { text })
    };
    let results = ranked
        .into_iter()
        .map(|(index, relevance_score)| RerankResult { index, relevance_score, document: document(index) })
        .collect();
    let usage = EmbeddingUsage { prompt_tokens, total_tokens: prompt_tokens };
    CreateRerankResponse { id, model: model.into(), results, usage }
}
