//! `POST /chat/completions`: what may be asked for, and what it means to a backend.

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{
    message::{ChatCompletionRequestMessage, TextPart},
    tools::{ChatCompletionFunctions, FunctionCallOption, ResponseFormat, Tool, ToolChoice},
};
use crate::api::wire::{TextOr, constant, nested};

constant! {
    PredictionType = "content",
    ApproximateType = "approximate",
}

/// A conversation to be continued.
///
/// Unknown fields are accepted and ignored; known fields that this server does not honour are refused.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema, garde::Validate)]
#[garde(allow_unvalidated)]
#[schemars(example = super::example())]
pub struct CreateChatCompletionRequest {
    /// The conversation so far.
    #[garde(length(min = 1))]
    #[schemars(length(min = 1))]
    pub messages: Vec<ChatCompletionRequestMessage>,
    /// The model's id, as `GET /models` lists it.
    pub model: String,
    /// Send the answer as server-sent events while it grows.
    pub stream: Option<bool>,
    pub stream_options: Option<StreamOptions>,
    /// Tokens that the answer may have.
    #[garde(inner(range(min = 1, max = MOST)))]
    #[schemars(range(min = 1, max = MOST))]
    pub max_completion_tokens: Option<u32>,
    /// The former name of `max_completion_tokens`, which wins over it.
    #[garde(inner(range(min = 1, max = MOST)))]
    #[schemars(range(min = 1, max = MOST), extend("deprecated" = true))]
    pub max_tokens: Option<u32>,
    /// 0 always takes the likeliest token; higher values draw more freely.
    #[garde(inner(range(min = 0.0, max = 2.0)))]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: Option<f64>,
    /// Draw from the likeliest tokens that together have this probability.
    #[garde(inner(range(min = 0.0, max = 1.0)))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top_p: Option<f64>,
    /// Draw from this many likeliest tokens; -1 and 0 mean all. (An extension.)
    #[garde(inner(range(min = -1, max = MOST as i64)))]
    #[schemars(range(min = -1, max = MOST))]
    pub top_k: Option<i64>,
    /// Draw from tokens with at least this share of the likeliest one's probability. (An extension.)
    #[garde(inner(range(min = 0.0, max = 1.0)))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_p: Option<f64>,
    /// Lowers the logits of tokens by how often they came in the answer.
    #[garde(inner(range(min = -2.0, max = 2.0)))]
    #[schemars(range(min = -2.0, max = 2.0))]
    pub frequency_penalty: Option<f64>,
    /// Lowers the logits of tokens that came in the answer.
    #[garde(inner(range(min = -2.0, max = 2.0)))]
    #[schemars(range(min = -2.0, max = 2.0))]
    pub presence_penalty: Option<f64>,
    /// Divides the logits of tokens that came in prompt or answer; 1 changes nothing. (An extension.)
    #[garde(inner(range(min = 0.01, max = 100.0)))]
    #[schemars(range(min = 0.01, max = 100.0))]
    pub repetition_penalty: Option<f64>,
    /// Added to the logits of token ids, from -100 to 100.
    #[garde(custom(crate::api::sampling::bias_in_range))]
    pub logit_bias: Option<IndexMap<String, f64>>,
    /// With the same seed and the same request, the answer is the same.
    pub seed: Option<i64>,
    /// The answer ends before any of these texts.
    #[garde(custom(crate::api::sampling::few_stops))]
    pub stop: Option<TextOr<String>>,
    /// The answer ends before any of these tokens. (An extension.)
    #[garde(inner(length(max = 1024)))]
    #[schemars(length(max = 1024))]
    pub stop_token_ids: Option<Vec<u32>>,
    /// Tokens that the answer must have before it may end. (An extension.)
    #[garde(inner(range(max = MOST)))]
    #[schemars(range(max = MOST))]
    pub min_tokens: Option<u32>,
    /// Go on past the end that the model sets, up to the limit. (An extension.)
    pub ignore_eos: Option<bool>,
    /// How many answers.
    #[garde(inner(range(min = 1, max = 128)))]
    #[schemars(range(min = 1, max = 128))]
    pub n: Option<u32>,
    /// Tell the logprob of each token of the answer.
    pub logprobs: Option<bool>,
    /// Tell this many of the likeliest tokens at each place; needs `logprobs`.
    #[garde(inner(range(max = 20)))]
    #[schemars(range(max = 20))]
    pub top_logprobs: Option<u32>,
    /// Tools that the model may call.
    #[garde(inner(length(max = 1024)))]
    #[schemars(length(max = 1024))]
    pub tools: Option<Vec<Tool>>,
    pub tool_choice: Option<ToolChoice>,
    /// Whether one answer may call several tools.
    pub parallel_tool_calls: Option<bool>,
    /// The form that the answer must have.
    pub response_format: Option<ResponseFormat>,
    /// How much the model should reason, where its template knows. The template's `enable_thinking` is false with `none`
    /// and true with any other.
    pub reasoning_effort: Option<ReasoningEffort>,
    /// How much the model should say, where its template knows.
    pub verbosity: Option<Verbosity>,
    /// Given to the model's chat template as it stands. (An extension.)
    pub chat_template_kwargs: Option<Map<String, Value>>,
    /// Only `["text"]`.
    pub modalities: Option<Vec<Modality>>,
    /// A guess at the answer. Changes nothing but speed, and here not even that.
    pub prediction: Option<PredictionContent>,
    /// Spoken answers. Not supported.
    pub audio: Option<AudioOptions>,
    /// Search on the web. Not supported.
    pub web_search_options: Option<WebSearchOptions>,
    /// Moderation of input and output. Not supported.
    pub moderation: Option<ModerationParam>,
    /// Superseded by `tools`.
    #[garde(inner(length(min = 1, max = 128)))]
    #[schemars(length(min = 1, max = 128), extend("deprecated" = true))]
    pub functions: Option<Vec<ChatCompletionFunctions>>,
    /// Superseded by `tool_choice`.
    #[schemars(extend("deprecated" = true))]
    pub function_call: Option<FunctionCallOption>,
    /// Accepted; nothing is stored here.
    pub store: Option<bool>,
    /// Accepted and sent back.
    pub metadata: Option<IndexMap<String, String>>,
    /// Accepted; there is one tier.
    pub service_tier: Option<ServiceTier>,
    /// Accepted; keys are told apart, not users.
    #[schemars(extend("deprecated" = true))]
    pub user: Option<String>,
    /// Accepted.
    #[garde(inner(length(chars, max = 64)))]
    #[schemars(length(max = 64))]
    pub safety_identifier: Option<String>,
    /// Accepted; prefixes are found by their tokens.
    pub prompt_cache_key: Option<String>,
    /// Accepted.
    #[schemars(extend("deprecated" = true))]
    pub prompt_cache_retention: Option<CacheRetention>,
    /// Accepted.
    pub prompt_cache_options: Option<PromptCacheOptions>,
    /// Fields that this API does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The largest integer that every client's JSON library has as one.
const MOST: u32 = i32::MAX as u32;

/// What a stream carries besides the answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct StreamOptions {
    /// Send the token counts in a last event of their own.
    pub include_usage: Option<bool>,
    /// Accepted; events are never padded here.
    pub include_obfuscation: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReasoningEffort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl ReasoningEffort {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
            Self::Max => "max",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verbosity {
    Low,
    Medium,
    High,
}

impl Verbosity {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Modality {
    Text,
    Audio,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct PredictionContent {
    #[serde(rename = "type")]
    pub kind: PredictionType,
    pub content: TextOr<TextPart>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct AudioOptions {
    pub voice: Voice,
    pub format: AudioFormat,
}

/// A voice by its name or its id.
#[derive(Debug, Clone, PartialEq)]
pub enum Voice {
    Name(String),
    Custom(CustomVoice),
}

impl<'de> Deserialize<'de> for Voice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        match raw.get().as_bytes().first() {
            Some(b'"') => nested(raw).map(Self::Name),
            _ => nested(raw).map(Self::Custom),
        }
    }
}

impl JsonSchema for Voice {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Voice".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let custom = generator.subschema_for::<CustomVoice>();
        json_schema!({ "oneOf": [{ "type": "string" }, custom] })
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct CustomVoice {
    pub id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AudioFormat {
    Wav,
    Aac,
    Mp3,
    Flac,
    Opus,
    Pcm16,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct WebSearchOptions {
    pub user_location: Option<UserLocation>,
    pub search_context_size: Option<SearchContextSize>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct UserLocation {
    #[serde(rename = "type")]
    pub kind: ApproximateType,
    pub approximate: ApproximateLocation,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ApproximateLocation {
    pub country: Option<String>,
    pub region: Option<String>,
    pub city: Option<String>,
    pub timezone: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SearchContextSize {
    Low,
    Medium,
    High,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ModerationParam {
    pub model: String,
    pub policy: Option<ModerationPolicy>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ModerationPolicy {
    pub input: Option<ModerationConfig>,
    pub output: Option<ModerationConfig>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ModerationConfig {
    pub mode: ModerationMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModerationMode {
    Score,
    Block,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServiceTier {
    Auto,
    Default,
    Flex,
    Scale,
    Priority,
    Fast,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum CacheRetention {
    #[serde(rename = "in_memory")]
    InMemory,
    #[serde(rename = "24h")]
    Day,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct PromptCacheOptions {
    pub ttl: Option<CacheTtl>,
    pub mode: Option<CacheMode>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum CacheTtl {
    #[serde(rename = "30m")]
    HalfAnHour,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CacheMode {
    Implicit,
    Explicit,
}
