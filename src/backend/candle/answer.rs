//! From the engine's tokens to an answer in words.

use std::sync::Arc;

use futures_util::{Stream, StreamExt};

use super::{Loaded, choice::Choice, prepare::Plan};
use crate::{
    engine::{Event, Failure, Generation, Logprob},
    generation::{Error, GenerationEvent, TokenLogprob, TopLogprob, Usage},
};

/// Gives out a generation's text as it grows; with more candidates than answers, the best ones at the end.
pub(super) fn stream(
    loaded: Arc<Loaded>,
    mut generation: Generation,
    plan: Plan,
) -> impl Stream<Item = Result<GenerationEvent, Error>> + Send {
    async_stream::stream! {
        let mut answer = Answer::new(loaded, plan);
        let mut candidates = Vec::new();
        while !answer.is_done() {
            let Some(event) = generation.next().await else { break };
            let told = match answer.hear(event) {
                Ok(told) => told,
                Err(error) => {
                    yield Err(error);
                    return;
                }
            };
            for event in told {
                if let GenerationEvent::Finished { choice, .. } = event {
                    generation.finish(choice);
                }
                if answer.chooses() {
                    candidates.push(event);
                } else {
                    yield Ok(event);
                }
            }
        }
        for event in answer.best(candidates) {
            yield Ok(event);
        }
        yield Ok(GenerationEvent::Done(answer.usage()));
    }
}

/// A generation's choices on their way to text.
struct Answer {
    loaded: Arc<Loaded>,
    plan: Plan,
    choices: Vec<Choice>,
    cached: u64,
}

impl Answer {
    fn new(loaded: Arc<Loaded>, plan: Plan) -> Self {
        let choices = (0..plan.best_of).map(|number| Choice::new(number, &plan)).collect();
        Self { loaded, plan, choices, cached: 0 }
    }

    fn is_done(&self) -> bool {
        self.choices.iter().all(Choice::is_over)
    }

    fn chooses(&self) -> bool {
        self.plan.best_of > self.plan.choices
    }

    /// What one event of the engine says.
    fn hear(&mut self, event: Event) -> Result<Vec<GenerationEvent>, Error> {
        let mut told = Vec::new();
        match event {
            Event::Prompt { cached, logprobs } => {
                self.cached = cached as u64;
                if let Some(ids) = &self.plan.echo {
                    let (text, logprobs) = self.loaded.repeat(ids, logprobs);
                    told.extend((0..self.plan.best_of).map(|choice| GenerationEvent::Text {
                        choice,
                        text: text.clone(),
                        logprobs: logprobs.clone(),
                    }));
                }
            }
            Event::Token { choice, id, logprob } => {
                if let Some(choice) = running(&mut self.choices, choice) {
                    told = choice.push(&self.loaded, &self.plan, id, logprob);
                }
            }
            Event::Finished { choice, reason } => {
                if let Some(choice) = running(&mut self.choices, choice) {
                    told = choice.finish(&self.plan, reason);
                }
            }
            Event::Failed(Failure::Stopped) => {
                return Err(Error::Unavailable("The model was stopped.".to_owned()));
            }
            Event::Failed(failure) => return Err(Error::Internal(failure.to_string())),
        }
        Ok(told)
    }

    /// The events of the best candidates by mean logprob, as answers from 0 on; the earlier of equals is better.
    fn best(&self, candidates: Vec<GenerationEvent>) -> Vec<GenerationEvent> {
        let mut order: Vec<usize> = (0..self.choices.len()).collect();
        order.sort_by(|a, b| self.choices[*b].mean().total_cmp(&self.choices[*a].mean()));
        let mut rank = vec![None; self.choices.len()];
        for (place, choice) in (0..self.plan.choices).zip(order) {
            rank[choice] = Some(place);
        }
        let kept = candidates.into_iter().filter_map(|event| {
            let place = rank.get(event.choice()? as usize).copied().flatten()?;
            Some(event.with_choice(place))
        });
        kept.collect()
    }

    fn usage(&self) -> Usage {
        Usage {
            prompt: self.plan.prompt_tokens,
            completion: self.choices.iter().map(Choice::tokens).sum(),
            reasoning: self.choices.iter().map(Choice::reasoning_tokens).sum(),
            cached: self.cached,
        }
    }
}

/// The choice, unless it has ended: tokens that were under way when a stop text ended it are none of its answer.
fn running(choices: &mut [Choice], number: u32) -> Option<&mut Choice> {
    choices.get_mut(number as usize).filter(|choice| !choice.is_over())
}

impl Loaded {
    pub(super) fn describe(&self, id: u32, logprob: Option<Logprob>) -> TokenLogprob {
        let (bytes, token) = self.spell(id);
        let (logprob, top) = match logprob {
            Some(Logprob { value, top }) => (Some(value), top),
            None => (None, vec![]),
        };
        let top = top.into_iter().map(|(id, logprob)| {
            let (bytes, token) = self.spell(id);
            TopLogprob { token, bytes, logprob }
        });
        TokenLogprob { token, bytes, logprob, top: top.collect() }
    }

    /// A control token is no text, wherever text is told.
    fn spell(&self, id: u32) -> (Vec<u8>, String) {
        let told = !self.tokenizer.is_special(id);
        let bytes = self.tokenizer.token_bytes(id).filter(|_| told).unwrap_or_default().to_vec();
        let token = String::from_utf8_lossy(&bytes).into_owned();
        (bytes, token)
    }

    /// The prompt as the answer repeats it.
    fn repeat(&self, ids: &[u32], logprobs: Option<Vec<Option<Logprob>>>) -> (String, Vec<TokenLogprob>) {
        // The engine has checked that the ids exist.
        let text = self.tokenizer.decode(ids, true).unwrap_or_default();
        let logprobs = logprobs.into_iter().flatten();
        (text, ids.iter().zip(logprobs).map(|(id, logprob)| self.describe(*id, logprob)).collect())
    }
}
