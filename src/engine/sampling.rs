//! How tokens of a request are drawn and where its answers end: the values that are used, nothing left to default.

/// The settings of a request; each of its choices is drawn with them.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token.
    pub temperature: f64,
    /// Draw among this many likeliest tokens; 0 is all.
    pub top_k: usize,
    /// Draw among the fewest tokens that have this probability together; 1 is all.
    pub top_p: f64,
    /// Draw among tokens with at least this share of the likeliest one's probability; 0 is all.
    pub min_p: f64,
    /// Divides the positive logits and multiplies the negative ones of tokens in prompt or answer; 1 is none.
    pub repetition_penalty: f64,
    /// Taken off a token's logit for each time that the answer has it.
    pub frequency_penalty: f64,
    /// Taken off a token's logit once the answer has it.
    pub presence_penalty: f64,
    /// Added to the logits of these token ids.
    pub logit_bias: Vec<(u32, f64)>,
    /// Without one the engine draws one from the operating system.
    pub seed: Option<u64>,
    /// Tokens that an answer has before an end-of-sequence or stop token may be drawn.
    pub min_tokens: usize,
    /// Tokens after which it ends. With 0 the prompt is run and nothing is drawn.
    pub max_tokens: usize,
    /// The model's end-of-sequence tokens.
    pub eos: Vec<u32>,
    /// Tokens that end this request's answers besides those.
    pub stop_tokens: Vec<u32>,
    /// End-of-sequence tokens are drawn like any other and end nothing.
    pub ignore_eos: bool,
    /// Report the logprob of each token, and of this many likeliest ones.
    pub logprobs: Option<usize>,
}

impl Sampling {
    /// The likeliest token each time, up to `max_tokens`.
    #[must_use]
    pub fn greedy(max_tokens: usize) -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
            min_tokens: 0,
            max_tokens,
            eos: Vec::new(),
            stop_tokens: Vec::new(),
            ignore_eos: false,
            logprobs: None,
        }
    }

    /// Why an answer of `length` tokens, `last` the last of them, ends there.
    #[must_use]
    pub fn ends(&self, last: u32, length: usize) -> Option<FinishReason> {
        if length > self.min_tokens {
            if !self.ignore_eos && self.eos.contains(&last) {
                return Some(FinishReason::Eos);
            }
            if self.stop_tokens.contains(&last) {
                return Some(FinishReason::StopToken(last));
            }
        }
        (length >= self.max_tokens).then_some(FinishReason::Length)
    }

    /// Tokens that an answer of `length` tokens must not continue with.
    pub(super) fn forbidden(&self, length: usize) -> impl Iterator<Item = u32> {
        let eos: &[u32] = if self.ignore_eos { &[] } else { &self.eos };
        let early = length < self.min_tokens;
        self.stop_tokens.iter().chain(eos).copied().filter(move |_| early)
    }

    pub(super) fn penalises(&self) -> bool {
        self.repetition_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }
}

/// Why a choice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    Eos,
    StopToken(u32),
    Length,
}

/// How likely the model found a token, before any setting of the request.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprob {
    /// Natural logarithm of the probability.
    pub value: f64,
    /// The likeliest tokens, likeliest first.
    pub top: Vec<(u32, f64)>,
}
