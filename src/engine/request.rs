//! What the engine is asked for, and what it refuses.

use super::sampling::Sampling;

/// One prompt and how to continue it.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Token ids; at least one.
    pub prompt: Vec<u32>,
    /// Answers wanted, numbered from 0; at least 1.
    pub choices: u32,
    pub sampling: Sampling,
    /// Report the logprob of each token of the prompt, and of this many likeliest ones. Runs the whole prompt: known
    /// prefixes have no logits.
    pub prompt_logprobs: Option<usize>,
    /// The number of the model's adapter that it runs through, where it has one.
    pub adapter: Option<u32>,
    /// Requests find each other's prefixes only where this is equal, and the adapter: a tenant that shares with nobody.
    pub cache_seed: u64,
}

impl Request {
    /// Tokens that the longest answer puts into the KV cache. The last token that is drawn is never run.
    pub(super) fn positions(&self) -> usize {
        self.prompt.len().saturating_add(self.sampling.max_tokens.saturating_sub(1))
    }
}

/// Why a request was not taken. All of these are known before anything runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// In tokens.
    #[error("{prompt} tokens of prompt and {completion} of completion exceed the context of {limit}")]
    ContextLengthExceeded { limit: usize, prompt: usize, completion: usize },
    /// In tokens: what the KV cache would have to hold for one choice, and what it can.
    #[error("the request needs {needed} tokens of KV cache; there are {limit}")]
    NeverFits { needed: usize, limit: usize },
    #[error("{waiting} requests are waiting already")]
    QueueFull { waiting: usize },
    #[error("the engine has stopped")]
    Stopped,
    #[error("the prompt is empty")]
    EmptyPrompt,
    #[error("no choices are asked for")]
    NoChoices,
    /// In the prompt or in the logit bias.
    #[error("token {id} is not in the vocabulary of {vocabulary}")]
    UnknownToken { id: u32, vocabulary: usize },
    #[error("no random seed from the operating system: {0}")]
    NoSeed(String),
}
