//! From a row of logits to a token.
//!
//! The order is vLLM's (`vllm/v1/sample/sampler.py`): raw logprobs; bans and logit bias; repetition, frequency and
//! presence penalties; temperature; min_p; top_k; top_p. Arithmetic is f64, sums run in token order, equal values are
//! ordered by token id: a row and a place give one token whatever else is going on.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use super::{
    logprobs::{is_finite, logprob},
    math::exp,
    random::uniform,
    sampling::{Logprob, Sampling},
};

/// The model's logits leave nothing to draw from: not numbers, infinite, or every token ruled out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no token can be drawn: the logits are not finite, or every token is ruled out")]
pub struct Undrawable;

/// A token that was drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    pub id: u32,
    pub logprob: Option<Logprob>,
}

/// Draws the tokens of one choice, one after the other.
#[derive(Debug)]
pub struct Sampler {
    settings: Arc<Sampling>,
    seed: u64,
    choice: u32,
    drawn: usize,
    /// Empty without penalties.
    occurrences: BTreeMap<u32, Occurrences>,
}

/// How often the answer has a token. A token that only the prompt has stands with 0: it takes the repetition penalty.
type Occurrences = u32;

/// Memory for one row, reused from one to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    logits: Vec<f64>,
    candidates: Vec<Candidate>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    id: u32,
    /// Logit, less the row's highest.
    logit: f64,
    /// Probability, relative to the likeliest candidate's.
    weight: f64,
}

impl Sampler {
    #[must_use]
    pub fn new(settings: Arc<Sampling>, seed: u64, choice: u32, prompt: &[u32]) -> Self {
        let prompt = if settings.penalises() { prompt } else { &[] };
        let occurrences = prompt.iter().map(|&id| (id, 0)).collect();
        Self { settings, seed, choice, drawn: 0, occurrences }
    }

    /// Tokens drawn so far.
    #[must_use]
    pub fn drawn(&self) -> usize {
        self.drawn
    }

    /// Draws the next token from a row of `vocabulary` logits.
    pub fn sample(&mut self, row: &[f32], scratch: &mut Scratch) -> Result<Sampled, Undrawable> {
        if !is_finite(row) {
            return Err(Undrawable);
        }
        scratch.logits.clear();
        scratch.logits.extend(row.iter().copied().map(f64::from));
        self.adjust(&mut scratch.logits);
        let (likeliest, highest) = argmax(&scratch.logits).ok_or(Undrawable)?;
        let id = if self.settings.temperature == 0.0 { likeliest } else { self.draw(highest, scratch)? };
        let logprob = self.settings.logprobs.map(|top| logprob(row, id, top));
        self.drawn += 1;
        if self.settings.penalises() {
            *self.occurrences.entry(id).or_default() += 1;
        }
        Ok(Sampled { id, logprob })
    }

    /// What the request says about single tokens. Ids beyond the vocabulary are passed over.
    fn adjust(&self, logits: &mut [f64]) {
        let settings = &self.settings;
        for id in settings.forbidden(self.drawn) {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = f64::NEG_INFINITY;
            }
        }
        for &(id, bias) in &settings.logit_bias {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit += bias;
            }
        }
        for (&id, &count) in &self.occurrences {
            let Some(logit) = logits.get_mut(id as usize) else { continue };
            *logit = if *logit > 0.0 {
                *logit / settings.repetition_penalty
            } else {
                *logit * settings.repetition_penalty
            };
            if count > 0 {
                *logit -= settings.frequency_penalty * f64::from(count);
                *logit -= settings.presence_penalty;
            }
        }
    }

    /// Inverts the distribution function of the candidates, which stand in token order.
    fn draw(&self, highest: f64, scratch: &mut Scratch) -> Result<u32, Undrawable> {
        let Scratch { logits, candidates } = scratch;
        candidates.clear();
        candidates.extend((0u32..).zip(logits.iter()).filter(|(_, logit)| **logit > f64::NEG_INFINITY).map(
            // Relative to the highest: neither the quotient nor its exponential can overflow. Adding 0 makes a negative
            // zero equal to zero in the total order too.
            |(id, logit)| Candidate { id, logit: logit - highest + 0.0, weight: 0.0 },
        ));
        // top_k stands before min_p here, which keeps the same tokens (both keep the head of one order) and saves the
        // exponentials of the rest.
        keep_likeliest(candidates, self.settings.top_k);
        for candidate in candidates.iter_mut() {
            candidate.weight = exp(candidate.logit / self.settings.temperature);
        }
        if self.settings.min_p > 0.0 {
            candidates.retain(|candidate| candidate.weight >= self.settings.min_p);
        }
        keep_nucleus(candidates, self.settings.top_p);
        let position = u64::try_from(self.drawn).unwrap_or(u64::MAX);
        let target = uniform(self.seed, self.choice, position) * mass(candidates);
        let mut sum = 0.0;
        let drawn = candidates.iter().find(|candidate| {
            sum += candidate.weight;
            sum > target
        });
        // The product may round up to the whole mass.
        let last = || candidates.iter().rfind(|candidate| candidate.weight > 0.0);
        drawn.or_else(last).map(|candidate| candidate.id).ok_or(Undrawable)
    }
}

/// The highest logit and its token, the lowest id of equals. `None` unless it is a finite number.
fn argmax(logits: &[f64]) -> Option<(u32, f64)> {
    let mut best = (0, f64::NEG_INFINITY);
    for (id, &logit) in (0u32..).zip(logits) {
        if logit.is_nan() {
            return None;
        }
        if logit > best.1 {
            best = (id, logit);
        }
    }
    best.1.is_finite().then_some(best)
}

/// Likeliest first, then by id.
fn likeliest_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

fn mass(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| candidate.weight).sum()
}

/// Keeps `k` candidates, or all with 0. Leaves them in token order.
fn keep_likeliest(candidates: &mut Vec<Candidate>, k: usize) {
    if k == 0 || k >= candidates.len() {
        return;
    }
    candidates.select_nth_unstable_by(k - 1, likeliest_first);
    candidates.truncate(k);
    candidates.sort_unstable_by_key(|candidate| candidate.id);
}

/// Keeps the fewest candidates with `top_p` of the mass, at least one. Leaves them in token order.
fn keep_nucleus(candidates: &mut Vec<Candidate>, top_p: f64) {
    if top_p >= 1.0 {
        return;
    }
    let enough = top_p * mass(candidates);
    let mut sum = 0.0;
    let mut sorted = 0;
    // The nucleus is small as a rule: sort the head, then eight times as much while that is not enough.
    let mut size = 128;
    'search: while sorted < candidates.len() {
        let end = candidates.len().min(size);
        if end < candidates.len() {
            candidates[sorted..].select_nth_unstable_by(end - sorted, likeliest_first);
        }
        candidates[sorted..end].sort_unstable_by(likeliest_first);
        for place in sorted..end {
            if sum >= enough && place > 0 {
                candidates.truncate(place);
                break 'search;
            }
            sum += candidates[place].weight;
        }
        sorted = end;
        size *= 8;
    }
    candidates.sort_unstable_by_key(|candidate| candidate.id);
}
