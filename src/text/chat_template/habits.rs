//! What a template expects of messages, found out by rendering small conversations with it.
//!
//! Templates differ where OpenAI's API leaves a choice: content as a string or as parts, arguments as an object or as
//! text, no content beside tool calls as null or as an empty string. Reading the template's source would miss macros
//! and guards; what it renders tells.

use serde_json::{Value, json};

use super::conversation::REASONING;
use crate::generation::Role;

/// Words that no template has of its own.
const WORD: &str = "sconce5word";
const FUNCTION: &str = "sconce6function";
const ARGUMENT: &str = "sconce7argument";
/// Only shows where a template writes parts out as they stand, instead of their text.
const UNREAD: &str = "sconce8unread";

/// How a template takes a message's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Content {
    #[default]
    Text,
    Either,
    Parts,
}

/// What a template expects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Habits {
    /// It knows the role `developer`.
    pub(super) developer: bool,
    /// It joins the arguments of tool calls to its text as they stand.
    pub(super) arguments_as_text: bool,
    /// It takes `none` as the content of a message that only calls tools.
    pub(super) null_beside_calls: bool,
    /// It refuses a message that has reasoning, content and tool calls.
    pub(super) one_text_beside_calls: bool,
    system: Content,
    user: Content,
    assistant: Content,
    tool: Content,
}

impl Habits {
    /// Finds out with `render`, which gives `None` where the template refuses messages and tools.
    pub(super) fn of(source: &str, render: impl Fn(Value, Value) -> Option<String>) -> Self {
        let render = |messages| render(messages, json!([tool()])).unwrap_or_default();
        let mut habits = Self { developer: source.contains("developer"), ..Self::default() };
        for (arguments_as_text, null_beside_calls) in
            [(false, true), (false, false), (true, true), (true, false)]
        {
            if takes_calls(render, arguments_as_text, null_beside_calls) {
                habits = Self { arguments_as_text, null_beside_calls, ..habits };
                break;
            }
        }
        let call = calling(habits.arguments_as_text, habits.null_beside_calls);
        let thoughtful = |content: &str| {
            let mut call = calling(habits.arguments_as_text, false);
            call["content"] = content.into();
            REASONING.iter().for_each(|key| call[*key] = WORD.into());
            render(json!([message("user", json!("Question")), call, result(json!("Result"))]))
        };
        habits.one_text_beside_calls =
            thoughtful("").contains(FUNCTION) && !thoughtful(WORD).contains(FUNCTION);
        let user = || message("user", json!("Question"));
        habits.system = content(|probe| render(json!([message("system", probe), user()])));
        habits.user = content(|probe| render(json!([message("user", probe)])));
        habits.assistant = content(|probe| render(json!([user(), message("assistant", probe), user()])));
        habits.tool = content(|probe| render(json!([user(), call, result(probe)])));
        habits
    }

    pub(super) fn content(&self, role: Role) -> Content {
        match role {
            Role::Developer | Role::System => self.system,
            Role::User => self.user,
            Role::Assistant => self.assistant,
            Role::Tool | Role::Function => self.tool,
        }
    }
}

fn content(render: impl Fn(Value) -> String) -> Content {
    let text = render(json!(WORD)).contains(WORD);
    let parts = render(json!([{ "type": "text", "text": WORD, "unread": UNREAD }]));
    match (text, parts.contains(WORD) && !parts.contains(UNREAD)) {
        (_, false) => Content::Text,
        (true, true) => Content::Either,
        (false, true) => Content::Parts,
    }
}

fn takes_calls(render: impl Fn(Value) -> String, as_text: bool, null: bool) -> bool {
    let rendered = |null| {
        let user = message("user", json!("Question"));
        render(json!([user, calling(as_text, null), result(json!("Result"))]))
    };
    let text = rendered(null);
    // Python's spelling of an object, which no model is trained on: the template means to join a string.
    let spelt_out = text.contains(&format!("': '{ARGUMENT}'"));
    let names_none = null && text.matches("None").count() > rendered(false).matches("None").count();
    text.contains(FUNCTION) && text.contains(ARGUMENT) && !spelt_out && !names_none
}

fn message(role: &str, content: Value) -> Value {
    json!({ "role": role, "content": content })
}

fn calling(arguments_as_text: bool, null: bool) -> Value {
    let arguments = json!({ "place": ARGUMENT });
    let arguments = if arguments_as_text { arguments.to_string().into() } else { arguments };
    let function = json!({ "name": FUNCTION, "arguments": arguments });
    // Nine characters: some templates insist.
    let call = json!({ "id": "probecall", "type": "function", "function": function });
    let content = if null { Value::Null } else { json!("") };
    json!({ "role": "assistant", "content": content, "tool_calls": [call] })
}

fn result(content: Value) -> Value {
    json!({
        "role": "tool",
        "content": content,
        "name": FUNCTION,
        "tool_call_id": "probecall",
    })
}

fn tool() -> Value {
    let place = json!({ "type": "string", "description": "A place." });
    let parameters = json!({ "type": "object", "properties": { "place": place }, "required": ["place"] });
    json!({
        "type": "function",
        "function": { "name": "look", "description": "Looks.", "parameters": parameters },
    })
}
