//! Where templates come from, what they refuse, and how they are kept in bounds.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant, UNIX_EPOCH},
};

use sconce::{
    generation::Error,
    text::{ChatTemplate, Clock},
};
use serde_json::{Map, Value, json};

use crate::chat::chat;

/// A model's directory with these files.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

fn load(path: &Path) -> ChatTemplate {
    ChatTemplate::from_directory(path, Clock::default()).unwrap()
}

fn template(source: &str) -> ChatTemplate {
    let tokens = Map::from_iter([("bos_token".into(), "<s>".into()), ("eos_token".into(), "</s>".into())]);
    ChatTemplate::from_source(source, tokens, Clock::default()).unwrap()
}

fn hello() -> Value {
    json!({ "messages": [{ "role": "user", "content": "Hello" }] })
}

fn hello_with_tools() -> Value {
    let mut request = hello();
    request["tools"] = json!([{ "type": "function", "function": { "name": "ping" } }]);
    request
}

fn refused(template: &ChatTemplate, request: &Value) -> (String, String) {
    match template.render(&chat(request)) {
        Err(Error::InvalidParameter { param, message } | Error::Unsupported { param, message }) => {
            (param, message)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_configuration_has_one_template_and_its_tokens() {
    let config = json!({
        "chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ image_token }}{{ add_bos_token }}",
        "bos_token": { "content": "<s>", "lstrip": false },
        "eos_token": "</s>",
        "add_bos_token": true,
        "extra_special_tokens": { "image_token": "<image>" },
    });
    let model = directory(&[("tokenizer_config.json", &config.to_string())]);
    assert_eq!(load(model.path()).render(&chat(&hello())).unwrap(), "<s>Hello</s><image>");
}

#[test]
fn tokens_that_the_configuration_lacks_are_in_the_special_tokens_map() {
    let model = directory(&[
        (
            "tokenizer_config.json",
            r#"{"chat_template": "{{ bos_token }}{{ eos_token }}", "eos_token": "</s>"}"#,
        ),
        ("special_tokens_map.json", r#"{"bos_token": {"content": "<s>"}, "eos_token": "<old>"}"#),
    ]);
    assert_eq!(load(model.path()).render(&chat(&hello())).unwrap(), "<s></s>");
}

#[test]
fn conversations_with_tools_take_the_template_for_tools() {
    let named = json!({ "chat_template": [
        { "name": "rag", "template": "{{ broken" },
        { "name": "default", "template": "default" },
        { "name": "tool_use", "template": "{{ tools[0].function.name }}{{ tools[0].function.parameters | tojson }}" },
    ] });
    let model = directory(&[("tokenizer_config.json", &named.to_string())]);
    let template = load(model.path());
    assert_eq!(template.render(&chat(&hello())).unwrap(), "default");
    let with_tools = template.render(&chat(&hello_with_tools())).unwrap();
    assert_eq!(with_tools, r#"ping{"type": "object", "properties": {}}"#);
    assert_eq!(template.source(false), Some("default"));
    assert!(template.source(true).unwrap().contains("tools[0]"));
    let mut forbidden = hello_with_tools();
    forbidden["tool_choice"] = json!("none");
    assert_eq!(template.render(&chat(&forbidden)).unwrap(), "default");
}

#[test]
fn template_files_come_before_the_configuration() {
    let files = [
        ("tokenizer_config.json", r#"{"chat_template": "config", "bos_token": "<s>"}"#),
        ("chat_template.jinja", "{{ bos_token }}file\n"),
        ("additional_chat_templates/tool_use.jinja", "tools"),
        ("additional_chat_templates/notes.txt", "{{ broken"),
    ];
    let template = load(directory(&files).path());
    assert_eq!(template.render(&chat(&hello())).unwrap(), "<s>file");
    assert_eq!(template.render(&chat(&hello_with_tools())).unwrap(), "tools");
    let template = load(directory(&files[..2]).path());
    assert_eq!(template.render(&chat(&hello_with_tools())).unwrap(), "<s>file");
}

#[test]
fn a_model_without_a_template_gets_plain_lines() {
    let request = json!({ "messages": [
        { "role": "developer", "content": "Be brief." },
        { "role": "user", "content": [{ "type": "text", "text": "One" }, { "type": "text", "text": "Two" }] },
    ] });
    let model = directory(&[("tokenizer_config.json", r#"{"bos_token": "<s>", "chat_template": null}"#)]);
    for template in [load(directory(&[]).path()), load(model.path()), ChatTemplate::plain()] {
        let text = template.render(&chat(&request)).unwrap();
        assert_eq!(text, "system: Be brief.\nuser: One\nTwo\nassistant:");
        assert_eq!(template.source(false), None);
    }
    let mut finished = hello();
    finished["add_generation_prompt"] = json!(false);
    assert_eq!(ChatTemplate::plain().render(&chat(&finished)).unwrap(), "user: Hello");
}

#[test]
fn what_cannot_be_used_is_told_with_its_place() {
    let broken = directory(&[("chat_template.jinja", "{% for x in %}")]);
    let nameless = directory(&[("additional_chat_templates/rag.jinja", "x")]);
    let no_json = directory(&[("tokenizer_config.json", "{")]);
    for (model, words) in [(&broken, "compiled"), (&nameless, "(rag)"), (&no_json, "tokenizer_config.json")] {
        let error = ChatTemplate::from_directory(model.path(), Clock::default()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(error.contains(model.path().to_str().unwrap()), "{error}");
    }
}

#[test]
fn content_that_is_no_text_is_refused_by_name() {
    let template = template("{{ messages[0].content }}");
    for (part, kind) in [
        (json!({ "type": "image_url", "image_url": { "url": "data:," } }), "images"),
        (json!({ "type": "input_audio" }), "audio"),
        (json!({ "type": "file" }), "files"),
    ] {
        let content = json!([{ "type": "text", "text": "Look:" }, part]);
        let request = json!({ "messages": [
            { "role": "system", "content": "" }, { "role": "user", "content": content },
        ] });
        let (param, message) = refused(&template, &request);
        assert_eq!(param, "messages[1].content[1]");
        assert!(message.contains(kind), "{message}");
        assert_eq!(refused(&ChatTemplate::plain(), &request).0, param);
    }
}

#[test]
fn the_template_s_own_words_are_the_error() {
    let raising =
        template("{% macro check() %}{{ raise_exception('No \"users\" here!') }}{% endmacro %}{{ check() }}");
    assert_eq!(refused(&raising, &hello()), ("messages".to_owned(), "No \"users\" here!".to_owned()));
    let failing = template("{{ messages[7].content.strip() }}");
    let (param, message) = refused(&failing, &hello());
    assert!(param == "messages" && message.starts_with("The model's chat template"), "{message}");
}

#[test]
fn variables_of_the_request_may_not_pose_as_messages() {
    let template = template("{{ messages[0].content }}{{ color }}");
    for name in ["messages", "tools"] {
        let mut request = hello();
        request["chat_template_kwargs"] = json!({ name: [] });
        assert_eq!(refused(&template, &request).0, format!("chat_template_kwargs.{name}"));
    }
    let mut request = hello();
    request["chat_template_kwargs"] = json!({ "color": "red" });
    assert_eq!(template.render(&chat(&request)).unwrap(), "Hellored");
}

#[test]
fn runaway_templates_are_stopped() {
    let runaways = [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{% set ns = namespace(x='x') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{{ 'x' * 100000000000 }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ messages | tojson(indent=64) }}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{{ (messages[0].content * 99999).strip().split('l') }}{% endfor %}",
    ];
    for source in runaways {
        let begin = Instant::now();
        let template = template(source);
        assert_eq!(refused(&template, &hello()).0, "messages", "{source}");
        eprintln!("{:?} {source}", begin.elapsed());
    }
}

#[test]
fn long_conversations_are_no_runaways() {
    let turn = |place: usize| {
        let role = if place.is_multiple_of(2) { "user" } else { "assistant" };
        json!({ "role": role, "content": format!("{place} {}", "many words ".repeat(200)) })
    };
    let messages: Vec<Value> = (0..4001).map(turn).collect();
    for name in ["chatml", "chatml_tools", "gemma", "llama3", "mistral", "harmony"] {
        let source = fs::read_to_string(crate::fixture(&format!("templates/{name}.jinja"))).unwrap();
        let begin = Instant::now();
        let text = template(&source).render(&chat(&json!({ "messages": messages }))).unwrap();
        eprintln!("{name}: {} bytes in {:?}", text.len(), begin.elapsed());
        assert!(text.contains("4000 many words"));
    }
}

#[test]
fn the_clock_is_given() {
    let at = |seconds| {
        let clock = Clock::fixed(UNIX_EPOCH + Duration::from_secs(seconds));
        let source = "{{ strftime_now('%Y-%m-%d %H:%M:%S %a %b %j') }}";
        let template = ChatTemplate::from_source(source, Map::new(), clock).unwrap();
        template.render(&chat(&hello())).unwrap()
    };
    assert_eq!(at(0), "1970-01-01 00:00:00 Thu Jan 001");
    assert_eq!(at(951_782_400 + 86_399), "2000-02-29 23:59:59 Tue Feb 060");
    assert_eq!(at(1_735_603_200), "2024-12-31 00:00:00 Tue Dec 366");
    assert_eq!(at(4_107_542_400), "2100-03-01 00:00:00 Mon Mar 060");
}

#[test]
fn line_ends_of_other_systems_are_as_in_jinja2() {
    let template = template("a\r\nb\r{% if true %}\r\nc\r\n{% endif %}\r\n");
    assert_eq!(template.render(&chat(&hello())).unwrap(), "a\nb\nc\n");
}

#[test]
fn what_a_template_expects_of_calls_is_found_out() {
    let call = json!({ "id": "call00001", "function": { "name": "look", "arguments": r#"{"at":"Paris"}"# } });
    let request = json!({ "messages": [
        { "role": "user", "content": "Look!" }, { "role": "assistant", "content": null, "tool_calls": [call] },
    ] });
    for (content, arguments, expected) in [
        ("m.content", "c.arguments", r#"Look!look{"at":"Paris"}"#),
        ("(m.content or '')", "(c.arguments | tojson)", r#"Look!look{"at": "Paris"}"#),
        (
            "('nothing' if m.content is none else m.content)",
            "(c.arguments | tojson)",
            r#"Look!nothinglook{"at": "Paris"}"#,
        ),
    ] {
        let calls = format!(
            "{{% for t in m.tool_calls %}}{{% set c = t.function %}}{{{{ c.name ~ {arguments} }}}}{{% endfor %}}"
        );
        let source = format!("{{% for m in messages %}}{{{{ {content} }}}}{calls}{{% endfor %}}");
        assert_eq!(template(&source).render(&chat(&request)).unwrap(), expected, "{source}");
    }
}
