//! What the model really sees: text to token ids and back, in vLLM's shape.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    chat::{ChatCompletionRequestMessage, Tool, function_tools},
    error::ApiError,
};
use crate::generation::{Chat, PromptText, ResponseFormat, ToolChoice};

/// A prompt, or a conversation, to be cut into tokens.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema, garde::Validate)]
#[garde(allow_unvalidated)]
#[schemars(example = serde_json::json!({ "model": "gpt-oss-20b", "prompt": "Hello!" }))]
pub struct TokenizeRequest {
    /// The model's id, as `GET /models` lists it.
    pub model: String,
    /// A raw prompt. Either this or `messages`.
    pub prompt: Option<String>,
    /// A conversation, as the model's chat template renders it. Either this or `prompt`.
    #[garde(inner(length(min = 1)))]
    #[schemars(length(min = 1))]
    pub messages: Option<Vec<ChatCompletionRequestMessage>>,
    /// Tools that the template may describe.
    pub tools: Option<Vec<Tool>>,
    /// End with what opens the model's answer; true when absent.
    pub add_generation_prompt: Option<bool>,
    /// Given to the chat template as it stands.
    pub chat_template_kwargs: Option<Map<String, Value>>,
}

/// The tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TokenizeResponse {
    pub tokens: Vec<u32>,
    pub count: u64,
    /// Tokens of prompt and completion together that the model takes.
    pub max_model_len: u32,
}

/// Token ids to be turned back into text.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema, garde::Validate)]
#[garde(allow_unvalidated)]
#[schemars(example = serde_json::json!({ "model": "gpt-oss-20b", "tokens": [72, 105] }))]
pub struct DetokenizeRequest {
    /// The model's id, as `GET /models` lists it.
    pub model: String,
    #[schemars(inner(range(max = u32::MAX)))]
    pub tokens: Vec<u32>,
}

/// The text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DetokenizeResponse {
    pub prompt: String,
}

/// What is to be cut into tokens.
pub(crate) enum Subject {
    Prompt(PromptText),
    Chat(Box<Chat>),
}

/// # Errors
/// Neither `prompt` nor `messages`, or both; tools that are not supported.
pub(crate) fn convert(request: TokenizeRequest) -> Result<Subject, ApiError> {
    let TokenizeRequest { model: _, prompt, messages, tools, add_generation_prompt, chat_template_kwargs } =
        request;
    match (prompt, messages) {
        (Some(prompt), None) => Ok(Subject::Prompt(PromptText::Text(prompt))),
        (None, Some(messages)) => Ok(Subject::Chat(Box::new(Chat {
            messages: messages.into_iter().map(Into::into).collect(),
            tools: function_tools(tools.unwrap_or_default())?,
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            response_format: ResponseFormat::Text,
            reasoning_effort: None,
            verbosity: None,
            template_kwargs: chat_template_kwargs.unwrap_or_default(),
            add_generation_prompt: add_generation_prompt.unwrap_or(true),
        }))),
        (None, None) => Err(ApiError::invalid("prompt", "Give a 'prompt' or 'messages' to be tokenized.")),
        (Some(_), Some(_)) => Err(ApiError::invalid("prompt", "'prompt' and 'messages' exclude each other.")),
    }
}
