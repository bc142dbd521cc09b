//! The words that the API and the backends share: what is asked for, what comes back, what can go wrong.
//!
//! This room uses nothing of ours and knows neither HTTP nor JSON envelopes nor tensors.

use std::{borrow::Cow, fmt, pin::Pin};

use futures_util::{Stream, StreamExt, future::ready, stream::select_all};
use serde_json::{Map, Value};

/// One call for text: a conversation or a raw prompt, and how to continue it.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationRequest {
    pub input: Input,
    pub sampling: SamplingParams,
    /// How many answers are wanted; at least 1.
    pub choices: u32,
    /// How many candidates are generated for them; at least `choices`. The best by mean logprob are kept.
    pub best_of: u32,
    /// The client takes the answer as it grows. Backends may batch their events more coarsely when it does not.
    pub stream: bool,
    /// Logprobs of each generated token, and of this many alternatives.
    pub logprobs: Option<u32>,
}

/// What the answer continues.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    Chat(Box<Chat>),
    Prompt(Prompt),
}

/// A conversation with everything that the chat template may want to see.
#[derive(Debug, Clone, PartialEq)]
pub struct Chat {
    pub messages: Vec<Message>,
    pub tools: Vec<Tool>,
    pub tool_choice: ToolChoice,
    pub parallel_tool_calls: bool,
    pub response_format: ResponseFormat,
    pub reasoning_effort: Option<String>,
    pub verbosity: Option<String>,
    pub template_kwargs: Map<String, Value>,
    pub add_generation_prompt: bool,
}

impl Chat {
    /// The tools that the model may call.
    pub fn offered(&self) -> impl Iterator<Item = &Tool> {
        self.tools.iter().filter(|tool| match &self.tool_choice {
            ToolChoice::None => false,
            ToolChoice::Auto | ToolChoice::Required | ToolChoice::Named(_) => true,
            ToolChoice::Allowed { names, required: _ } => names.contains(&tool.name),
        })
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub role: Role,
    pub content: Vec<Part>,
    /// What the model thought before it said this.
    pub reasoning: Option<String>,
    pub name: Option<String>,
    pub tool_calls: Vec<ToolCall>,
    pub tool_call_id: Option<String>,
}

impl Message {
    /// The text of the message; a part that is not text stands as its kind in brackets, such as `[image_url]`.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match self.content.as_slice() {
            [part] => Cow::Borrowed(part.as_text()),
            parts => parts.iter().map(Part::as_text).collect(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Developer,
    System,
    User,
    Assistant,
    Tool,
    Function,
}

impl Role {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Developer => "developer",
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
            Self::Function => "function",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    Text(String),
    Refusal(String),
    /// A URL or a `data:` URL.
    Image(String),
    Audio,
    File,
}

impl Part {
    fn as_text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Refusal(text) => text,
            Self::Image(_) => "[image_url]",
            Self::Audio => "[input_audio]",
            Self::File => "[file]",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// The JSON text that the model wrote.
    pub arguments: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    pub name: String,
    pub description: Option<String>,
    /// A JSON Schema; `None` is a function without parameters.
    pub parameters: Option<Value>,
    pub strict: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolChoice {
    None,
    #[default]
    Auto,
    /// At least one call, of any tool.
    Required,
    /// A call of this one.
    Named(String),
    /// Only these may be called; one must be when `required`.
    Allowed {
        names: Vec<String>,
        required: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Default)]
pub enum ResponseFormat {
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that this schema accepts.
    JsonSchema { name: String, schema: Value, strict: bool },
}

/// A raw prompt, continued as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    pub text: PromptText,
    /// What stands behind the place where the text is put (fill in the middle).
    pub suffix: Option<String>,
    /// The answer starts with the prompt itself.
    pub echo: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum PromptText {
    Text(String),
    Tokens(Vec<u32>),
}

impl PromptText {
    /// Bytes that it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Tokens(ids) => ids.len() * size_of::<u32>(),
        }
    }
}

/// How tokens are drawn. `None` leaves the choice to the model's configuration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SamplingParams {
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<i64>,
    pub min_p: Option<f64>,
    pub frequency_penalty: f64,
    pub presence_penalty: f64,
    pub repetition_penalty: Option<f64>,
    /// Added to the logits of these token ids.
    pub logit_bias: Vec<(u32, f64)>,
    pub seed: Option<i64>,
    pub max_tokens: Option<u32>,
    pub min_tokens: u32,
    /// The answer ends before any of these texts.
    pub stop: Vec<String>,
    pub stop_token_ids: Vec<u32>,
    pub ignore_eos: bool,
}

