//! A conversation to the text that the model was trained to continue.
//!
//! Templates are written in Jinja for Python; what they give here equals what they give in transformers.

mod clock;
mod conversation;
mod environment;
mod features;
mod habits;
mod json;
mod python;
mod source;

use std::{
    error,
    path::{Path, PathBuf},
};

use minijinja::{Environment, value::Serde};
use serde_json::{Map, Value};

pub use self::{clock::Clock, features::Features};
use self::{environment::Raised, habits::Habits, source::Sources};
use super::LoadError;
use crate::generation::{Chat, Error};

const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";

/// A model's chat template, compiled once for all conversations.
#[derive(Debug)]
pub struct ChatTemplate(Option<Jinja>);

#[derive(Debug)]
struct Jinja {
    environment: Environment<'static>,
    default: Template,
    /// For conversations with tools, where the model has one of its own.
    tool_use: Option<Template>,
    special_tokens: Map<String, Value>,
    /// The file that has the first of the templates, where it is one.
    origin: Option<PathBuf>,
}

#[derive(Debug)]
struct Template {
    name: &'static str,
    source: String,
    habits: Habits,
}

impl ChatTemplate {
    /// The template of a model's directory: `chat_template.jinja` and `additional_chat_templates/`, else what
    /// `tokenizer_config.json` says. A model without one gets [`Self::plain`].
    ///
    /// # Errors
    /// Files that cannot be read, and templates that cannot be compiled.
    pub fn from_directory(directory: &Path, clock: Clock) -> Result<Self, LoadError> {
        let Sources { templates, special_tokens, origin } = Sources::read(directory)?;
        if templates.is_empty() {
            return Ok(Self::plain());
        }
        let mut template = Self::from_named(&templates, special_tokens, clock)
            .map_err(|message| LoadError::new(directory, message))?;
        if let Some(jinja) = &mut template.0 {
            jinja.origin = Some(origin);
        }
        Ok(template)
    }

    /// One template for all conversations, such as a GGUF file has. `special_tokens` are the variables that it may
    /// write: `bos_token`, `eos_token`.
    ///
    /// # Errors
    /// Why it cannot be compiled.
    pub fn from_source(
        source: &str,
        special_tokens: Map<String, Value>,
        clock: Clock,
    ) -> Result<Self, String> {
        Self::from_named(&[(DEFAULT.to_owned(), source.to_owned())], special_tokens, clock)
    }

    /// Templates by name: `tool_use` renders conversations with tools, `default` all others. Others are never used.
    ///
    /// # Errors
    /// Why one cannot be compiled, or that there is no `default`.
    pub fn from_named(
        templates: &[(String, String)],
        special_tokens: Map<String, Value>,
        clock: Clock,
    ) -> Result<Self, String> {
        let source = |wanted: &str| {
            templates.iter().find(|(name, _)| name == wanted).map(|(_, source)| source.as_str())
        };
        let template = |name| {
            let source = source(name)?.to_owned();
            Some(Template { name, source, habits: Habits::default() })
        };
        let Some(default) = template(DEFAULT) else {
            let names: Vec<&str> = templates.iter().map(|(name, _)| name.as_str()).collect();
            return Err(format!("of its chat templates ({}) none is named '{DEFAULT}'", names.join(", ")));
        };
        let tool_use = template(TOOL_USE);
        let named =
            [&default].into_iter().chain(&tool_use).map(|template| (template.name, &*template.source));
        let mut environment = environment::environment(named, clock)
            .map_err(|error| format!("its chat template cannot be compiled: {error:#}"))?;
        // Enough for small conversations, however the template works.
        environment.set_fuel(Some(environment::FUEL / 100));
        let mut jinja = Jinja { environment, default, tool_use, special_tokens, origin: None };
        jinja.default.habits = jinja.habits(&jinja.default);
        if let Some(tool_use) = &jinja.tool_use {
            let habits = jinja.habits(tool_use);
            jinja.tool_use = jinja.tool_use.take().map(|template| Template { habits, ..template });
        }
        jinja.environment.set_fuel(Some(environment::FUEL));
        Ok(Self(Some(jinja)))
    }

