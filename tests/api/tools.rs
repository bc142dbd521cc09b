//! Tool calls and structured answers.

use serde_json::{Value, json};

use crate::common::{TestServer, chat, with};

const CHAT: &str = "/v1/chat/completions";

fn tools() -> Value {
    json!([
        { "type": "function", "function": { "name": "clock" } },
        { "type": "function", "function": { "name": "weather", "parameters": {
            "type": "object",
            "properties": {
                "city": { "type": "string", "minLength": 2 },
                "unit": { "enum": ["C", "F"] },
                "days": { "type": "integer", "minimum": 1 },
                "note": { "type": "string" },
            },
            "required": ["city", "unit", "days"],
        } } },
    ])
}

const ARGUMENTS: &str = r#"{"city":"  ","unit":"C","days":1}"#;

#[tokio::test]
async fn a_demanded_call_has_the_smallest_arguments() {
    let server = TestServer::start(&[]);
    let named = json!({ "type": "function", "function": { "name": "weather" } });
    let body = with(chat("hi"), json!({ "tools": tools(), "tool_choice": named }));
    let answer = server.ok(CHAT, &body).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], Value::Null);
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!(call["type"], "function");
    assert_eq!(call["function"], json!({ "name": "weather", "arguments": ARGUMENTS }));

    let required = with(chat("hi"), json!({ "tools": tools(), "tool_choice": "required" }));
    let answer = server.ok(CHAT, &required).await;
    let function = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(function, &json!({ "name": "clock", "arguments": "{}" }));

    let allowed =
        json!({ "type": "allowed_tools", "allowed_tools": { "mode": "required", "tools": [named] } });
    let answer =
        server.ok(CHAT, &with(chat("hi"), json!({ "tools": tools(), "tool_choice": allowed }))).await;
    assert_eq!(answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "weather");
}

#[tokio::test]
async fn a_streamed_call_names_itself_once_and_then_grows() {
    let server = TestServer::start(&[]);
    let named = json!({ "type": "function", "function": { "name": "weather" } });
    let body = with(chat("hi"), json!({ "tools": tools(), "tool_choice": named }));
    let whole = server.ok(CHAT, &body).await;
    let chunks = server.stream(CHAT, &body).await;
    let deltas: Vec<&Value> =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0)).collect();
    assert!(deltas.len() > 2);
    assert!(deltas.iter().all(|delta| delta["index"] == 0));
    assert_eq!(deltas[0]["id"], whole["choices"][0]["message"]["tool_calls"][0]["id"]);
    assert_eq!((&deltas[0]["type"], &deltas[0]["function"]["name"]), (&json!("function"), &json!("weather")));
    for delta in &deltas[1..] {
        assert!(
            delta.get("id").is_none()
                && delta.get("type").is_none()
                && delta["function"].get("name").is_none()
        );
    }
    let arguments: String =
        deltas.iter().map(|delta| delta["function"]["arguments"].as_str().unwrap()).collect();
    assert_eq!(arguments, ARGUMENTS);
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn the_call_ids_of_a_conversation_differ_from_turn_to_turn() {
    let server = TestServer::start(&[]);
    let fields = json!({ "tools": tools(), "tool_choice": "required", "n": 2 });
    let id = |answer: &Value, choice: usize| {
        answer["choices"][choice]["message"]["tool_calls"][0]["id"].as_str().unwrap().to_owned()
    };
    let first = server.ok(CHAT, &with(chat("one"), fields.clone())).await;
    let second = server.ok(CHAT, &with(chat("two"), fields)).await;
    assert_ne!(id(&first, 0), id(&second, 0));
    assert_ne!(id(&first, 0), id(&first, 1));
}

#[tokio::test]
async fn tools_left_to_the_model_are_not_called() {
    let server = TestServer::start(&[]);
    for choice in [json!(null), json!("auto"), json!("none")] {
        let answer =
            server.ok(CHAT, &with(chat("hi"), json!({ "tools": tools(), "tool_choice": choice }))).await;
        assert_eq!(answer["choices"][0]["message"]["content"], "Echo from gpt-oss-20b: hi");
        assert!(answer["choices"][0]["message"].get("tool_calls").is_none());
    }
}

#[tokio::test]
async fn functions_of_old_are_called_as_functions() {
    let server = TestServer::start(&[]);
    let fields = json!({ "functions": [{ "name": "clock" }], "function_call": { "name": "clock" } });
    let body = with(chat("hi"), fields);
    let answer = server.ok(CHAT, &body).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "function_call");
    assert_eq!(
        answer["choices"][0]["message"]["function_call"],
        json!({ "name": "clock", "arguments": "{}" })
    );
    let chunks = server.stream(CHAT, &body).await;
    let named: Vec<&Value> = chunks
        .iter()
        .filter(|chunk| chunk["choices"][0]["delta"]["function_call"]["name"] == "clock")
        .collect();
    assert_eq!(named.len(), 1);
}

#[tokio::test]
async fn a_response_format_is_met() {
    let server = TestServer::start(&[]);
    let schema = json!({
        "$defs": { "Step": { "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] } },
        "type": "object",
        "properties": { "steps": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/Step" } } },
        "required": ["steps"],
        "additionalProperties": false,
    });
    let cases = [
        (json!({ "type": "json_object" }), "{}"),
        (
            json!({ "type": "json_schema", "json_schema": { "name": "a", "schema": schema, "strict": true } }),
            r#"{"steps":[{"n":0}]}"#,
        ),
        (json!({ "type": "json_schema", "json_schema": { "name": "a" } }), "{}"),
        (json!({ "type": "text" }), "Echo from gpt-oss-20b: hi"),
    ];
    for (format, text) in cases {
        let body = with(chat("hi"), json!({ "response_format": format }));
        assert_eq!(server.ok(CHAT, &body).await["choices"][0]["message"]["content"], text, "{format}");
    }
}

#[tokio::test]
async fn demands_that_cannot_be_met_are_refused_by_their_place() {
    let server = TestServer::start(&[]);
    let named = |name: &str| json!({ "type": "function", "function": { "name": name } });
    let cases = [
        (json!({ "tool_choice": "required" }), "tool_choice", "invalid_value"),
        (
            json!({ "tools": tools(), "tool_choice": named("nope") }),
            "tool_choice.function.name",
            "invalid_value",
        ),
        (
            json!({ "tools": [{ "type": "custom", "custom": { "name": "c" } }] }),
            "tools[0].type",
            "unsupported_value",
        ),
        (json!({ "tools": [named("a"), named("a")] }), "tools[1].function.name", "invalid_value"),
        (json!({ "functions": [{ "name": "f" }], "tools": tools() }), "functions", "invalid_value"),
        (json!({ "function_call": "auto" }), "function_call", "invalid_value"),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "a", "schema": { "not": {} } } } }),
            "response_format.json_schema.schema",
            "unsupported_value",
        ),
    ];
    for (fields, param, code) in cases {
        let (status, error) = server.error(CHAT, &with(chat("hi"), fields.clone())).await;
        assert_eq!(
            (status, &error["param"], &error["code"]),
            (400, &json!(param), &json!(code)),
            "{fields}: {error}"
        );
    }
}
