//! One request while it runs: what its choices draw and what its consumer is told.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{
    generation::{Event, Failure, Link},
    logprobs::{is_finite, logprob},
    sampler::{Sampler, Scratch, Undrawable},
    sampling::{FinishReason, Logprob, Sampling},
};

/// What one choice may tell in one step: `Prompt`, `Token`, `Finished`.
pub(super) const EVENTS_A_STEP: usize = 3;

pub(super) struct Active {
    events: mpsc::Sender<Event>,
    link: Arc<Link>,
    settings: Arc<Sampling>,
    /// Of the choices that have not ended.
    samplers: BTreeMap<u32, Sampler>,
    /// Its place in the queue, until it first runs.
    place: Option<OwnedSemaphorePermit>,
    scores: Option<Scores>,
    prompt_told: bool,
}

/// Logprobs of the prompt's tokens, as far as they have been computed.
struct Scores {
    top: usize,
    prompt: Vec<u32>,
    entries: Vec<Option<Logprob>>,
}

/// How a choice goes on.
pub(super) enum Outcome {
    Continues(u32),
    /// The choice is over, with so many tokens drawn for it in this step.
    Ended {
        drawn: usize,
    },
}

impl Active {
    pub(super) fn new(
        events: mpsc::Sender<Event>,
        link: Arc<Link>,
        place: OwnedSemaphorePermit,
        settings: Arc<Sampling>,
        samplers: BTreeMap<u32, Sampler>,
    ) -> Self {
        Self { events, link, settings, samplers, place: Some(place), scores: None, prompt_told: false }
    }

    /// Collects the logprobs of these tokens, and of the `top` likeliest ones.
    pub(super) fn score_prompt(&mut self, prompt: Vec<u32>, top: usize) {
        self.scores = Some(Scores { top, prompt, entries: vec![None] });
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// Its consumer was told nothing yet.
    pub(super) fn is_silent(&self) -> bool {
        !self.prompt_told
    }

    /// Notes that it runs: it does not stand in the queue any more.
    pub(super) fn runs(&mut self) {
        self.place = None;
    }

    /// The channel has room for all that one step may bring, and one place more, which is kept for `Failed`. Asks to be
    /// woken when it has not.
    pub(super) fn has_room(&self) -> bool {
        let room = || self.events.capacity() > EVENTS_A_STEP * self.samplers.len();
        room() || {
            self.link.starve();
            room()
        }
    }

    /// Takes the rows of the prompt's tokens from place `start` on, `vocabulary` logits each.
    pub(super) fn score(&mut self, start: usize, rows: &[f32], vocabulary: usize) -> Result<(), Undrawable> {
        let Some(Scores { top, prompt, entries }) = &mut self.scores else { return Ok(()) };
        for (row, next) in rows.chunks_exact(vocabulary).zip(start + 1..) {
            // A sequence that was preempted brings its first rows twice.
            if let Some(&token) = prompt.get(next)
                && entries.len() == next
            {
                if !is_finite(row) {
                    return Err(Undrawable);
                }
                entries.push(Some(logprob(row, token, *top)));
            }
        }
        Ok(())
    }

    /// Takes the row after a choice's last token, and tells what comes of it. `cached` is the prompt's.
    pub(super) fn answer(
        &mut self,
        choice: u32,
        row: &[f32],
        cached: usize,
        scratch: &mut Scratch,
    ) -> Result<Outcome, Undrawable> {
        let Some(sampler) = self.samplers.get_mut(&choice) else { return Ok(Outcome::Ended { drawn: 0 }) };
        if self.settings.max_tokens == 0 {
            self.tell_prompt(cached);
            return Ok(self.end(choice, FinishReason::Length, 0));
        }
        let sampled = sampler.sample(row, scratch)?;
        let ends = self.settings.ends(sampled.id, sampler.drawn());
        self.tell_prompt(cached);
        self.tell(Event::Token { choice, id: sampled.id, logprob: sampled.logprob });
        Ok(match ends {
            Some(reason) => self.end(choice, reason, 1),
            None => Outcome::Continues(sampled.id),
        })
    }

    /// The choice is over without another word. `true` if it was the last.
    pub(super) fn close(&mut self, choice: u32) -> bool {
        self.samplers.remove(&choice);
        self.samplers.is_empty()
    }

    pub(super) fn fail(self, failure: Failure) {
        self.tell(Event::Failed(failure));
    }

    fn end(&mut self, choice: u32, reason: FinishReason, drawn: usize) -> Outcome {
        self.tell(Event::Finished { choice, reason });
        Outcome::Ended { drawn }
    }

    fn tell_prompt(&mut self, cached: usize) {
        if !std::mem::replace(&mut self.prompt_told, true) {
            let complete = self.scores.take().filter(|scores| scores.entries.len() == scores.prompt.len());
            self.tell(Event::Prompt { cached, logprobs: complete.map(|scores| scores.entries) });
        }
    }

    fn tell(&self, event: Event) {
        // It fails only if the consumer is gone: `has_room` was asked before the step. The next step sees that.
        let _ = self.events.try_send(event);
    }
}