/// What a generation tells while it runs. Events of several choices may come in any mixture; those of one choice come
/// in order, its `Finished` last. `Done` closes the stream.
#[derive(Debug, Clone, PartialEq)]
pub enum GenerationEvent {
    Text {
        choice: u32,
        text: String,
        logprobs: Vec<TokenLogprob>,
    },
    /// Text that the model marked as its reasoning.
    Reasoning {
        choice: u32,
        text: String,
    },
    /// A tool call begins; its arguments follow in pieces.
    ToolCall {
        choice: u32,
        index: u32,
        id: String,
        name: String,
    },
    ToolArguments {
        choice: u32,
        index: u32,
        piece: String,
    },
    Finished {
        choice: u32,
        reason: FinishReason,
    },
    Done(Usage),
}

impl GenerationEvent {
    /// The choice that it tells of; `None` where it tells of all.
    #[must_use]
    pub fn choice(&self) -> Option<u32> {
        match self {
            Self::Text { choice, .. }
            | Self::Reasoning { choice, .. }
            | Self::ToolCall { choice, .. }
            | Self::ToolArguments { choice, .. }
            | Self::Finished { choice, .. } => Some(*choice),
            Self::Done(_) => None,
        }
    }

    /// The same event of the choice with another number.
    #[must_use]
    pub fn with_choice(mut self, number: u32) -> Self {
        match &mut self {
            Self::Text { choice, .. }
            | Self::Reasoning { choice, .. }
            | Self::ToolCall { choice, .. }
            | Self::ToolArguments { choice, .. }
            | Self::Finished { choice, .. } => *choice = number,
            Self::Done(_) => {}
        }
        self
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    pub token: String,
    pub bytes: Vec<u8>,
    /// Natural logarithm; `None` for a prompt's first token, which nothing predicts.
    pub logprob: Option<f64>,
    pub top: Vec<TopLogprob>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TopLogprob {
    pub token: String,
    pub bytes: Vec<u8>,
    pub logprob: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    Stop,
    Length,
    ToolCalls,
}

/// Tokens in and out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub prompt: u64,
    pub completion: u64,
    /// The part of `completion` that was reasoning.
    pub reasoning: u64,
    /// The part of `prompt` that a prefix cache already held.
    pub cached: u64,
}

/// A generation under way. Dropping it cancels the work.
pub type Events = Pin<Box<dyn Stream<Item = Result<GenerationEvent, Error>> + Send>>;

/// Several generations of `choices` answers each as one, their choices numbered through, their counts added up.
#[must_use]
pub fn join(generations: Vec<Events>, choices: u32) -> Events {
    let mut open = generations.len();
    let mut total = Usage::default();
    let numbered = (0u32..).zip(generations).map(|(place, events)| {
        events
            .map(move |event| {
                event.map(|event| {
                    let number = event.choice().unwrap_or_default();
                    event.with_choice(place * choices + number)
                })
            })
            .boxed()
    });
    let events = select_all(numbered).filter_map(move |event| {
        ready(match event {
            Ok(GenerationEvent::Done(Usage { prompt, completion, reasoning, cached })) => {
                total.prompt += prompt;
                total.completion += completion;
                total.reasoning += reasoning;
                total.cached += cached;
                open -= 1;
                (open == 0).then_some(Ok(GenerationEvent::Done(total)))
            }
            other => Some(other),
        })
    });
    Box::pin(events)
}

/// Texts to be turned into vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingRequest {
    pub inputs: Vec<PromptText>,
    /// Length of the vectors wanted, shorter than the model's own.
    pub dimensions: Option<u32>,
    /// Which of the model's prompts stands before each text. `None`: its default, if it has one.
    pub prompt_name: Option<String>,
    /// What is done with texts that are too long. `None`: they are refused.
    pub truncate: Option<Truncate>,
}

