//! The answer to a chat request as events.

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    convert::Delivery,
    message::FunctionType,
    request::ServiceTier,
    response::{ChatCompletionModeration, ChatCompletionTokenLogprob, ChatFinishReason, ChoiceLogprobs},
};
use crate::{
    api::{
        head::Head,
        sse::{self, Encoder, Frame},
        usage::CompletionUsage,
        wire::constant,
    },
    generation::{GenerationEvent, TokenLogprob},
};

constant! {
    ChunkObject = "chat.completion.chunk",
}

/// One event of a streamed answer.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CreateChatCompletionStreamResponse<'a> {
    pub id: &'a str,
    pub object: ChunkObject,
    /// Seconds since 1970.
    pub created: u64,
    pub model: &'a str,
    pub system_fingerprint: &'a str,
    pub choices: Vec<ChunkChoice>,
    /// The counts in the last event, null in those before; absent unless asked for by `stream_options`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<CompletionUsage>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<ServiceTier>,
    /// Never filled by this server's own backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub obfuscation: Option<String>,
    /// Never filled by this server's own backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moderation: Option<ChatCompletionModeration>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ChunkChoice {
    pub index: u32,
    pub delta: ChatCompletionStreamResponseDelta,
    #[schemars(required, extend("nullable" = true))]
    pub logprobs: Option<ChoiceLogprobs>,
    #[schemars(required, extend("nullable" = true))]
    pub finish_reason: Option<ChatFinishReason>,
}

/// What has come since the event before.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
pub struct ChatCompletionStreamResponseDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<DeltaRole>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// What the model marked as its reasoning. (An extension.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The same as `reasoning_content`, for clients that read it here. (An extension.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ChatCompletionMessageToolCallChunk>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function_call: Option<FunctionCallChunk>,
}

/// Who speaks; this server's own backends say `assistant`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeltaRole {
    Developer,
    System,
    User,
    Assistant,
    Tool,
}

/// A tool call, or a piece of its arguments.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ChatCompletionMessageToolCallChunk {
    pub index: u32,
    /// In the call's first event only, as are `type` and the function's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<FunctionType>,
    pub function: FunctionCallChunk,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
pub struct FunctionCallChunk {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
}

/// A chunk of no choices.
fn chunk(head: &Head, usage: Option<Option<CompletionUsage>>) -> CreateChatCompletionStreamResponse<'_> {
    CreateChatCompletionStreamResponse {
        id: &head.id,
        object: ChunkObject,
        created: head.created,
        model: &head.model,
        system_fingerprint: &head.fingerprint,
        choices: vec![],
        usage,
        service_tier: None,
        obfuscation: None,
        moderation: None,
    }
}

/// Writes a generation's events as chunks.
pub(crate) struct ChatEncoder {
    head: Head,
    delivery: Delivery,
    choices: u32,
    frame: Frame,
}

impl ChatEncoder {
    pub(crate) fn new(head: Head, delivery: Delivery, choices: u32) -> Self {
        let frame = Frame::of(&chunk(&head, delivery.include_usage.then_some(None)));
        Self { head, delivery, choices, frame }
    }

    fn delta(
        &self,
        index: u32,
        delta: ChatCompletionStreamResponseDelta,
        logprobs: Vec<TokenLogprob>,
        out: &mut Vec<u8>,
    ) {
        let logprobs = (self.delivery.logprobs && !logprobs.is_empty()).then(|| ChoiceLogprobs {
            content: Some(logprobs.into_iter().map(ChatCompletionTokenLogprob::from).collect()),
            refusal: None,
        });
        self.frame.data(&ChunkChoice { index, delta, logprobs, finish_reason: None }, out);
    }

    fn call(
        &self,
        choice: u32,
        index: u32,
        opening: Option<(String, String)>,
        arguments: String,
        out: &mut Vec<u8>,
    ) {
        let (id, name) = opening.unzip();
        let kind = id.is_some().then_some(FunctionType);
        let function = FunctionCallChunk { name, arguments: Some(arguments) };
        let delta = if self.delivery.functions {
            ChatCompletionStreamResponseDelta { function_call: Some(function), ..Default::default() }
        } else {
            let call = ChatCompletionMessageToolCallChunk { index, id, kind, function };
            ChatCompletionStreamResponseDelta { tool_calls: Some(vec![call]), ..Default::default() }
        };
        self.delta(choice, delta, vec![], out);
    }
}

impl Encoder for ChatEncoder {
    /// The role stands in the first chunk of each choice and nowhere else: Python's SDK would concatenate it.
    fn opening(&mut self, out: &mut Vec<u8>) {
        for choice in 0..self.choices {
            let delta =
                ChatCompletionStreamResponseDelta { role: Some(DeltaRole::Assistant), ..Default::default() };
            self.delta(choice, delta, vec![], out);
        }
    }

    fn event(&mut self, event: GenerationEvent, out: &mut Vec<u8>) {
        match event {
            GenerationEvent::Text { choice, text, logprobs } => {
                let delta = ChatCompletionStreamResponseDelta { content: Some(text), ..Default::default() };
                self.delta(choice, delta, logprobs, out);
            }
            GenerationEvent::Reasoning { choice, text } => {
                let delta = ChatCompletionStreamResponseDelta {
                    reasoning: Some(text.clone()),
                    reasoning_content: Some(text),
                    ..Default::default()
                };
                self.delta(choice, delta, vec![], out);
            }
            GenerationEvent::ToolCall { choice, index, id, name } => {
                self.call(choice, index, Some((id, name)), String::new(), out);
            }
            GenerationEvent::ToolArguments { choice, index, piece } => {
                self.call(choice, index, None, piece, out);
            }
            GenerationEvent::Finished { choice, reason } => {
                let finish_reason = Some(ChatFinishReason::of(reason, self.delivery.functions));
                let delta = ChatCompletionStreamResponseDelta::default();
                self.frame.data(&ChunkChoice { index: choice, delta, logprobs: None, finish_reason }, out);
            }
            GenerationEvent::Done(usage) => {
                if self.delivery.include_usage {
                    sse::data(&chunk(&self.head, Some(Some(usage.into()))), out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_chunk() {
        let id = "a\\\"choices\":[]\n";
        let head = Head {
            id: id.to_owned(),
            created: 7,
            model: "\"choices\":[é".into(),
            fingerprint: String::new(),
        };
        for include_usage in [false, true] {
            let delivery = Delivery { include_usage, ..Delivery::default() };
            let mut encoder = ChatEncoder::new(head.clone(), delivery, 2);
            let mut out = vec![];
            encoder.event(
                GenerationEvent::Text { choice: 1, text: "\"]}".to_owned(), logprobs: vec![] },
                &mut out,
            );
            let delta =
                ChatCompletionStreamResponseDelta { content: Some("\"]}".to_owned()), ..Default::default() };
            let mut whole = chunk(&head, include_usage.then_some(None));
            whole.choices = vec![ChunkChoice { index: 1, delta, logprobs: None, finish_reason: None }];
            assert_eq!(
                String::from_utf8(out).unwrap(),
                format!("data: {}\n\n", serde_json::to_string(&whole).unwrap())
            );
        }
    }
}
