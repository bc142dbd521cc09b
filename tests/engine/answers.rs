//! What a generation told, put together.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use sconce::engine::{Event, Failure, FinishReason, Generation, Logprob};

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Answers {
    pub(crate) prompt: Option<Prompt>,
    pub(crate) choices: BTreeMap<u32, Answer>,
    pub(crate) failure: Option<Failure>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prompt {
    pub(crate) cached: usize,
    pub(crate) logprobs: Option<Vec<Option<Logprob>>>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) tokens: Vec<u32>,
    pub(crate) logprobs: Vec<Option<Logprob>>,
    pub(crate) reason: Option<FinishReason>,
}

impl Answers {
    /// Takes an event in, at a place where it may come.
    pub(crate) fn add(&mut self, event: Event) {
        assert_eq!(self.failure, None, "an event after the failure");
        match event {
            Event::Prompt { cached, logprobs } => {
                assert!(self.prompt.is_none() && self.choices.is_empty(), "the prompt comes once, and first");
                self.prompt = Some(Prompt { cached, logprobs });
            }
            Event::Token { choice, id, logprob } => {
                let answer = self.open(choice);
                answer.tokens.push(id);
                answer.logprobs.push(logprob);
            }
            Event::Finished { choice, reason } => self.open(choice).reason = Some(reason),
            Event::Failed(failure) => self.failure = Some(failure),
        }
    }

    fn open(&mut self, choice: u32) -> &mut Answer {
        assert!(self.prompt.is_some(), "the prompt comes first");
        let answer = self.choices.entry(choice).or_default();
        assert_eq!(answer.reason, None, "an event after the end of its choice");
        answer
    }

    /// The only answer, finished.
    pub(crate) fn only(self) -> Answer {
        assert_eq!((self.failure, self.choices.len()), (None, 1));
        let answer = self.choices.into_values().next().unwrap();
        assert!(answer.reason.is_some());
        answer
    }
}

/// All that comes until the end.
pub(crate) fn answers(mut generation: Generation) -> Answers {
    block_on(async {
        let mut answers = Answers::default();
        while let Some(event) = generation.next().await {
            answers.add(event);
        }
        answers
    })
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
