//! Chat templates against Python's jinja2: `tests/fixtures/templates.py` wrote what it gives.

use std::time::{Duration, UNIX_EPOCH};

use sconce::{
    generation::Error,
    text::{ChatTemplate, Clock, chat_template::Features},
};

use crate::{chat::chat, fixture, json};

/// Compares all conversations of the fixture on the template of this name.
fn check(name: &str) {
    let table = json("templates.json");
    let now = UNIX_EPOCH + Duration::from_secs(table["now"].as_u64().unwrap());
    let source = std::fs::read_to_string(fixture(&format!("templates/{name}.jinja"))).unwrap();
    let tokens = table["special_tokens"].as_object().unwrap().clone();
    let template = ChatTemplate::from_source(&source, tokens, Clock::fixed(now)).unwrap();
    let conversations = table["conversations"].as_array().unwrap();
    let expected = table["expected"][name].as_array().unwrap();
    assert!(conversations.len() >= 20 && conversations.len() == expected.len());
    let mut wrong = Vec::new();
    for (request, expected) in conversations.iter().zip(expected) {
        let rendered = template.render(&chat(request));
        let equal = match (&rendered, expected["text"].as_str(), expected["raised"].as_str()) {
            (Ok(text), Some(expected), _) => text == expected,
            (Err(Error::InvalidParameter { param, message }), None, raised) => {
                param == "messages" && raised.is_none_or(|raised| message == raised)
            }
            _ => false,
        };
        if !equal {
            wrong.push(format!("{}:\n  is       {rendered:?}\n  expected {expected}", request["name"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), expected.len(), wrong.join("\n"));
}

macro_rules! as_in_python {
    ($($name:ident),*) => {
        mod as_in_python {
            $(#[test] fn $name() { super::check(stringify!($name)); })*
        }
    };
}

as_in_python!(chatml, chatml_tools, deepseek, gemma, harmony, llama3, mistral, parts, phi, python);

#[test]
fn what_a_template_can_do_is_found_out() {
    let features = |name: &str| {
        let source = std::fs::read_to_string(fixture(&format!("templates/{name}.jinja"))).unwrap();
        let template = ChatTemplate::from_source(&source, serde_json::Map::new(), Clock::default()).unwrap();
        let Features { system, tools, reasoning, generation_prompt } = template.features();
        [system, tools, reasoning, generation_prompt]
    };
    for (name, expected) in [
        ("chatml", [true, false, false, true]),
        ("chatml_tools", [true, true, true, true]),
        ("deepseek", [true, false, true, true]),
        ("gemma", [true, false, false, true]),
        ("harmony", [true, true, true, true]),
        ("llama3", [true, true, false, true]),
        ("mistral", [true, true, false, false]),
        ("phi", [true, false, false, true]),
    ] {
        assert_eq!(features(name), expected, "{name}: system, tools, reasoning, generation prompt");
    }
    let Features { system, tools, reasoning, generation_prompt } = ChatTemplate::plain().features();
    assert_eq!([system, tools, reasoning, generation_prompt], [true, false, false, true]);
}
