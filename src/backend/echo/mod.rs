//! The echo backend: deterministic answers without a model, complete enough to stand in for one in the test suites of
//! clients.
//!
//! - A conversation is answered by `Echo from {model}: {last user message}`, a prompt by `Echo from {model}: {prompt}`
//!   with the suffix behind it.
//! - Where the request demands a tool call, it is a call of that tool (of the first one when any will do); where it
//!   demands JSON, that JSON is the answer. Both are the smallest instance of the schema.
//! - The counts in `usage` are echo's own tokens, see [`tokens`]. The prompt of a conversation is counted as one line
//!   `role: content` a message.
//! - An embedding is a hash of its text. A document's score is the share of the query's words that it has.
//! - The same request gives the same answer, with any seed.

mod check;
mod embedding;
mod instance;
mod pattern;
mod pretence;
mod scalar;
mod tokens;
mod vectors;

use std::{collections::HashSet, iter, time::Duration};

use futures_util::future::{BoxFuture, FutureExt, pending, ready};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::pretence::Pretence;
use super::{Backend, Heartbeat, ModelCard, Readiness, Tokenizer};
use crate::generation::{
    Chat, EmbeddingRequest, Embeddings, Error, Events, FinishReason, GenerationEvent, GenerationRequest,
    Input, Prompt, PromptText, RerankRequest, ResponseFormat, Role, SamplingParams, Scores, TokenLogprob,
    Tool, ToolChoice, TopLogprob, Usage,
};

/// Tokens of all answers to one request, and logprobs in them: more than a model would give in a day, and less than
/// would fill a machine.
const MOST_TOKENS: usize = 4 << 20;
const MOST_LOGPROBS: usize = 1 << 20;

/// What the API reports for tokens that cannot come, as OpenAI's does: JSON has no minus infinity.
const IMPOSSIBLE: f64 = -9999.0;

/// Settings of the echo backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Config {
    /// Milliseconds to wait before each piece of an answer, streamed or not.
    #[garde(range(max = 60_000))]
    #[schemars(range(max = 60_000))]
    pub delay_ms: u64,
    /// Tokens of prompt and completion together; a longer request is refused as a model would refuse it.
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub context_length: u32,
    /// Length of an embedding when the request does not ask for another.
    #[garde(range(min = 1, max = LONGEST_EMBEDDING))]
    #[schemars(range(min = 1, max = LONGEST_EMBEDDING))]
    pub dimensions: u32,
    /// Milliseconds that loading takes, for tests of what waits for a model.
    #[garde(range(max = 600_000))]
    #[schemars(range(max = 600_000))]
    pub load_delay_ms: u64,
    /// After this many requests the backend takes more and answers none, as one that hangs would, for tests of what
    /// watches over it. Unset: it never hangs.
    pub stall_after: Option<u32>,
}

/// Two thousand of them are still an answer that can be sent.
const LONGEST_EMBEDDING: u32 = 4096;

impl Default for Config {
    fn default() -> Self {
        Self { delay_ms: 0, context_length: 131_072, dimensions: 256, load_delay_ms: 0, stall_after: None }
    }
}

/// Echo under one model id.
pub struct Echo {
    model: String,
    card: ModelCard,
    delay: Duration,
    dimensions: u32,
    max_tokens: u32,
    pretence: Pretence,
}

impl Echo {
    #[must_use]
    pub fn new(model: &str, config: &super::Config, created: u64) -> Self {
        Self {
            model: model.to_owned(),
            card: ModelCard {
                created,
                owner: "sconce".to_owned(),
                fingerprint: format!("echo-{}", env!("CARGO_PKG_VERSION")),
                context_length: config.echo.context_length,
            },
            delay: Duration::from_millis(config.echo.delay_ms),
            dimensions: config.echo.dimensions,
            max_tokens: config.max_tokens,
            pretence: Pretence::new(&config.echo),
        }
    }

