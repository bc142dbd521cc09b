//! The messages of a conversation, a type for each role.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    api::wire::{TextOr, constant, tagged},
    generation::{Message, Part, Role, ToolCall},
};

constant! {
    DeveloperRole = "developer",
    SystemRole = "system",
    UserRole = "user",
    AssistantRole = "assistant",
    ToolRole = "tool",
    FunctionRole = "function",
    TextType = "text",
    ImageUrlType = "image_url",
    InputAudioType = "input_audio",
    FileType = "file",
    RefusalType = "refusal",
    FunctionType = "function",
    CustomType = "custom",
    ExplicitMode = "explicit",
}

tagged! {
    /// A message of the conversation, told apart by `role`.
    ChatCompletionRequestMessage by "role" {
        "developer" => Developer(ChatCompletionRequestDeveloperMessage),
        "system" => System(ChatCompletionRequestSystemMessage),
        "user" => User(ChatCompletionRequestUserMessage),
        "assistant" => Assistant(ChatCompletionRequestAssistantMessage),
        "tool" => Tool(ChatCompletionRequestToolMessage),
        "function" => Function(ChatCompletionRequestFunctionMessage),
    }
}

/// Instructions to the model; the same as a system message.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ChatCompletionRequestDeveloperMessage {
    pub role: DeveloperRole,
    pub content: Option<TextOr<TextPart>>,
    pub name: Option<String>,
}

/// Instructions to the model.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ChatCompletionRequestSystemMessage {
    pub role: SystemRole,
    pub content: Option<TextOr<TextPart>>,
    pub name: Option<String>,
}

/// What the user says.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ChatCompletionRequestUserMessage {
    pub role: UserRole,
    pub content: Option<TextOr<ContentPart>>,
    pub name: Option<String>,
}

/// What the model said in an earlier turn.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ChatCompletionRequestAssistantMessage {
    pub role: AssistantRole,
    pub content: Option<TextOr<AssistantPart>>,
    pub refusal: Option<String>,
    /// What the model reasoned before this answer, for chat templates that show it to the model again. (An extension.)
    pub reasoning_content: Option<String>,
    /// Another name of `reasoning_content`, which wins over it. (An extension.)
    pub reasoning: Option<String>,
    pub name: Option<String>,
    /// An earlier spoken answer. Not supported.
    pub audio: Option<PreviousAudio>,
    pub tool_calls: Option<Vec<MessageToolCall>>,
    /// Superseded by `tool_calls`.
    #[schemars(extend("deprecated" = true))]
    pub function_call: Option<FunctionCall>,
}

/// What a tool answered.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ChatCompletionRequestToolMessage {
    pub role: ToolRole,
    pub content: Option<TextOr<TextPart>>,
    /// The call that this answers.
    pub tool_call_id: String,
}

/// What a function answered; superseded by tool messages.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ChatCompletionRequestFunctionMessage {
    pub role: FunctionRole,
    pub content: Option<TextOr<TextPart>>,
    pub name: String,
}

/// A piece of text.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct TextPart {
    #[serde(rename = "type")]
    pub kind: TextType,
    pub text: String,
    pub prompt_cache_breakpoint: Option<PromptCacheBreakpoint>,
}

