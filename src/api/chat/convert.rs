//! From a chat request as it stood on the wire to one that a backend understands.

use std::collections::HashSet;

use super::{
    message::ChatCompletionRequestMessage,
    request::{CreateChatCompletionRequest, Modality, StreamOptions},
    tools::{
        AllowedToolsMode, ChatCompletionFunctions, FunctionCallMode, FunctionCallOption, ResponseFormat,
        Tool, ToolChoice, ToolChoiceMode, ToolChoiceObject, allowed_name,
    },
};
use crate::{
    api::{error::ApiError, payload::note_unknown, sampling},
    generation::{self, GenerationRequest, Input, SamplingParams},
};

/// How the client wants its answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Delivery {
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) logprobs: bool,
    /// The request used `functions`, so a call comes as `function_call`.
    pub(crate) functions: bool,
    pub(crate) metadata: Option<indexmap::IndexMap<String, String>>,
}

impl Delivery {
    pub(crate) fn of_stream(stream: Option<bool>, options: Option<&StreamOptions>) -> Result<Self, ApiError> {
        let stream = stream.unwrap_or(false);
        sampling::stream_options_need_stream(stream, options.is_some())?;
        let include_usage = options.and_then(|options| options.include_usage).unwrap_or(false);
        Ok(Self { stream, include_usage, ..Self::default() })
    }
}

/// What a backend must do, and how its answer is delivered.
///
/// # Errors
/// Parameters that contradict each other, and known ones that this server does not honour.
pub(crate) fn convert(
    request: CreateChatCompletionRequest,
) -> Result<(GenerationRequest, Delivery), ApiError> {
    let CreateChatCompletionRequest {
        messages,
        model: _,
        stream,
        stream_options,
        max_completion_tokens,
        max_tokens,
        temperature,
        top_p,
        top_k,
        min_p,
        frequency_penalty,
        presence_penalty,
        repetition_penalty,
        logit_bias,
        seed,
        stop,
        stop_token_ids,
        min_tokens,
        ignore_eos,
        n,
        logprobs,
        top_logprobs,
        tools,
        tool_choice,
        parallel_tool_calls,
        response_format,
        reasoning_effort,
        verbosity,
        chat_template_kwargs,
        modalities,
        prediction: _,
        audio,
        web_search_options,
        moderation,
        functions,
        function_call,
        store: _,
        metadata,
        service_tier: _,
        user: _,
        safety_identifier: _,
        prompt_cache_key: _,
        prompt_cache_retention: _,
        prompt_cache_options: _,
        extra,
    } = request;

    for (place, message) in messages.iter().enumerate() {
        if let ChatCompletionRequestMessage::Assistant(message) = message {
            refuse(&format!("messages[{place}].audio"), message.audio.is_some(), "Spoken answers are")?;
        }
    }
    refuse("audio", audio.is_some(), "Spoken answers are")?;
    refuse("web_search_options", web_search_options.is_some(), "Web search is")?;
    refuse("moderation", moderation.is_some(), "Moderation is")?;
    refuse("modalities", modalities.iter().flatten().any(|m| *m == Modality::Audio), "Spoken answers are")?;
    note_unknown(&extra);
    let logprobs = logprobs.unwrap_or(false);
    if top_logprobs.is_some_and(|top| top > 0) && !logprobs {
        return Err(ApiError::invalid("top_logprobs", "'top_logprobs' needs 'logprobs' to be true."));
    }
    let delivery = Delivery {
        logprobs,
        functions: functions.is_some(),
        metadata,
        ..Delivery::of_stream(stream, stream_options.as_ref())?
    };
    let (tools, tool_choice) = match functions {
        Some(functions) => old_functions(functions, function_call, tools.is_some())?,
        None if function_call.is_some() => {
            let message = "'function_call' needs 'functions': use 'tools' and 'tool_choice'.";
            return Err(ApiError::invalid("function_call", message));
        }
        None => {
            let tools = function_tools(tools.unwrap_or_default())?;
            let choice = choose(tool_choice, &tools)?;
            (tools, choice)
        }
    };
    let choices = n.unwrap_or(1);
    let sampling = SamplingParams {
        temperature,
        top_p,
        top_k,
        min_p,
        frequency_penalty: frequency_penalty.unwrap_or(0.0),
        presence_penalty: presence_penalty.unwrap_or(0.0),
        repetition_penalty,
        logit_bias: sampling::bias(logit_bias)?,
        seed,
        max_tokens: max_completion_tokens.or(max_tokens),
        min_tokens: min_tokens.unwrap_or(0),
        stop: sampling::stops(stop),
        stop_token_ids: stop_token_ids.unwrap_or_default(),
        ignore_eos: ignore_eos.unwrap_or(false),
    };
    let chat = generation::Chat {
        messages: messages.into_iter().map(Into::into).collect(),
        tools,
        tool_choice,
        parallel_tool_calls: parallel_tool_calls.unwrap_or(true),
        response_format: format(response_format),
        reasoning_effort: reasoning_effort.map(|effort| effort.as_str().to_owned()),
        verbosity: verbosity.map(|verbosity| verbosity.as_str().to_owned()),
        template_kwargs: chat_template_kwargs.unwrap_or_default(),
        add_generation_prompt: true,
    };
    let request = GenerationRequest {
        input: Input::Chat(Box::new(chat)),
        sampling,
        choices,
        best_of: choices,
        stream: delivery.stream,
        logprobs: logprobs.then(|| top_logprobs.unwrap_or(0)),
    };
    Ok((request, delivery))
}