    /// The whole answer to one request, and what it costs.
    fn answer(&self, request: &GenerationRequest) -> Result<Answer, Error> {
        let (prompt, lead, reply) = match &request.input {
            Input::Chat(chat) => (count(chat), String::new(), self.reply(chat)?),
            Input::Prompt(prompt) => self.continuation(prompt)?,
        };
        // Everything else in the parameters changes which tokens a model draws; echo draws none.
        let SamplingParams { max_tokens, min_tokens, stop, ignore_eos, logit_bias, stop_token_ids, .. } =
            &request.sampling;
        if let Some((id, _)) = logit_bias.iter().find(|(id, _)| *id >= tokens::VOCABULARY) {
            return Err(Error::invalid(
                "logit_bias",
                format!("Token id {id} is not in this model's vocabulary."),
            ));
        }
        if max_tokens.is_some_and(|most| *min_tokens > most) {
            let message = "'min_tokens' is larger than the limit of tokens.";
            return Err(Error::invalid("min_tokens", message));
        }
        let (mut text, call) = reply.into_parts();
        let whole = text.len();
        if let Some(cut) =
            stop.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop)).min()
        {
            text.truncate(cut);
        }
        if !stop_token_ids.is_empty() {
            let stops: HashSet<u32> = stop_token_ids.iter().copied().collect();
            let before = tokens::pieces(&text).take_while(|piece| !stops.contains(&tokens::id(piece)));
            text.truncate(before.map(str::len).sum());
        }
        let stopped = text.len() < whole;
        let said = tokens::count(&text);
        let most = max_tokens.map_or(usize::MAX, |n| n as usize);
        let endless = *ignore_eos && !stopped;
        let least = match max_tokens {
            _ if stopped || said == 0 => 0,
            _ if !endless => *min_tokens as usize,
            Some(most) => *most as usize,
            None => self.max_tokens as usize,
        };
        let tokens = said.max(least).min(most);
        let limit = u64::from(self.card.context_length);
        let completion = max_tokens.map_or(tokens as u64, u64::from);
        if prompt as u64 + completion > limit {
            return Err(Error::ContextLengthExceeded { limit, prompt: prompt as u64, completion });
        }
        fits(request, tokens + tokens::count(&lead))?;
        let reason = match &call {
            _ if said > most || endless => FinishReason::Length,
            None => FinishReason::Stop,
            Some(_) => FinishReason::ToolCalls,
        };
        Ok(Answer {
            tokens,
            once: tokens == said,
            text,
            call: call.map(|name| Call { id: call_id(&request.input, &name), name }),
            lead,
            reason,
            prompt: prompt as u64,
        })
    }

    fn reply(&self, chat: &Chat) -> Result<Reply, Error> {
        let call = |tool: &Tool| {
            let arguments = match &tool.parameters {
                None => "{}".to_owned(),
                Some(schema) => smallest_json(schema, "tools")?,
            };
            Ok(Reply::Call { name: tool.name.clone(), arguments })
        };
        let named = |name: &String| chat.tools.iter().find(|tool| tool.name == *name);
        let tool = match &chat.tool_choice {
            ToolChoice::None | ToolChoice::Auto | ToolChoice::Allowed { required: false, .. } => None,
            ToolChoice::Required => chat.tools.first(),
            ToolChoice::Named(name) => named(name),
            ToolChoice::Allowed { names, required: true } => names.iter().find_map(named),
        };
        if let Some(tool) = tool {
            return call(tool);
        }
        Ok(Reply::Text(match &chat.response_format {
            ResponseFormat::Text => {
                let last = chat.messages.iter().rfind(|message| message.role == Role::User);
                let said = last.map(|message| message.text()).unwrap_or_default();
                ["Echo from ", &self.model, ": ", &said].concat()
            }
            ResponseFormat::JsonObject => "{}".to_owned(),
            ResponseFormat::JsonSchema { schema, .. } => {
                smallest_json(schema, "response_format.json_schema.schema")?
            }
        }))
    }

    fn continuation(&self, prompt: &Prompt) -> Result<(usize, String, Reply), Error> {
        let text = prompt_text(&prompt.text)?;
        let suffix = prompt.suffix.as_deref().unwrap_or_default();
        let reply = Reply::Text(format!("Echo from {}: {text}{suffix}", self.model));
        let count = match &prompt.text {
            PromptText::Text(text) => tokens::count(text),
            PromptText::Tokens(ids) => ids.len(),
        };
        let lead = if prompt.echo { text } else { String::new() };
        Ok((count + tokens::count(suffix), lead, reply))
    }
}

