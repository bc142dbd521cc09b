//! Embeddings.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{error::ApiError, payload::note_unknown, prompt::PromptInput, wire::constant};
use crate::generation::{self, EmbeddingRequest, PromptText, Truncate};

constant! {
    ListObject = "list",
    EmbeddingObject = "embedding",
}

/// Texts to be turned into vectors.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema, garde::Validate)]
#[garde(allow_unvalidated)]
#[schemars(example = serde_json::json!({ "model": "gpt-oss-20b", "input": "Hello!" }))]
pub struct CreateEmbeddingRequest {
    /// One text or up to 2048, as text or as token ids.
    pub input: PromptInput,
    /// The model's id, as `GET /models` lists it.
    pub model: String,
    /// How the vectors are written: numbers, or the bytes of little-endian 32-bit floats in base64.
    pub encoding_format: Option<EncodingFormat>,
    /// Length of the vectors, where the model allows others than its own.
    #[garde(inner(range(min = 1, max = MOST_DIMENSIONS)))]
    #[schemars(range(min = 1, max = MOST_DIMENSIONS))]
    pub dimensions: Option<u32>,
    /// Cut each text, at its end, to so many tokens; -1 cuts it to as many as the model takes. Without this, a text that is
    /// too long is refused. (An extension, vLLM's.)
    #[garde(custom(cut_in_range))]
    #[schemars(range(min = -1, max = u32::MAX))]
    pub truncate_prompt_tokens: Option<i64>,
    /// Whether a text that is too long is cut to as many tokens as the model takes. (An extension,
    /// text-embeddings-inference's.)
    pub truncate: Option<bool>,
    /// Which of the model's own prompts stands before each text: `query`, `document`, … Without this, the model's default,
    /// if it has one. (An extension, text-embeddings-inference's.)
    pub prompt_name: Option<String>,
    /// Accepted; keys are told apart, not users.
    pub user: Option<String>,
    /// Fields that this API does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// -1, or a number of tokens above 0.
#[expect(clippy::ref_option, reason = "the form that garde asks for")]
pub(crate) fn cut_in_range(tokens: &Option<i64>, (): &()) -> garde::Result {
    match tokens {
        Some(tokens) if *tokens != -1 && !(1..=i64::from(u32::MAX)).contains(tokens) => {
            Err(garde::Error::new("neither -1 nor a number of tokens above 0"))
        }
        _ => Ok(()),
    }
}

/// What a checked `truncate_prompt_tokens` and `truncate` mean.
///
/// # Errors
/// They contradict each other.
pub(crate) fn cut(tokens: Option<i64>, truncate: Option<bool>) -> Result<Option<Truncate>, ApiError> {
    match (tokens, truncate) {
        (Some(_), Some(false)) => {
            let message =
                "'truncate' is false, but 'truncate_prompt_tokens' says how texts are cut: leave one out.";
            Err(ApiError::invalid("truncate", message.to_owned()))
        }
        (Some(tokens), _) => Ok(Some(u32::try_from(tokens).map_or(Truncate::ToModel, Truncate::To))),
        (None, Some(true)) => Ok(Some(Truncate::ToModel)),
        (None, _) => Ok(None),
    }
}

const MOST_DIMENSIONS: u32 = 65_536;
/// Texts that one request may have, as at OpenAI.
const MOST_INPUTS: usize = 2048;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncodingFormat {
    #[default]
    Float,
    Base64,
}

/// A vector for each text.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CreateEmbeddingResponse {
    pub object: ListObject,
    pub data: Vec<Embedding>,
    pub model: Arc<str>,
    pub usage: EmbeddingUsage,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Embedding {
    pub object: EmbeddingObject,
    /// The place of the text in the request.
    pub index: u32,
    pub embedding: Vector,
}

/// A vector, written as the request asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Vector {
    Float(Vec<f32>),
    Base64(String),
}

impl JsonSchema for Vector {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EmbeddingVector".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [
                { "type": "array", "items": { "type": "number", "format": "float" } },
                { "type": "string", "description": "Base64 of little-endian 32-bit floats, when asked for." },
            ],
        })
    }
}

/// Tokens in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EmbeddingUsage {
    pub prompt_tokens: u64,
    pub total_tokens: u64,
}

/// What a backend must do, and how the vectors are written.
///
/// # Errors
/// Too many texts.
pub(crate) fn convert(
    request: CreateEmbeddingRequest,
) -> Result<(EmbeddingRequest, EncodingFormat), ApiError> {
    let CreateEmbeddingRequest {
        input,
        model: _,
        encoding_format,
        dimensions,
        truncate_prompt_tokens,
        truncate,
        prompt_name,
        user: _,
        extra,
    } = request;
    note_unknown(&extra);
    let inputs: Vec<PromptText> = input.into_vec();
    if inputs.len() > MOST_INPUTS {
        let message = format!("'input' has {} texts, but may have {MOST_INPUTS}.", inputs.len());
        return Err(ApiError::invalid("input", message));
    }
    let truncate = cut(truncate_prompt_tokens, truncate)?;
    let request = EmbeddingRequest { inputs, dimensions, prompt_name, truncate };
    Ok((request, encoding_format.unwrap_or_default()))
}

pub(crate) fn respond(
    embeddings: generation::Embeddings,
    model: &str,
    format: EncodingFormat,
) -> CreateEmbeddingResponse {
    let write = |vector: Vec<f32>| match format {
        EncodingFormat::Float => Vector::Float(vector),
        EncodingFormat::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            Vector::Base64(STANDARD.encode(bytes))
        }
    };
    let data = (0..).zip(embeddings.vectors).map(|(index, vector)| Embedding {
        object: EmbeddingObject,
        index,
        embedding: write(vector),
    });
    CreateEmbeddingResponse {
        object: ListObject,
        data: data.collect(),
        model: model.into(),
        usage: EmbeddingUsage {
            prompt_tokens: embeddings.prompt_tokens,
            total_tokens: embeddings.prompt_tokens,
        },
    }
}
