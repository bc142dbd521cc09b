//! `POST /completions`: what may be asked for, and what it means to a backend.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    api::{
        chat::{Delivery, StreamOptions},
        error::ApiError,
        payload::note_unknown,
        prompt::PromptInput,
        sampling,
        wire::TextOr,
    },
    generation::{GenerationRequest, Input, Prompt, PromptText, SamplingParams},
};

/// A prompt to be continued as it stands.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema, garde::Validate)]
#[garde(allow_unvalidated)]
#[schemars(example = serde_json::json!({ "model": "gpt-oss-20b", "prompt": "Once upon a time" }))]
pub struct CreateCompletionRequest {
    /// The model's id, as `GET /models` lists it.
    pub model: String,
    /// One prompt or several, as text or as token ids.
    pub prompt: PromptInput,
    /// What stands behind the place where the text is put.
    pub suffix: Option<String>,
    /// Repeat the prompt before the answer.
    pub echo: Option<bool>,
    /// Generate this many candidates and keep the best; at least `n`. Not with `stream`.
    #[garde(inner(range(max = 20)))]
    #[schemars(range(max = 20))]
    pub best_of: Option<u32>,
    /// How many answers to each prompt.
    #[garde(inner(range(min = 1, max = 128)))]
    #[schemars(range(min = 1, max = 128))]
    pub n: Option<u32>,
    /// Tokens that an answer may have; 16 when absent.
    #[garde(inner(range(max = MOST)))]
    #[schemars(range(max = MOST))]
    pub max_tokens: Option<u32>,
    /// 0 always takes the likeliest token; higher values draw more freely.
    #[garde(inner(range(min = 0.0, max = 2.0)))]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: Option<f64>,
    /// Draw from the likeliest tokens that together have this probability.
    #[garde(inner(range(min = 0.0, max = 1.0)))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top_p: Option<f64>,
    /// Draw from this many likeliest tokens; -1 and 0 mean all. (An extension.)
    #[garde(inner(range(min = -1, max = MOST as i64)))]
    #[schemars(range(min = -1, max = MOST))]
    pub top_k: Option<i64>,
    /// Draw from tokens with at least this share of the likeliest one's probability. (An extension.)
    #[garde(inner(range(min = 0.0, max = 1.0)))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_p: Option<f64>,
    /// Lowers the logits of tokens by how often they came in the answer.
    #[garde(inner(range(min = -2.0, max = 2.0)))]
    #[schemars(range(min = -2.0, max = 2.0))]
    pub frequency_penalty: Option<f64>,
    /// Lowers the logits of tokens that came in the answer.
    #[garde(inner(range(min = -2.0, max = 2.0)))]
    #[schemars(range(min = -2.0, max = 2.0))]
    pub presence_penalty: Option<f64>,
    /// Divides the logits of tokens that came in prompt or answer; 1 changes nothing. (An extension.)
    #[garde(inner(range(min = 0.01, max = 100.0)))]
    #[schemars(range(min = 0.01, max = 100.0))]
    pub repetition_penalty: Option<f64>,
    /// Added to the logits of token ids, from -100 to 100.
    #[garde(custom(sampling::bias_in_range))]
    pub logit_bias: Option<IndexMap<String, f64>>,
    /// With the same seed and the same request, the answer is the same.
    pub seed: Option<i64>,
    /// An answer ends before any of these texts.
    #[garde(custom(sampling::few_stops))]
    pub stop: Option<TextOr<String>>,
    /// An answer ends before any of these tokens. (An extension.)
    #[garde(inner(length(max = 1024)))]
    #[schemars(length(max = 1024))]
    pub stop_token_ids: Option<Vec<u32>>,
    /// Tokens that an answer must have before it may end. (An extension.)
    #[garde(inner(range(max = MOST)))]
    #[schemars(range(max = MOST))]
    pub min_tokens: Option<u32>,
    /// Go on past the end that the model sets, up to the limit. (An extension.)
    pub ignore_eos: Option<bool>,
    /// Tell the logprob of each token, and of this many of the likeliest ones.
    #[garde(inner(range(max = 5)))]
    #[schemars(range(max = 5))]
    pub logprobs: Option<u32>,
    /// Send the answer as server-sent events while it grows.
    pub stream: Option<bool>,
    pub stream_options: Option<StreamOptions>,
    /// Accepted; keys are told apart, not users.
    pub user: Option<String>,
    /// Fields that this API does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

const MOST: u32 = i32::MAX as u32;
/// OpenAI's default for this operation.
const DEFAULT_MAX_TOKENS: u32 = 16;
/// Prompts times answers that one request may ask for.
const MOST_CHOICES: usize = 2048;
/// Bytes of prompt for all answers together: each may hold its prompt.
const MOST_TEXT: usize = 64 << 20;

/// A request for each prompt, in order.
///
/// # Errors
/// Parameters that contradict each other.
pub(crate) fn convert(
    request: CreateCompletionRequest,
) -> Result<(Vec<GenerationRequest>, Delivery), ApiError> {
    let CreateCompletionRequest {
        model: _,
        prompt,
        suffix,
        echo,
        best_of,
        n,
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
        logprobs,
        stream,
        stream_options,
        user: _,
        extra,
    } = request;
    note_unknown(&extra);
    let delivery =
        Delivery { logprobs: logprobs.is_some(), ..Delivery::of_stream(stream, stream_options.as_ref())? };
    let choices = n.unwrap_or(1);
    let best_of = best_of.unwrap_or(choices);
    if best_of < choices {
        return Err(ApiError::invalid(
            "best_of",
            format!("'best_of' is {best_of}, but must be at least 'n' ({choices})."),
        ));
    }
    if best_of > choices && delivery.stream {
        return Err(ApiError::invalid("best_of", "'best_of' larger than 'n' cannot be streamed."));
    }
    let prompts = prompt.into_vec();
    if prompts.len() * choices as usize > MOST_CHOICES {
        let message =
            format!("{} prompts with {choices} answers each are more than {MOST_CHOICES}.", prompts.len());
        return Err(ApiError::invalid("prompt", message));
    }
    let text: usize = prompts.iter().map(PromptText::size).sum();
    if text.saturating_mul(choices as usize) > MOST_TEXT {
        let message = format!("{text} bytes of prompt, {choices} times, are more than {MOST_TEXT} bytes.");
        return Err(ApiError::invalid("prompt", message));
    }
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
        max_tokens: Some(max_tokens.unwrap_or(DEFAULT_MAX_TOKENS)),
        min_tokens: min_tokens.unwrap_or(0),
        stop: sampling::stops(stop),
        stop_token_ids: stop_token_ids.unwrap_or_default(),
        ignore_eos: ignore_eos.unwrap_or(false),
    };
    let requests = prompts.into_iter().map(|text| GenerationRequest {
        input: Input::Prompt(Prompt { text, suffix: suffix.clone(), echo: echo.unwrap_or(false) }),
        sampling: sampling.clone(),
        choices,
        best_of,
        stream: delivery.stream,
        logprobs,
    });
    Ok((requests.collect(), delivery))
}