/// Refuses what would fill the memory: many answers that are long, with many logprobs each.
fn fits(request: &GenerationRequest, tokens: usize) -> Result<(), Error> {
    let in_all = tokens.saturating_mul(request.choices as usize);
    if in_all > MOST_TOKENS {
        let message = format!("{} answers of {tokens} tokens are more than {MOST_TOKENS}.", request.choices);
        return Err(Error::invalid("n", message));
    }
    let told = request.logprobs.map_or(0, |top| in_all.saturating_mul(1 + top as usize));
    if told > MOST_LOGPROBS {
        let message = format!("{told} logprobs in all are more than {MOST_LOGPROBS}.");
        return Err(Error::invalid("logprobs", message));
    }
    Ok(())
}

/// What is said, before it is cut into tokens.
enum Reply {
    Text(String),
    Call { name: String, arguments: String },
}

impl Reply {
    /// The text, and the tool that it is the arguments of.
    fn into_parts(self) -> (String, Option<String>) {
        match self {
            Self::Text(text) => (text, None),
            Self::Call { name, arguments } => (arguments, Some(name)),
        }
    }
}

/// What is said.
struct Answer {
    /// Said once, from its start again where more tokens are wanted than it has, cut off where fewer are.
    text: String,
    /// How many tokens are said.
    tokens: usize,
    /// The tokens are those of the text.
    once: bool,
    /// The tool that is called; the text is its arguments.
    call: Option<Call>,
    /// The prompt, where the request wants it repeated.
    lead: String,
    reason: FinishReason,
    prompt: u64,
}

struct Call {
    id: String,
    name: String,
}

/// Differs from turn to turn of a conversation, and is the same whenever that turn is asked for again.
fn call_id(input: &Input, name: &str) -> String {
    let turn = match input {
        Input::Chat(chat) => transcript(chat),
        Input::Prompt(_) => String::new(),
    };
    let digest = Sha256::new().chain_update(name).chain_update([0]).chain_update(turn).finalize();
    digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

impl Answer {
    /// The tokens that are said.
    fn pieces(&self) -> impl Iterator<Item = &str> {
        tokens::pieces(&self.text).cycle().take(self.tokens)
    }

    /// All that is said, taken out of it. Mostly the text as it stands, whose tokens nobody needs to look at.
    fn take_whole(&mut self) -> String {
        if self.once { std::mem::take(&mut self.text) } else { self.pieces().collect() }
    }

    /// The event for a part of what `choice` says.
    fn event(&self, choice: u32, text: String, logprobs: Vec<TokenLogprob>) -> GenerationEvent {
        match &self.call {
            Some(_) => GenerationEvent::ToolArguments { choice, index: 0, piece: text },
            None => GenerationEvent::Text { choice, text, logprobs },
        }
    }
}

/// The logprobs of tokens, where they are wanted, with `top` alternatives each.
fn logprobs<'a>(pieces: impl Iterator<Item = &'a str>, top: Option<u32>) -> Vec<TokenLogprob> {
    top.map_or_else(Vec::new, |top| pieces.map(|piece| certain(piece, top)).collect())
}

/// The logprob of a token that could not have been another.
fn certain(piece: &str, count: u32) -> TokenLogprob {
    let token = |text: String, logprob| TopLogprob { bytes: text.clone().into_bytes(), token: text, logprob };
    let others = ('a'..='z').map(String::from).filter(|other| other != piece);
    let top = iter::once(token(piece.to_owned(), 0.0)).chain(others.map(|other| token(other, IMPOSSIBLE)));
    TokenLogprob {
        token: piece.to_owned(),
        bytes: piece.as_bytes().to_vec(),
        logprob: Some(0.0),
        top: top.take(count as usize).collect(),
    }
}

/// Writes the conversation as echo counts it.
fn write(chat: &Chat, mut out: impl FnMut(&str)) {
    for (place, message) in chat.messages.iter().enumerate() {
        if place > 0 {
            out("\n");
        }
        out(message.role.as_str());
        out(": ");
        out(&message.text());
    }
}

fn transcript(chat: &Chat) -> String {
    let mut text = String::new();
    write(chat, |part| text.push_str(part));
    text
}

fn count(chat: &Chat) -> usize {
    let mut counter = tokens::Counter::default();
    write(chat, |part| counter.read(part));
    counter.count
}

fn prompt_text(prompt: &PromptText) -> Result<String, Error> {
    match prompt {
        PromptText::Text(text) => Ok(text.clone()),
        PromptText::Tokens(ids) => detokenize(ids),
    }
}