/// A hint to a remote prompt cache; changes nothing here.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct PromptCacheBreakpoint {
    pub mode: ExplicitMode,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ImagePart {
    #[serde(rename = "type")]
    pub kind: ImageUrlType,
    pub image_url: ImageUrl,
    pub prompt_cache_breakpoint: Option<PromptCacheBreakpoint>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ImageUrl {
    /// A URL, or the image itself as a `data:` URL.
    pub url: String,
    pub detail: Option<ImageDetail>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageDetail {
    Auto,
    Low,
    High,
}

/// A recording.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct AudioPart {
    #[serde(rename = "type")]
    pub kind: InputAudioType,
    pub input_audio: InputAudio,
    pub prompt_cache_breakpoint: Option<PromptCacheBreakpoint>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct InputAudio {
    /// Base64.
    pub data: String,
    pub format: InputAudioFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InputAudioFormat {
    Wav,
    Mp3,
}

/// A document.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct FilePart {
    #[serde(rename = "type")]
    pub kind: FileType,
    pub file: FileContent,
    pub prompt_cache_breakpoint: Option<PromptCacheBreakpoint>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct FileContent {
    pub filename: Option<String>,
    /// Base64.
    pub file_data: Option<String>,
    pub file_id: Option<String>,
}

/// What the model refused to say.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct RefusalPart {
    #[serde(rename = "type")]
    pub kind: RefusalType,
    pub refusal: String,
}

tagged! {
    /// A part of a user's message, told apart by `type`.
    ContentPart by "type" {
        "text" => Text(TextPart),
        "image_url" => Image(ImagePart),
        "input_audio" => Audio(AudioPart),
        "file" => File(FilePart),
    }
}

tagged! {
    /// A part of an assistant's message, told apart by `type`.
    AssistantPart by "type" {
        "text" => Text(TextPart),
        "refusal" => Refusal(RefusalPart),
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct PreviousAudio {
    pub id: String,
}

/// A function and what it was called with.
#[derive(Debug, Clone, PartialEq, serde::Serialize, Deserialize, JsonSchema)]
pub struct FunctionCall {
    pub name: String,
    /// JSON, as the model wrote it.
    pub arguments: String,
}

/// A custom tool and what it was called with.
#[derive(Debug, Clone, PartialEq, serde::Serialize, Deserialize, JsonSchema)]
pub struct CustomCall {
    pub name: String,
    pub input: String,
}

tagged! {
    /// A tool call of an earlier turn, told apart by `type`.
    #[derive(serde::Serialize)]
    #[serde(untagged)]
    MessageToolCall by "type" {
        "function" => Function(ChatCompletionMessageToolCall),
        "custom" => Custom(ChatCompletionMessageCustomToolCall),
    }
}

/// A call of a function.
#[derive(Debug, Clone, PartialEq, serde::Serialize, Deserialize, JsonSchema)]
pub struct ChatCompletionMessageToolCall {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: FunctionType,
    pub function: FunctionCall,
}

/// A call of a custom tool.
#[derive(Debug, Clone, PartialEq, serde::Serialize, Deserialize, JsonSchema)]
pub struct ChatCompletionMessageCustomToolCall {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: CustomType,
    pub custom: CustomCall,
}

impl From<ChatCompletionRequestMessage> for Message {
    fn from(message: ChatCompletionRequestMessage) -> Self {
        use ChatCompletionRequestMessage as M;
        let plain = |role, content, name| Self {
            role,
            content,
            reasoning: None,
            name,
            tool_calls: vec![],
            tool_call_id: None,
        };
        match message {
            M::Developer(m) => plain(Role::Developer, parts(m.content), m.name),
            M::System(m) => plain(Role::System, parts(m.content), m.name),
            M::User(m) => plain(Role::User, parts(m.content), m.name),
            M::Tool(m) => {
                Self { tool_call_id: Some(m.tool_call_id), ..plain(Role::Tool, parts(m.content), None) }
            }
            M::Function(m) => plain(Role::Function, parts(m.content), Some(m.name)),
            M::Assistant(m) => {
                let mut content = parts(m.content);
                content.extend(m.refusal.map(Part::Refusal));
                let called = m.function_call.map(|call| ToolCall {
                    id: call.name.clone(),
                    name: call.name,
                    arguments: call.arguments,
                });
                let tool_calls =
                    m.tool_calls.into_iter().flatten().map(ToolCall::from).chain(called).collect();
                let told = |text: &String| !text.is_empty();
                let reasoning = m.reasoning_content.filter(told).or(m.reasoning.filter(told));
                Self { reasoning, tool_calls, ..plain(Role::Assistant, content, m.name) }
            }
        }
    }
}

impl From<MessageToolCall> for ToolCall {
    fn from(call: MessageToolCall) -> Self {
        match call {
            MessageToolCall::Function(call) => {
                Self { id: call.id, name: call.function.name, arguments: call.function.arguments }
            }
            MessageToolCall::Custom(call) => {
                Self { id: call.id, name: call.custom.name, arguments: call.custom.input }
            }
        }
    }
}

fn parts<P: Into<Part>>(content: Option<TextOr<P>>) -> Vec<Part> {
    match content {
        None => vec![],
        Some(TextOr::Text(text)) => vec![Part::Text(text)],
        Some(TextOr::List(parts)) => parts.into_iter().map(Into::into).collect(),
    }
}

impl From<TextPart> for Part {
    fn from(part: TextPart) -> Self {
        Self::Text(part.text)
    }
}

impl From<ContentPart> for Part {
    fn from(part: ContentPart) -> Self {
        match part {
            ContentPart::Text(part) => part.into(),
            ContentPart::Image(part) => Self::Image(part.image_url.url),
            ContentPart::Audio(_) => Self::Audio,
            ContentPart::File(_) => Self::File,
        }
    }
}

impl From<AssistantPart> for Part {
    fn from(part: AssistantPart) -> Self {
        match part {
            AssistantPart::Text(part) => part.into(),
            AssistantPart::Refusal(part) => Self::Refusal(part.refusal),
        }
    }
}