    /// For models without a template: a line `role: content` for each message.
    #[must_use]
    pub fn plain() -> Self {
        Self(None)
    }

    /// The source of the template that renders conversations with (or without) tools; `None` for [`Self::plain`].
    /// Its markers tell in which format the model writes tool calls.
    #[must_use]
    pub fn source(&self, with_tools: bool) -> Option<&str> {
        let jinja = self.0.as_ref()?;
        Some(&jinja.choose(with_tools).source)
    }

    /// The file that it was read from; `None` where there was no file, or no template.
    #[must_use]
    pub fn origin(&self) -> Option<&Path> {
        self.0.as_ref()?.origin.as_deref()
    }

    /// The text of a conversation. It has its BOS already: encode it without special tokens.
    ///
    /// # Errors
    /// What the template refuses, in its own words; content that is not text; variables that are not to be set.
    pub fn render(&self, chat: &Chat) -> Result<String, Error> {
        let Some(jinja) = &self.0 else {
            return plain(chat);
        };
        let tools = conversation::tools(chat);
        let template = jinja.choose(tools.is_some());
        let mut variables = jinja.variables(
            conversation::messages(chat, &template.habits)?,
            tools.unwrap_or_default(),
            chat.add_generation_prompt,
        );
        let settings = [("reasoning_effort", &chat.reasoning_effort), ("verbosity", &chat.verbosity)];
        for (name, value) in settings {
            if let Some(value) = value {
                variables.insert(name.to_owned(), value.as_str().into());
            }
        }
        if let Some(effort) = &chat.reasoning_effort {
            // What other models' templates call it; vLLM hands it over likewise.
            variables.insert("enable_thinking".to_owned(), (effort != "none").into());
        }
        for (name, value) in &chat.template_kwargs {
            if name == "messages" || name == "tools" {
                let message =
                    format!("The template's variable '{name}' is what the request's '{name}' says.");
                return Err(Error::invalid(format!("chat_template_kwargs.{name}"), message));
            }
            variables.insert(name.clone(), value.clone());
        }
        jinja.render(template, &variables).map_err(|error| refusal(&error))
    }
}

impl Jinja {
    fn choose(&self, with_tools: bool) -> &Template {
        self.tool_use.as_ref().filter(|_| with_tools).unwrap_or(&self.default)
    }

    fn habits(&self, template: &Template) -> Habits {
        Habits::of(&template.source, |messages, tools| {
            self.render(template, &self.variables(messages, tools, true)).ok()
        })
    }

    fn variables(&self, messages: Value, tools: Value, add_generation_prompt: bool) -> Map<String, Value> {
        let mut variables = self.special_tokens.clone();
        variables.insert("messages".to_owned(), messages);
        variables.insert("tools".to_owned(), tools);
        variables.insert("documents".to_owned(), Value::Null);
        variables.insert("add_generation_prompt".to_owned(), add_generation_prompt.into());
        variables
    }

    fn render(
        &self,
        template: &Template,
        variables: &Map<String, Value>,
    ) -> Result<String, minijinja::Error> {
        self.environment.get_template(template.name)?.render(Serde(variables))
    }
}

fn plain(chat: &Chat) -> Result<String, Error> {
    let habits = Habits::default();
    let messages = conversation::messages(chat, &habits)?;
    let line = |message: &Value| {
        let [role, content] = ["role", "content"].map(|key| message[key].as_str().unwrap_or_default());
        format!("{role}: {content}")
    };
    let mut lines: Vec<String> = messages.as_array().into_iter().flatten().map(line).collect();
    if chat.add_generation_prompt {
        lines.push("assistant:".to_owned());
    }
    Ok(lines.join("\n"))
}

/// A template that fails on a conversation does so because of its messages.
fn refusal(error: &minijinja::Error) -> Error {
    let mut cause: Option<&dyn error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(Raised(message)) = error.downcast_ref() {
            return Error::invalid("messages", message);
        }
        cause = error.source();
    }
    if error.kind() == minijinja::ErrorKind::OutOfFuel {
        return Error::invalid("messages", "The model's chat template takes too long with these messages.");
    }
    Error::invalid("messages", format!("The model's chat template cannot render these messages: {error}"))
}
