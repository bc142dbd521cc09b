//! What a template can do, found out by rendering small conversations with it.

use serde::Serialize;
use serde_json::{Value, json};

use super::{ChatTemplate, Jinja};

/// Words that no template has of its own.
const WORD: &str = "sconce3word";
const FUNCTION: &str = "sconce4function";

/// What a template writes when a conversation has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Features {
    /// A system message's text.
    pub system: bool,
    /// Tools' descriptions.
    pub tools: bool,
    /// An answer's reasoning, or how much of it is wanted.
    pub reasoning: bool,
    /// The head of the answer to come.
    pub generation_prompt: bool,
}

impl ChatTemplate {
    #[must_use]
    pub fn features(&self) -> Features {
        let Some(jinja) = &self.0 else {
            return Features { system: true, tools: false, reasoning: false, generation_prompt: true };
        };
        let user = || json!({ "role": "user", "content": "Question" });
        let system = |content: Value| json!([{ "role": "system", "content": content }, user()]);
        let part = json!([{ "type": "text", "text": WORD }]);
        let shown = |messages, word: &str| jinja.probe(messages, None, true, &[]).contains(word);
        let tool = json!([{
            "type": "function",
            "function": { "name": FUNCTION, "description": "Looks.", "parameters": { "type": "object", "properties": {} } },
        }]);
        let plain = |variables: &[(&str, Value)]| jinja.probe(json!([user()]), None, true, variables);
        let switched = |name: &str, off: Value, on: Value| plain(&[(name, off)]) != plain(&[(name, on)]);
        let thought = json!([
            user(),
            { "role": "assistant", "content": "Answer", "reasoning_content": WORD, "thinking": WORD },
        ]);
        // Templates of reasoning models leave what an earlier answer thought out of the conversation.
        let inline = format!("<think>{WORD}</think>{FUNCTION}");
        let earlier = json!([user(), { "role": "assistant", "content": inline }, user()]);
        let left_out = shown(earlier.clone(), FUNCTION) && !shown(earlier, WORD);
        Features {
            system: shown(system(json!(WORD)), WORD) || shown(system(part), WORD),
            tools: jinja.probe(json!([user()]), Some(tool), true, &[]).contains(FUNCTION),
            reasoning: shown(thought, WORD)
                || left_out
                || plain(&[]).contains("<think>")
                || switched("enable_thinking", json!(false), json!(true))
                || switched("thinking", json!(false), json!(true))
                || switched("reasoning_effort", json!("low"), json!("high")),
            generation_prompt: jinja.probe(json!([user()]), None, false, &[]) != plain(&[]),
        }
    }
}

impl Jinja {
    /// What it renders; nothing where it refuses.
    fn probe(
        &self,
        messages: Value,
        tools: Option<Value>,
        add_generation_prompt: bool,
        more: &[(&str, Value)],
    ) -> String {
        let template = self.choose(tools.is_some());
        let mut variables = self.variables(messages, tools.unwrap_or_default(), add_generation_prompt);
        variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        self.render(template, &variables).unwrap_or_default()
    }
}
