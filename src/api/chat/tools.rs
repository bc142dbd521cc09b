//! Tools that the model may call, and the forms that its answer must have.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value, value::RawValue};

use super::message::{CustomType, FunctionType, TextType};
use crate::api::wire::{constant, nested, tagged};

constant! {
    AllowedToolsType = "allowed_tools",
    GrammarType = "grammar",
    JsonObjectType = "json_object",
    JsonSchemaType = "json_schema",
}

tagged! {
    /// A tool that the model may call, told apart by `type`.
    Tool by "type" {
        "function" => Function(ChatCompletionTool),
        "custom" => Custom(CustomToolChatCompletions),
    }
}

/// A function.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ChatCompletionTool {
    #[serde(rename = "type")]
    pub kind: FunctionType,
    pub function: FunctionObject,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct FunctionObject {
    pub name: String,
    /// When and how to call it, for the model.
    pub description: Option<String>,
    /// A JSON Schema of its arguments. Absent: it takes none.
    pub parameters: Option<Map<String, Value>>,
    /// Hold the model to the schema.
    pub strict: Option<bool>,
}

/// A tool that takes free text. Not supported: such a tool is refused.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct CustomToolChatCompletions {
    #[serde(rename = "type")]
    pub kind: CustomType,
    pub custom: CustomTool,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct CustomTool {
    pub name: String,
    pub description: Option<String>,
    pub format: Option<CustomFormat>,
}

tagged! {
    /// The form of a custom tool's input, told apart by `type`.
    CustomFormat by "type" {
        "text" => Text(CustomTextFormat),
        "grammar" => Grammar(CustomGrammarFormat),
    }
}

/// Any text.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct CustomTextFormat {
    #[serde(rename = "type")]
    pub kind: TextType,
}

/// Text of a grammar.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct CustomGrammarFormat {
    #[serde(rename = "type")]
    pub kind: GrammarType,
    pub grammar: Grammar,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Grammar {
    pub definition: String,
    pub syntax: GrammarSyntax,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GrammarSyntax {
    Lark,
    Regex,
}

/// Whether and what the model must call.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolChoice {
    Mode(ToolChoiceMode),
    Object(ToolChoiceObject),
}

/// No call; as the model likes; at least one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ToolChoiceMode {
    None,
    Auto,
    Required,
}

tagged! {
    /// A demand on the tools that may be called, told apart by `type`.
    ToolChoiceObject by "type" {
        "allowed_tools" => Allowed(ChatCompletionAllowedToolsChoice),
        "function" => Function(ChatCompletionNamedToolChoice),
        "custom" => Custom(ChatCompletionNamedToolChoiceCustom),
    }
}

/// Only these tools.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ChatCompletionAllowedToolsChoice {
    #[serde(rename = "type")]
    pub kind: AllowedToolsType,
    pub allowed_tools: AllowedTools,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct AllowedTools {
    pub mode: AllowedToolsMode,
    /// Each as `{"type": "function", "function": {"name": "…"}}`.
    pub tools: Vec<Map<String, Value>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AllowedToolsMode {
    Auto,
    Required,
}

/// This function.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ChatCompletionNamedToolChoice {
    #[serde(rename = "type")]
    pub kind: FunctionType,
    pub function: ToolName,
}

/// This custom tool. Not supported.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ChatCompletionNamedToolChoiceCustom {
    #[serde(rename = "type")]
    pub kind: CustomType,
    pub custom: ToolName,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ToolName {
    pub name: String,
}

impl<'de> Deserialize<'de> for ToolChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        match raw.get().as_bytes().first() {
            Some(b'"') => nested(raw).map(Self::Mode),
            Some(b'{') => nested(raw).map(Self::Object),
            _ => Err(de::Error::custom("expected 'none', 'auto', 'required' or an object that names a tool")),
        }
    }
}

impl JsonSchema for ToolChoice {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ChatCompletionToolChoiceOption".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let alternatives = [
            generator.subschema_for::<ToolChoiceMode>(),
            generator.subschema_for::<ChatCompletionAllowedToolsChoice>(),
            generator.subschema_for::<ChatCompletionNamedToolChoice>(),
            generator.subschema_for::<ChatCompletionNamedToolChoiceCustom>(),
        ];
        json_schema!({ "oneOf": alternatives })
    }
}

/// The name of a tool of `allowed_tools.tools`.
pub(crate) fn allowed_name(tool: &Map<String, Value>) -> Option<&str> {
    tool.get("function")?.get("name")?.as_str()
}

tagged! {
    /// The form of the answer, told apart by `type`.
    ResponseFormat by "type" {
        "text" => Text(ResponseFormatText),
        "json_schema" => JsonSchema(ResponseFormatJsonSchema),
        "json_object" => JsonObject(ResponseFormatJsonObject),
    }
}

/// Any text.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ResponseFormatText {
    #[serde(rename = "type")]
    pub kind: TextType,
}

/// Any JSON object.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ResponseFormatJsonObject {
    #[serde(rename = "type")]
    pub kind: JsonObjectType,
}

/// JSON that a schema accepts.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ResponseFormatJsonSchema {
    #[serde(rename = "type")]
    pub kind: JsonSchemaType,
    pub json_schema: NamedSchema,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct NamedSchema {
    pub name: String,
    /// What the answer is for, for the model.
    pub description: Option<String>,
    /// Absent: any JSON object.
    pub schema: Option<Map<String, Value>>,
    pub strict: Option<bool>,
}

/// A deprecated function, or which one to call.
#[derive(Debug, Clone, PartialEq)]
pub enum FunctionCallOption {
    Mode(FunctionCallMode),
    Named(ToolName),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FunctionCallMode {
    None,
    Auto,
}

impl<'de> Deserialize<'de> for FunctionCallOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        match raw.get().as_bytes().first() {
            Some(b'"') => nested(raw).map(Self::Mode),
            _ => nested(raw).map(Self::Named),
        }
    }
}

impl JsonSchema for FunctionCallOption {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ChatCompletionFunctionCallOption".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mode = generator.subschema_for::<FunctionCallMode>();
        let named = generator.subschema_for::<ToolName>();
        json_schema!({ "oneOf": [mode, named] })
    }
}

/// A function in the form before tools.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ChatCompletionFunctions {
    pub name: String,
    pub description: Option<String>,
    pub parameters: Option<Map<String, Value>>,
}
