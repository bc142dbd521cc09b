//! The answer to a chat request as one JSON object.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::StreamExt;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    convert::Delivery,
    message::{AssistantRole, ChatCompletionMessageToolCall, FunctionCall, FunctionType, MessageToolCall},
    request::ServiceTier,
};
use crate::{
    api::{
        error::ApiError,
        head::Head,
        observe::Exchange,
        usage::CompletionUsage,
        wire::{constant, tagged},
    },
    generation::{Events, FinishReason, GenerationEvent, TokenLogprob},
};

constant! {
    CompletionObject = "chat.completion",
    UrlCitationType = "url_citation",
    ModerationResultsType = "moderation_results",
    ModerationResultType = "moderation_result",
    ModerationErrorType = "error",
}

/// An answered conversation.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CreateChatCompletionResponse {
    pub id: String,
    pub object: CompletionObject,
    /// Seconds since 1970.
    pub created: u64,
    pub model: Arc<str>,
    pub choices: Vec<Choice>,
    pub usage: CompletionUsage,
    /// Names what the answer's bytes depend on.
    pub system_fingerprint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<ServiceTier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<IndexMap<String, String>>,
    /// Never filled by this server's own backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moderation: Option<ChatCompletionModeration>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Choice {
    pub index: u32,
    pub message: ChatCompletionResponseMessage,
    #[schemars(required, extend("nullable" = true))]
    pub logprobs: Option<ChoiceLogprobs>,
    pub finish_reason: ChatFinishReason,
}