fn detokenize(ids: &[u32]) -> Result<String, Error> {
    ids.iter()
        .enumerate()
        .map(|(place, id)| {
            tokens::text(*id).ok_or_else(|| {
                Error::invalid(
                    format!("[{place}]"),
                    format!("Token id {id} is not in this model's vocabulary."),
                )
            })
        })
        .collect()
}

fn smallest_json(schema: &serde_json::Value, param: &str) -> Result<String, Error> {
    instance::smallest(schema)
        .map(|value| value.to_string())
        .map_err(|error| Error::unsupported(param, error))
}

impl Backend for Echo {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn readiness(&self) -> Readiness {
        self.pretence.readiness()
    }

    fn load(&self) -> BoxFuture<'_, Result<(), String>> {
        self.pretence.load().map(Ok).boxed()
    }

    /// There is nothing to warm up, and the delay of answers is meant for clients.
    fn warm_up(&self) -> BoxFuture<'_, Result<(), String>> {
        ready(Ok(())).boxed()
    }

    fn heartbeat(&self) -> Option<Heartbeat> {
        Some(self.pretence.heartbeat())
    }

    fn generate(&self, request: GenerationRequest) -> BoxFuture<'_, Result<Events, Error>> {
        if !self.pretence.goes_on() {
            return pending().boxed();
        }
        let begun =
            self.answer(&request).map(|answer| Box::pin(play(answer, &request, self.delay)) as Events);
        ready(begun).boxed()
    }

    fn embed(&self, request: EmbeddingRequest) -> BoxFuture<'_, Result<Embeddings, Error>> {
        vectors::embed(self, request).boxed()
    }

    fn rerank(&self, request: RerankRequest) -> BoxFuture<'_, Result<Scores, Error>> {
        ready(vectors::rerank(self, &request)).boxed()
    }

    fn tokenizer(&self) -> Option<&dyn Tokenizer> {
        Some(self)
    }
}

impl Tokenizer for Echo {
    fn tokenize(&self, prompt: &PromptText) -> Result<Vec<u32>, Error> {
        match prompt {
            PromptText::Text(text) => Ok(tokens::pieces(text).map(tokens::id).collect()),
            PromptText::Tokens(ids) => Ok(ids.clone()),
        }
    }

    fn tokenize_chat(&self, chat: &Chat) -> Result<Vec<u32>, Error> {
        Ok(tokens::pieces(&transcript(chat)).map(tokens::id).collect())
    }

    fn detokenize(&self, tokens: &[u32]) -> Result<String, Error> {
        detokenize(tokens)
    }
}

/// Says the answer, a token an event while the client watches it grow, whole otherwise.
fn play(
    mut answer: Answer,
    request: &GenerationRequest,
    delay: Duration,
) -> impl futures_util::Stream<Item = Result<GenerationEvent, Error>> + Send + use<> {
    let &GenerationRequest { choices, best_of, stream, logprobs: top, .. } = request;
    async_stream::stream! {
        for choice in 0..choices {
            if !answer.lead.is_empty() {
                let mut logprobs = logprobs(tokens::pieces(&answer.lead), top);
                if let Some(first) = logprobs.first_mut() {
                    // Nothing predicts a prompt's first token.
                    first.logprob = None;
                    first.top.clear();
                }
                yield Ok(answer.event(choice, answer.lead.clone(), logprobs));
            }
            if let Some(Call { id, name }) = &answer.call {
                let id = format!("call_{id}{choice:02}");
                yield Ok(GenerationEvent::ToolCall { choice, index: 0, id, name: name.clone() });
            }
        }
        if stream || !delay.is_zero() {
            for piece in answer.pieces() {
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                for choice in 0..choices {
                    yield Ok(answer.event(choice, piece.to_owned(), logprobs(iter::once(piece), top)));
                }
            }
        } else if answer.tokens > 0 {
            let told = iter::repeat_n(logprobs(answer.pieces(), top), choices as usize);
            let whole = iter::repeat_n(answer.take_whole(), choices as usize);
            for (choice, (whole, told)) in (0..).zip(whole.zip(told)) {
                yield Ok(answer.event(choice, whole, told));
            }
        }
        for choice in 0..choices {
            yield Ok(GenerationEvent::Finished { choice, reason: answer.reason });
        }
        let completion = answer.tokens as u64 * u64::from(best_of.max(choices));
        yield Ok(GenerationEvent::Done(Usage { prompt: answer.prompt, completion, reasoning: 0, cached: 0 }));
    }
}