fn refuse(param: &str, present: bool, what: &str) -> Result<(), ApiError> {
    if present {
        return Err(ApiError::unsupported(
            param,
            format!("{what} not supported by this server: leave out '{param}'."),
        ));
    }
    Ok(())
}

/// The tools of a request or of a tokenize request.
pub(crate) fn function_tools(tools: Vec<Tool>) -> Result<Vec<generation::Tool>, ApiError> {
    let mut names = HashSet::new();
    tools
        .into_iter()
        .enumerate()
        .map(|(position, tool)| match tool {
            Tool::Function(tool) if !names.insert(tool.function.name.clone()) => {
                let message = format!("There are two tools named '{}'.", tool.function.name);
                Err(ApiError::invalid(format!("tools[{position}].function.name"), message))
            }
            Tool::Function(tool) => Ok(generation::Tool {
                name: tool.function.name,
                description: tool.function.description,
                parameters: tool.function.parameters.map(Into::into),
                strict: tool.function.strict.unwrap_or(false),
            }),
            Tool::Custom(_) => {
                let message = "Custom tools are not supported by this server: use a function with one string parameter.";
                Err(ApiError::unsupported(format!("tools[{position}].type"), message))
            }
        })
        .collect()
}

fn choose(
    choice: Option<ToolChoice>,
    tools: &[generation::Tool],
) -> Result<generation::ToolChoice, ApiError> {
    use generation::ToolChoice as Choice;
    let known = |name: &str, param: &str| {
        if tools.iter().any(|tool| tool.name == name) {
            return Ok(name.to_owned());
        }
        Err(ApiError::invalid(param, format!("There is no tool named '{name}' in 'tools'.")))
    };
    let some_tool = |choice| {
        if tools.is_empty() {
            return Err(ApiError::invalid(
                "tool_choice",
                "'tool_choice' demands a call, but 'tools' has none.",
            ));
        }
        Ok(choice)
    };
    match choice {
        None | Some(ToolChoice::Mode(ToolChoiceMode::Auto)) => Ok(Choice::Auto),
        Some(ToolChoice::Mode(ToolChoiceMode::None)) => Ok(Choice::None),
        Some(ToolChoice::Mode(ToolChoiceMode::Required)) => some_tool(Choice::Required),
        Some(ToolChoice::Object(ToolChoiceObject::Function(named))) => {
            known(&named.function.name, "tool_choice.function.name").map(Choice::Named)
        }
        Some(ToolChoice::Object(ToolChoiceObject::Custom(_))) => {
            Err(ApiError::unsupported("tool_choice.type", "Custom tools are not supported by this server."))
        }
        Some(ToolChoice::Object(ToolChoiceObject::Allowed(allowed))) => {
            let names = allowed.allowed_tools.tools.iter().enumerate().map(|(position, tool)| {
                let param = format!("tool_choice.allowed_tools.tools[{position}]");
                match allowed_name(tool) {
                    Some(name) => known(name, &param),
                    None => Err(ApiError::invalid(param, "An allowed tool is named by its 'function.name'.")),
                }
            });
            let names = names.collect::<Result<Vec<_>, _>>()?;
            let required = allowed.allowed_tools.mode == AllowedToolsMode::Required;
            if required && names.is_empty() {
                return some_tool(Choice::Required).and_then(|_| {
                    let message = "'allowed_tools' demands a call, but allows no tool.";
                    Err(ApiError::invalid("tool_choice.allowed_tools.tools", message))
                });
            }
            Ok(Choice::Allowed { names, required })
        }
    }
}

/// The form before tools: a list of functions, and which one to call.
fn old_functions(
    functions: Vec<ChatCompletionFunctions>,
    call: Option<FunctionCallOption>,
    tools_too: bool,
) -> Result<(Vec<generation::Tool>, generation::ToolChoice), ApiError> {
    if tools_too {
        return Err(ApiError::invalid(
            "functions",
            "'functions' and 'tools' exclude each other: use 'tools'.",
        ));
    }
    let tools: Vec<generation::Tool> = functions
        .into_iter()
        .map(|function| generation::Tool {
            name: function.name,
            description: function.description,
            parameters: function.parameters.map(Into::into),
            strict: false,
        })
        .collect();
    let choice = match call {
        None | Some(FunctionCallOption::Mode(FunctionCallMode::Auto)) => generation::ToolChoice::Auto,
        Some(FunctionCallOption::Mode(FunctionCallMode::None)) => generation::ToolChoice::None,
        Some(FunctionCallOption::Named(named)) => {
            if !tools.iter().any(|tool| tool.name == named.name) {
                let message = format!("There is no function named '{}' in 'functions'.", named.name);
                return Err(ApiError::invalid("function_call.name", message));
            }
            generation::ToolChoice::Named(named.name)
        }
    };
    Ok((tools, choice))
}

fn format(format: Option<ResponseFormat>) -> generation::ResponseFormat {
    match format {
        None | Some(ResponseFormat::Text(_)) => generation::ResponseFormat::Text,
        Some(ResponseFormat::JsonObject(_)) => generation::ResponseFormat::JsonObject,
        Some(ResponseFormat::JsonSchema(named)) => match named.json_schema.schema {
            None => generation::ResponseFormat::JsonObject,
            Some(schema) => generation::ResponseFormat::JsonSchema {
                name: named.json_schema.name,
                schema: schema.into(),
                strict: named.json_schema.strict.unwrap_or(false),
            },
        },
    }
}
