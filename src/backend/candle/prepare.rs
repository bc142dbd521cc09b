//! From a request in words to one in tokens.

use sha2::{Digest, Sha256};

use super::{Loaded, Settings, defaults::Defaults};
use crate::{
    engine,
    generation::{
        Chat, Error, GenerationRequest, Input, Prompt, PromptText, ResponseFormat, SamplingParams, ToolChoice,
    },
    text::{Tokenizer, channels::Reader},
};

/// Where neither the request, the configuration nor the model says anything: the predecessor's value.
const TEMPERATURE: f64 = 0.7;

/// What the engine runs, and what its answer is made of.
pub(super) struct Prepared {
    pub(super) request: engine::Request,
    pub(super) plan: Plan,
}

/// How the engine's tokens become an answer.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) choices: u32,
    pub(super) best_of: u32,
    pub(super) stop: Vec<String>,
    /// Likeliest tokens to tell beside each token's own logprob.
    pub(super) logprobs: Option<usize>,
    /// The prompt's ids, where the answer repeats it.
    pub(super) echo: Option<Vec<u32>>,
    pub(super) prompt_tokens: u64,
    /// Of each choice's text, at its beginning.
    pub(super) reader: Reader,
    /// An answer may have more than one tool call.
    pub(super) parallel_tool_calls: bool,
    pub(super) call_ids: CallIds,
}

/// The ids of tool calls: of the same request always the same, of another turn of the conversation others.
#[derive(Debug, Clone)]
pub(super) struct CallIds {
    prompt: Sha256,
    short: bool,
}

impl CallIds {
    fn new(prompt: &[u32], short: bool) -> Self {
        let digest = |prompt| Sha256::new().chain_update(prompt);
        let bytes: Vec<u8> = prompt.iter().flat_map(|id| id.to_le_bytes()).collect();
        Self { prompt: digest(bytes), short }
    }

    /// The id of a choice's call number `index`.
    pub(super) fn id(&self, choice: u32, index: u32) -> String {
        let digest = self
            .prompt
            .clone()
            .chain_update(choice.to_le_bytes())
            .chain_update(index.to_le_bytes())
            .finalize();
        let digits: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        if self.short { digits[..9].to_owned() } else { format!("call_{digits}") }
    }
}

/// How tokens are drawn where the request does not say.
pub(super) struct Drawing {
    pub(super) temperature: f64,
    pub(super) top_p: f64,
    pub(super) top_k: usize,
    pub(super) min_p: f64,
    pub(super) repetition_penalty: f64,
}

impl Drawing {
    /// The configuration's values; the model's where that has none.
    pub(super) fn new(settings: &Settings, model: &Defaults) -> Self {
        Self {
            temperature: settings.temperature.or(model.temperature).unwrap_or(TEMPERATURE),
            top_p: settings.top_p.or(model.top_p).unwrap_or(1.0),
            top_k: model.top_k.unwrap_or(0),
            min_p: model.min_p.unwrap_or(0.0),
            repetition_penalty: model.repetition_penalty.unwrap_or(1.0),
        }
    }
}

impl Loaded {
    /// # Errors
    /// What this backend does not honour, and what the model cannot take.
    pub(super) fn prepare(&self, request: GenerationRequest, settings: &Settings) -> Result<Prepared, Error> {
        let GenerationRequest { input, sampling, choices, best_of, stream: _, logprobs } = request;
        let (prompt, reader, echo, parallel_tool_calls) = match &input {
            Input::Chat(chat) => {
                let (prompt, reader) = self.chat(chat)?;
                (prompt, reader, false, chat.parallel_tool_calls)
            }
            Input::Prompt(prompt) => (self.prompt_tokens(prompt)?, Reader::plain(), prompt.echo, true),
        };
        let limit = self.context_length();
        let SamplingParams {
            temperature,
            top_p,
            top_k,
            min_p,
            frequency_penalty,
            presence_penalty,
            repetition_penalty,
            logit_bias,
            seed,
            max_tokens,
            min_tokens,
            stop,
            stop_token_ids,
            ignore_eos,
        } = sampling;
        let vocabulary = self.engine.shape().vocabulary;
        if let Some((id, _)) = logit_bias.iter().find(|(id, _)| *id as usize >= vocabulary) {
            let message = format!("Token id {id} is not in this model's vocabulary of {vocabulary}.");
            return Err(Error::invalid("logit_bias", message));
        }
        // A limit that the request asks for must fit; the configured one bends to what room there is.
        let room = limit.saturating_sub(prompt.len());
        let max_tokens = match max_tokens {
            Some(wanted) => wanted as usize,
            None => (settings.max_tokens as usize).min(room.max(1)),
        };
        if prompt.len().saturating_add(max_tokens) > limit {
            return Err(Error::ContextLengthExceeded {
                limit: limit as u64,
                prompt: prompt.len() as u64,
                completion: max_tokens as u64,
            });
        }
        let logprobs = logprobs.map(|top| top as usize);
        let default = Drawing::new(settings, &self.defaults);
        let sampling = engine::Sampling {
            temperature: temperature.unwrap_or(default.temperature),
            top_p: top_p.unwrap_or(default.top_p),
            // -1 is how clients of other servers say "all".
            top_k: top_k.map_or(default.top_k, |k| usize::try_from(k).unwrap_or(0)),
            min_p: min_p.unwrap_or(default.min_p),
            repetition_penalty: repetition_penalty.unwrap_or(default.repetition_penalty),
            frequency_penalty,
            presence_penalty,
            logit_bias,
            seed: seed.map(i64::cast_unsigned),
            min_tokens: min_tokens as usize,
            max_tokens,
            eos: self.defaults.eos.clone(),
            stop_tokens: stop_token_ids,
            ignore_eos,
            // Without them the candidates cannot be told apart.
            logprobs: logprobs.or((best_of > choices).then_some(0)),
        };
        let plan = Plan {
            choices,
            best_of,
            stop,
            logprobs,
            echo: echo.then(|| prompt.clone()),
            prompt_tokens: prompt.len() as u64,
            reader,
            parallel_tool_calls,
            call_ids: CallIds::new(&prompt, self.format.has_short_call_ids()),
        };
        let prompt_logprobs = logprobs.filter(|_| echo);
        let request = engine::Request {
            prompt,
            choices: best_of,
            sampling,
            prompt_logprobs,
            adapter: None,
            cache_seed: 0,
        };
        Ok(Prepared { request, plan })
    }

