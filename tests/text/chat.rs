//! Conversations as the fixtures write them: requests to the chat API.

use sconce::generation::{Chat, Message, Part, ResponseFormat, Role, Tool, ToolCall, ToolChoice};
use serde_json::Value;

/// The conversation of a request.
pub(crate) fn chat(request: &Value) -> Chat {
    let tool_choice = match request["tool_choice"].as_str() {
        Some("none") => ToolChoice::None,
        _ => ToolChoice::Auto,
    };
    Chat {
        messages: list(&request["messages"]).map(message).collect(),
        tools: list(&request["tools"]).map(|tool| self::tool(&tool["function"])).collect(),
        tool_choice,
        parallel_tool_calls: true,
        response_format: ResponseFormat::Text,
        reasoning_effort: string(&request["reasoning_effort"]),
        verbosity: None,
        template_kwargs: request["chat_template_kwargs"].as_object().cloned().unwrap_or_default(),
        add_generation_prompt: request["add_generation_prompt"] != false,
    }
}

fn message(message: &Value) -> Message {
    let role = match message["role"].as_str().unwrap() {
        "developer" => Role::Developer,
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        "function" => Role::Function,
        other => panic!("{other} is no role"),
    };
    let content = match &message["content"] {
        Value::String(text) => vec![Part::Text(text.clone())],
        parts => list(parts).map(part).collect(),
    };
    Message {
        role,
        content,
        reasoning: string(&message["reasoning_content"]).or_else(|| string(&message["reasoning"])),
        name: string(&message["name"]),
        tool_calls: list(&message["tool_calls"]).map(call).collect(),
        tool_call_id: string(&message["tool_call_id"]),
    }
}

fn part(part: &Value) -> Part {
    match part["type"].as_str().unwrap() {
        "text" => Part::Text(string(&part["text"]).unwrap()),
        "image_url" => Part::Image(string(&part["image_url"]["url"]).unwrap()),
        "input_audio" => Part::Audio,
        "file" => Part::File,
        other => panic!("{other} is no kind of part"),
    }
}

fn call(call: &Value) -> ToolCall {
    let function = &call["function"];
    ToolCall {
        id: string(&call["id"]).unwrap(),
        name: string(&function["name"]).unwrap(),
        arguments: string(&function["arguments"]).unwrap(),
    }
}

fn tool(function: &Value) -> Tool {
    Tool {
        name: string(&function["name"]).unwrap(),
        description: string(&function["description"]),
        parameters: function.get("parameters").cloned(),
        strict: function["strict"] == true,
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn string(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
