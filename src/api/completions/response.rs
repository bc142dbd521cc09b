//! The answer to a completion request, whole or as events.

use std::sync::Arc;

use futures_util::StreamExt;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    api::{
        chat::Delivery,
        error::ApiError,
        head::Head,
        observe::Exchange,
        sse::{self, Encoder, Frame},
        usage::CompletionUsage,
        wire::constant,
    },
    generation::{Events, FinishReason, GenerationEvent, TokenLogprob},
};

constant! {
    TextCompletionObject = "text_completion",
}

/// Continued prompts, whole; streamed, each event is one of these with what has come since.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CreateCompletionResponse {
    pub id: String,
    pub object: TextCompletionObject,
    /// Seconds since 1970.
    pub created: u64,
    pub model: Arc<str>,
    /// Names what the answer's bytes depend on.
    pub system_fingerprint: String,
    /// The choices of the first prompt, then those of the second, …
    pub choices: Vec<CompletionChoice>,
    /// Streamed, null in all events but the last, and absent unless asked for by `stream_options`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<CompletionUsage>>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
pub struct CompletionChoice {
    pub index: u32,
    pub text: String,
    #[schemars(required, extend("nullable" = true))]
    pub logprobs: Option<CompletionLogprobs>,
    #[schemars(required, extend("nullable" = true))]
    pub finish_reason: Option<CompletionFinishReason>,
}

/// Why the answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CompletionFinishReason {
    Stop,
    Length,
    ContentFilter,
}

impl From<FinishReason> for CompletionFinishReason {
    fn from(reason: FinishReason) -> Self {
        match reason {
            FinishReason::Stop | FinishReason::ToolCalls => Self::Stop,
            FinishReason::Length => Self::Length,
        }
    }
}

/// Columns, one entry a token.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
pub struct CompletionLogprobs {
    pub tokens: Vec<String>,
    /// Natural logarithms; null for a prompt's first token.
    pub token_logprobs: Vec<Option<f64>>,
    /// Null where `token_logprobs` is.
    pub top_logprobs: Vec<Option<IndexMap<String, f64>>>,
    /// Where the token begins in the text, in characters.
    pub text_offset: Vec<u64>,
}

impl CompletionLogprobs {
    fn add(&mut self, tokens: Vec<TokenLogprob>, offset: &mut u64) {
        for token in tokens {
            self.text_offset.push(*offset);
            *offset += token.token.chars().count() as u64;
            let top = token.top.into_iter().map(|top| (top.token, top.logprob)).collect();
            self.top_logprobs.push(token.logprob.map(|_| top));
            self.token_logprobs.push(token.logprob);
            self.tokens.push(token.token);
        }
    }
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
) -> Result<CreateCompletionResponse, ApiError> {
    let draft = |index| CompletionChoice {
        index,
        logprobs: delivery.logprobs.then(CompletionLogprobs::default),
        ..CompletionChoice::default()
    };
    let mut drafts: Vec<CompletionChoice> = (0..choices).map(draft).collect();
    let mut offsets = vec![0; drafts.len()];
    let mut total = None;
    while let Some(event) = events.next().await {
        let event = event?;
        exchange.saw(&event);
        match event {
            GenerationEvent::Text { choice, text, logprobs } => {
                let draft = drafts.get_mut(choice as usize).ok_or_else(ApiError::internal)?;
                draft.text.push_str(&text);
                if let Some(columns) = &mut draft.logprobs {
                    columns.add(logprobs, &mut offsets[choice as usize]);
                }
            }
            GenerationEvent::Finished { choice, reason } => {
                drafts.get_mut(choice as usize).ok_or_else(ApiError::internal)?.finish_reason =
                    Some(reason.into());
            }
            GenerationEvent::Done(usage) => total = Some(usage),
            GenerationEvent::Reasoning { .. }
            | GenerationEvent::ToolCall { .. }
            | GenerationEvent::ToolArguments { .. } => {}
        }
    }
    let total = total.filter(|_| drafts.iter().all(|draft| draft.finish_reason.is_some()));
    let usage = total.ok_or_else(ApiError::internal)?.into();
    Ok(object(&head, drafts, Some(Some(usage))))
}

fn object(
    head: &Head,
    choices: Vec<CompletionChoice>,
    usage: Option<Option<CompletionUsage>>,
) -> CreateCompletionResponse {
    CreateCompletionResponse {
        id: head.id.clone(),
        object: TextCompletionObject,
        created: head.created,
        model: Arc::clone(&head.model),
        system_fingerprint: head.fingerprint.clone(),
        choices,
        usage,
    }
}

/// Writes a generation's events as chunks.
pub(crate) struct CompletionEncoder {
    head: Head,
    delivery: Delivery,
    /// How many characters of each choice were sent.
    offsets: Vec<u64>,
    frame: Frame,
}

impl CompletionEncoder {
    pub(crate) fn new(head: Head, delivery: Delivery, choices: u32) -> Self {
        let frame = Frame::of(&object(&head, vec![], delivery.include_usage.then_some(None)));
        Self { head, delivery, offsets: vec![0; choices as usize], frame }
    }
}

impl Encoder for CompletionEncoder {
    fn opening(&mut self, _: &mut Vec<u8>) {}

    fn event(&mut self, event: GenerationEvent, out: &mut Vec<u8>) {
        match event {
            GenerationEvent::Text { choice, text, logprobs } => {
                let Some(offset) = self.offsets.get_mut(choice as usize) else { return };
                let logprobs = self.delivery.logprobs.then(|| {
                    let mut columns = CompletionLogprobs::default();
                    columns.add(logprobs, offset);
                    columns
                });
                let choice = CompletionChoice { index: choice, text, logprobs, finish_reason: None };
                self.frame.data(&choice, out);
            }
            GenerationEvent::Finished { choice, reason } => {
                let finish_reason = Some(reason.into());
                let choice = CompletionChoice { index: choice, finish_reason, ..CompletionChoice::default() };
                self.frame.data(&choice, out);
            }
            GenerationEvent::Done(usage) => {
                if self.delivery.include_usage {
                    sse::data(&object(&self.head, vec![], Some(Some(usage.into()))), out);
                }
            }
            GenerationEvent::Reasoning { .. }
            | GenerationEvent::ToolCall { .. }
            | GenerationEvent::ToolArguments { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_object() {
        let head = Head { id: "i".to_owned(), created: 7, model: "m".into(), fingerprint: "f".to_owned() };
        for include_usage in [false, true] {
            let delivery = Delivery { include_usage, ..Delivery::default() };
            let mut encoder = CompletionEncoder::new(head.clone(), delivery, 1);
            let mut out = vec![];
            let text = "\"]}".to_owned();
            let event = GenerationEvent::Text { choice: 0, text: text.clone(), logprobs: vec![] };
            encoder.event(event, &mut out);
            let choice = CompletionChoice { text, ..CompletionChoice::default() };
            let whole = object(&head, vec![choice], include_usage.then_some(None));
            assert_eq!(
                String::from_utf8(out).unwrap(),
                format!("data: {}\n\n", serde_json::to_string(&whole).unwrap())
            );
        }
    }
}