/// To how many tokens a text is cut, at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncate {
    /// As many as the model takes.
    ToModel,
    To(u32),
}

impl Truncate {
    /// The number of tokens, for a model that takes up to `limit`.
    ///
    /// # Errors
    /// When that is more than it takes.
    pub fn within(self, limit: usize) -> Result<usize, Error> {
        match self {
            Self::ToModel => Ok(limit),
            Self::To(wanted) if wanted as usize <= limit => Ok(wanted as usize),
            Self::To(wanted) => {
                let message = format!(
                    "Texts can be cut to up to {limit} tokens, as many as this model takes, not to {wanted}. \
                     -1 means as many as it takes."
                );
                Err(Error::invalid("truncate_prompt_tokens", message))
            }
        }
    }
}

/// A vector for each input, in the inputs' order.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    pub vectors: Vec<Vec<f32>>,
    pub prompt_tokens: u64,
}

/// Documents to be scored by how well they answer a query.
#[derive(Debug, Clone, PartialEq)]
pub struct RerankRequest {
    pub query: String,
    pub documents: Vec<String>,
    /// What is done with pairs of query and document that are too long. `None`: they are refused.
    pub truncate: Option<Truncate>,
}

/// A score for each document, in the documents' order.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    pub scores: Vec<f32>,
    pub prompt_tokens: u64,
}

/// What can go wrong once a request was well-formed. The API decides what each means in HTTP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A parameter's value does not fit this model.
    #[error("{message}")]
    InvalidParameter { param: String, message: String },
    /// A parameter that is known but that this backend does not honour.
    #[error("{message}")]
    Unsupported { param: String, message: String },
    #[error(
        "This model's maximum context length is {limit} tokens, but the request has {prompt} tokens of prompt and \
         asks for {completion} of completion. Shorten the prompt or lower the completion limit."
    )]
    ContextLengthExceeded { limit: u64, prompt: u64, completion: u64 },
    /// A text that is to become a vector or a score.
    #[error(
        "This model takes up to {limit} tokens at a time, but {param} has {tokens}. Shorten it, or let it be cut with \
         'truncate_prompt_tokens'."
    )]
    TextTooLong { param: String, limit: u64, tokens: u64 },
    /// The model is not ready yet, or not any more.
    #[error("{0}")]
    Unavailable(String),
    /// More is asked for than can be queued.
    #[error("{0}")]
    Overloaded(String),
    /// Another server that makes the answer took too long.
    #[error("{0}")]
    Timeout(String),
    /// Another server that makes the answer failed.
    #[error("{0}")]
    BadGateway(String),
    /// The backend failed; the text is for the log, not for the client.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    pub fn invalid(param: impl Into<String>, message: impl fmt::Display) -> Self {
        Self::InvalidParameter { param: param.into(), message: message.to_string() }
    }

    /// Names the parameter by its place in a list that the one who raised the error did not see: `[3]` before its path.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        if let Self::InvalidParameter { param, .. }
        | Self::Unsupported { param, .. }
        | Self::TextTooLong { param, .. } = &mut self
            && (param.is_empty() || param.starts_with('['))
        {
            *param = format!("{place}{param}");
        }
        self
    }

    pub fn unsupported(param: impl Into<String>, message: impl fmt::Display) -> Self {
        Self::Unsupported { param: param.into(), message: message.to_string() }
    }
}
