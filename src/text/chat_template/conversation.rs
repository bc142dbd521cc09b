//! A conversation as templates expect to see it: messages and tools in OpenAI's shape, adjusted to the template.

use serde_json::{Map, Value, json};

use super::habits::{Content, Habits};
use crate::generation::{Chat, Error, Message, Part, Role, Tool, ToolCall};

/// What templates call an answer's reasoning: most the first, gpt-oss the last.
pub(super) const REASONING: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// The tools that the model is told of. One that must not call any is not tempted with them.
pub(super) fn tools(chat: &Chat) -> Option<Value> {
    let offered: Vec<Value> = chat.offered().map(tool).collect();
    (!offered.is_empty()).then(|| offered.into())
}

fn tool(tool: &Tool) -> Value {
    let mut function = Map::new();
    function.insert("name".to_owned(), tool.name.as_str().into());
    if let Some(description) = &tool.description {
        function.insert("description".to_owned(), description.as_str().into());
    }
    // Templates walk through the properties, so a function without parameters has none rather than no schema.
    let nothing = || json!({ "type": "object", "properties": {} });
    function.insert("parameters".to_owned(), tool.parameters.clone().unwrap_or_else(nothing));
    if tool.strict {
        function.insert("strict".to_owned(), true.into());
    }
    json!({ "type": "function", "function": function })
}

/// The messages of `chat`.
///
/// # Errors
/// Content that is not text, named by its place.
pub(super) fn messages(chat: &Chat, habits: &Habits) -> Result<Value, Error> {
    let mut messages = Vec::with_capacity(chat.messages.len());
    for (place, message) in chat.messages.iter().enumerate() {
        let texts = texts(message).map_err(|error| error.within(format!("messages[{place}].content")))?;
        let name = message.name.as_deref().or_else(|| name_of_call(&chat.messages[..place], message));
        messages.push(one(message, &texts, name, habits));
    }
    Ok(messages.into())
}

fn one(message: &Message, texts: &[&str], name: Option<&str>, habits: &Habits) -> Value {
    let role = match message.role {
        Role::Developer if !habits.developer => Role::System,
        // What OpenAI's API had before tools.
        Role::Function => Role::Tool,
        role => role,
    };
    let only_calls = !message.tool_calls.is_empty() && texts.iter().all(|text| text.is_empty());
    // A template that takes one of the two writes either as what was thought before the call.
    let joined = habits.one_text_beside_calls && !message.tool_calls.is_empty() && !only_calls;
    let reasoning = message.reasoning.as_ref().map(|reasoning| match joined {
        true => format!("{reasoning}\n\n{}", texts.join("\n")),
        false => reasoning.clone(),
    });
    let content = match only_calls || (joined && reasoning.is_some()) {
        true if habits.null_beside_calls => Value::Null,
        true => content(&[], habits.content(role)),
        false => content(texts, habits.content(role)),
    };
    let mut map = Map::new();
    map.insert("role".to_owned(), role.as_str().into());
    map.insert("content".to_owned(), content);
    if let Some(reasoning) = reasoning {
        map.extend(REASONING.map(|key| (key.to_owned(), reasoning.as_str().into())));
    }
    if let Some(name) = name {
        map.insert("name".to_owned(), name.into());
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| tool_call(call, habits)).collect();
        map.insert("tool_calls".to_owned(), calls);
    }
    if let Some(id) = &message.tool_call_id {
        map.insert("tool_call_id".to_owned(), id.as_str().into());
    }
    map.into()
}

fn content(texts: &[&str], wanted: Content) -> Value {
    match wanted {
        Content::Either if texts.len() > 1 => {}
        Content::Parts => {}
        Content::Text | Content::Either => return texts.join("\n").into(),
    }
    texts.iter().map(|text| json!({ "type": "text", "text": text })).collect()
}

fn tool_call(call: &ToolCall, habits: &Habits) -> Value {
    let arguments = match call.arguments.trim() {
        // How some models write that there are none.
        "" => Some(Map::new()),
        text => serde_json::from_str(text).ok(),
    };
    let arguments: Value = match arguments {
        Some(arguments) if !habits.arguments_as_text => arguments.into(),
        _ => call.arguments.as_str().into(),
    };
    json!({
        "id": call.id,
        "type": "function",
        "function": { "name": call.name, "arguments": arguments },
    })
}

/// The name of the function whose result this message is: OpenAI's API gives the call's id alone, while many templates
/// write the name.
fn name_of_call<'a>(before: &'a [Message], message: &Message) -> Option<&'a str> {
    let id = message.tool_call_id.as_ref()?;
    let mut calls = before.iter().rev().flat_map(|message| &message.tool_calls);
    calls.find(|call| call.id == *id).map(|call| call.name.as_str())
}

fn texts(message: &Message) -> Result<Vec<&str>, Error> {
    message.content.iter().enumerate().map(|(place, part)| text(place, part)).collect()
}

fn text(place: usize, part: &Part) -> Result<&str, Error> {
    let what = match part {
        Part::Text(text) | Part::Refusal(text) => return Ok(text),
        Part::Image(_) => "images",
        Part::Audio => "audio",
        Part::File => "files",
    };
    let message = format!("This model reads text only: it does not take {what}.");
    Err(Error::unsupported(format!("[{place}]"), message))
}