    /// The tokens of a conversation, and the reader of what continues it.
    ///
    /// # Errors
    /// What this backend does not honour, and what the template refuses.
    pub(super) fn chat(&self, chat: &Chat) -> Result<(Vec<u32>, Reader), Error> {
        let refuse = |param: &str, what: &str| {
            Err(Error::unsupported(
                param,
                format!("{what} not supported by the candle backend: leave out '{param}'."),
            ))
        };
        self.takes_tools(chat)?;
        if chat.response_format != ResponseFormat::Text {
            return refuse("response_format", "Structured answers are");
        }
        if chat.verbosity.as_deref().is_some_and(|verbosity| verbosity != "medium") {
            return refuse("verbosity", "A verbosity other than 'medium' is");
        }
        let text = self.template.render(chat)?;
        let tools: Vec<String> = chat.offered().map(|tool| tool.name.clone()).collect();
        Ok((self.tokenizer.encode(&text, false)?, self.format.reader(&text, &tools)))
    }

    fn takes_tools(&self, chat: &Chat) -> Result<(), Error> {
        let offered = chat.offered().next().is_some();
        if offered && !self.format.has_calls() {
            let message = "How this model writes tool calls is not known: its chat template has none of the marks that are. \
                           Leave out 'tools'.";
            return Err(Error::unsupported("tools", message));
        }
        if matches!(
            chat.tool_choice,
            ToolChoice::Required | ToolChoice::Named(_) | ToolChoice::Allowed { required: true, names: _ }
        ) {
            let message =
                "The candle backend cannot force a tool call: use the 'tool_choice' 'auto' or 'none'.";
            return Err(Error::unsupported("tool_choice", message));
        }
        if offered && let Some(place) = chat.tools.iter().position(|tool| tool.strict) {
            let param = format!("tools[{place}].function.strict");
            let message = format!("The candle backend cannot hold a model to a schema: leave out '{param}'.");
            return Err(Error::unsupported(param, message));
        }
        Ok(())
    }

    fn prompt_tokens(&self, prompt: &Prompt) -> Result<Vec<u32>, Error> {
        if prompt.suffix.is_some() {
            let message = "A suffix is not supported by the candle backend: leave out 'suffix'.";
            return Err(Error::unsupported("suffix", message));
        }
        ids(&self.tokenizer, &prompt.text)
    }
}

/// A prompt as it stands, with the special tokens that its tokenizer puts around a text.
pub(super) fn ids(tokenizer: &Tokenizer, text: &PromptText) -> Result<Vec<u32>, Error> {
    match text {
        PromptText::Text(text) => tokenizer.encode(text, true),
        PromptText::Tokens(ids) => Ok(ids.clone()),
    }
}

/// What the engine refused, in the domain's words.
pub(super) fn refusal(error: engine::SubmitError) -> Error {
    use engine::SubmitError as E;
    match error {
        E::ContextLengthExceeded { limit, prompt, completion } => Error::ContextLengthExceeded {
            limit: limit as u64,
            prompt: prompt as u64,
            completion: completion as u64,
        },
        E::NeverFits { needed, limit } => {
            Error::ContextLengthExceeded { limit: limit as u64, prompt: needed as u64, completion: 0 }
        }
        E::QueueFull { waiting } => Error::Overloaded(format!(
            "The model already has {waiting} requests waiting. Please try again later."
        )),
        E::Stopped => Error::Unavailable("The model has stopped.".to_owned()),
        E::EmptyPrompt => Error::invalid("prompt", "The prompt has no tokens: give at least one."),
        E::NoChoices => Error::invalid("n", "At least one answer must be asked for."),
        E::UnknownToken { id, vocabulary } => {
            Error::invalid("", format!("Token id {id} is not in this model's vocabulary of {vocabulary}."))
        }
        E::NoSeed(error) => Error::Internal(format!("no random seed: {error}")),
    }
}