/// What the model said.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
pub struct ChatCompletionResponseMessage {
    pub role: AssistantRole,
    #[schemars(required, extend("nullable" = true))]
    pub content: Option<String>,
    #[schemars(required, extend("nullable" = true))]
    pub refusal: Option<String>,
    /// What the model marked as its reasoning. Absent where there is none. (An extension.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The same as `reasoning_content`, for clients that read it here. (An extension.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<MessageToolCall>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function_call: Option<FunctionCall>,
    /// Never filled by this server's own backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Vec<Annotation>>,
    /// Never filled by this server's own backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio: Option<SpokenAnswer>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Annotation {
    #[serde(rename = "type")]
    pub kind: UrlCitationType,
    pub url_citation: UrlCitation,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct UrlCitation {
    pub start_index: u64,
    pub end_index: u64,
    pub url: String,
    pub title: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SpokenAnswer {
    pub id: String,
    pub expires_at: u64,
    pub data: String,
    pub transcript: String,
}

/// Why the answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChatFinishReason {
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
    FunctionCall,
}

impl ChatFinishReason {
    pub(super) fn of(reason: FinishReason, functions: bool) -> Self {
        match reason {
            FinishReason::Stop => Self::Stop,
            FinishReason::Length => Self::Length,
            FinishReason::ToolCalls if functions => Self::FunctionCall,
            FinishReason::ToolCalls => Self::ToolCalls,
        }
    }
}

/// Logprobs of the answer's tokens.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
pub struct ChoiceLogprobs {
    #[schemars(required, extend("nullable" = true))]
    pub content: Option<Vec<ChatCompletionTokenLogprob>>,
    #[schemars(required, extend("nullable" = true))]
    pub refusal: Option<Vec<ChatCompletionTokenLogprob>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ChatCompletionTokenLogprob {
    pub token: String,
    /// Natural logarithm of the probability; -9999 for what cannot come.
    pub logprob: f64,
    #[schemars(required, extend("nullable" = true))]
    pub bytes: Option<Vec<u8>>,
    pub top_logprobs: Vec<AlternativeLogprob>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AlternativeLogprob {
    pub token: String,
    pub logprob: f64,
    #[schemars(required, extend("nullable" = true))]
    pub bytes: Option<Vec<u8>>,
}

impl From<TokenLogprob> for ChatCompletionTokenLogprob {
    fn from(token: TokenLogprob) -> Self {
        let alternative = |top: crate::generation::TopLogprob| AlternativeLogprob {
            token: top.token,
            logprob: top.logprob,
            bytes: Some(top.bytes),
        };
        Self {
            token: token.token,
            logprob: token.logprob.unwrap_or(0.0),
            bytes: Some(token.bytes),
            top_logprobs: token.top.into_iter().map(alternative).collect(),
        }
    }
}

/// What a moderation model found.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ChatCompletionModeration {
    pub input: ModerationOutcome,
    pub output: ModerationOutcome,
}

tagged! {
    /// Findings or a failure, told apart by `type`.
    #[derive(Serialize)]
    #[serde(untagged)]
    ModerationOutcome by "type" {
        "moderation_results" => Results(ChatCompletionModerationResults),
        "error" => Error(ChatCompletionModerationError),
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize, JsonSchema)]
pub struct ChatCompletionModerationResults {
    #[serde(rename = "type")]
    pub kind: ModerationResultsType,
    pub model: String,
    pub results: Vec<ModerationResultBody>,
}

#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize, JsonSchema)]
pub struct ModerationResultBody {
    #[serde(rename = "type")]
    pub kind: ModerationResultType,
    pub model: String,
    pub flagged: bool,
    pub categories: BTreeMap<String, bool>,
    pub category_scores: BTreeMap<String, f64>,
    pub category_applied_input_types: BTreeMap<String, Vec<ModerationInputType>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModerationInputType {
    Text,
    Image,
}

#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize, JsonSchema)]
pub struct ChatCompletionModerationError {
    #[serde(rename = "type")]
    pub kind: ModerationErrorType,
    pub code: String,
    pub message: String,
}

/// One choice while its events come in.
#[derive(Default)]
struct Draft {
    message: ChatCompletionResponseMessage,
    calls: Vec<ChatCompletionMessageToolCall>,
    logprobs: Vec<ChatCompletionTokenLogprob>,
    finish: Option<FinishReason>,
}

fn draft(drafts: &mut [Draft], choice: u32) -> Result<&mut Draft, ApiError> {
    drafts.get_mut(choice as usize).ok_or_else(ApiError::internal)
}

/// Gathers a generation into one answer.
///
/// # Errors
/// Whatever ends the generation early.
pub(crate) async fn collect(
    mut events: Events,
    choices: u32,
    head: Head,
    delivery: Delivery,
    exchange: &Exchange,
) -> Result<CreateChatCompletionResponse, ApiError> {
    let mut drafts: Vec<Draft> = (0..choices).map(|_| Draft::default()).collect();
    let mut usage = None;
    while let Some(event) = events.next().await {
        let event = event?;
        exchange.saw(&event);
        match event {
            GenerationEvent::Text { choice, text, logprobs } => {
                let draft = draft(&mut drafts, choice)?;
                match &mut draft.message.content {
                    Some(content) => content.push_str(&text),
                    none => *none = Some(text),
                }
                draft.logprobs.extend(logprobs.into_iter().map(Into::into));
            }
            GenerationEvent::Reasoning { choice, text } => {
                draft(&mut drafts, choice)?.message.reasoning_content.get_or_insert_default().push_str(&text);
            }
            GenerationEvent::ToolCall { choice, index: _, id, name } => {
                let function = FunctionCall { name, arguments: String::new() };
                draft(&mut drafts, choice)?.calls.push(ChatCompletionMessageToolCall {
                    id,
                    kind: FunctionType,
                    function,
                });
            }
            GenerationEvent::ToolArguments { choice, index, piece } => {
                let call = draft(&mut drafts, choice)?
                    .calls
                    .get_mut(index as usize)
                    .ok_or_else(ApiError::internal)?;
                call.function.arguments.push_str(&piece);
            }
            GenerationEvent::Finished { choice, reason } => draft(&mut drafts, choice)?.finish = Some(reason),
            GenerationEvent::Done(counted) => usage = Some(counted),
        }
    }
    let usage = usage.ok_or_else(ApiError::internal)?;
    let choices =
        (0..).zip(drafts).map(|(index, draft)| finish(index, draft, &delivery)).collect::<Result<_, _>>()?;
    Ok(CreateChatCompletionResponse {
        id: head.id,
        object: CompletionObject,
        created: head.created,
        model: head.model,
        choices,
        usage: usage.into(),
        system_fingerprint: head.fingerprint,
        service_tier: None,
        metadata: delivery.metadata,
        moderation: None,
    })
}

fn finish(index: u32, draft: Draft, delivery: &Delivery) -> Result<Choice, ApiError> {
    let Draft { mut message, calls, logprobs, finish } = draft;
    let finish = finish.ok_or_else(ApiError::internal)?;
    message.reasoning.clone_from(&message.reasoning_content);
    if calls.is_empty() {
        message.content.get_or_insert_default();
    } else if delivery.functions {
        message.function_call = calls.into_iter().next().map(|call| call.function);
    } else {
        message.tool_calls = Some(calls.into_iter().map(MessageToolCall::Function).collect());
    }
    let logprobs = delivery.logprobs.then_some(ChoiceLogprobs { content: Some(logprobs), refusal: None });
    let finish_reason = ChatFinishReason::of(finish, delivery.functions);
    Ok(Choice { index, message, logprobs, finish_reason })
}
