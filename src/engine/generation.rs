//! The consumer's end of a request that runs.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
        mpsc::Sender,
    },
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use tokio::sync::mpsc;

use super::{
    runner::Command,
    sampling::{FinishReason, Logprob},
};

/// What a generation tells. `Prompt` comes first; a choice's tokens come in order, its `Finished` last.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The prompt has been run.
    Prompt {
        /// Tokens of it that were in the prefix cache.
        cached: usize,
        /// One entry for each token when asked for; `None` for the first, which nothing predicts.
        logprobs: Option<Vec<Option<Logprob>>>,
    },
    Token {
        choice: u32,
        id: u32,
        logprob: Option<Logprob>,
    },
    /// The token that ended the choice, if one did, came before.
    Finished {
        choice: u32,
        reason: FinishReason,
    },
    /// Ends the whole request.
    Failed(Failure),
}

/// Why a request ended without its answers. The texts are for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("the model failed: {0}")]
    Forward(String),
    #[error("the model panicked: {0}")]
    Panic(String),
    #[error("sampling failed: {0}")]
    Sampling(String),
    #[error("the engine has stopped")]
    Stopped,
}

/// The events of one request. Ends after every choice finished, or after `Failed`. Dropping it cancels the request
/// before the next step. While nobody takes its events its choices pause, and only they.
#[derive(Debug)]
pub struct Generation {
    pub(super) request: u64,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) link: Arc<Link>,
    /// Choices that neither finished nor were finished.
    pub(super) open: Vec<u32>,
}

/// What both ends share besides the channel.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) commands: Sender<Command>,
    /// The request is paused until its events are taken.
    starved: AtomicBool,
}

impl Link {
    pub(super) fn new(commands: Sender<Command>) -> Self {
        Self { commands, starved: AtomicBool::new(false) }
    }

    /// The engine's side: notes that the request pauses. Look for room once more afterwards; either that look sees the
    /// room or the consumer sees the note.
    pub(super) fn starve(&self) {
        self.starved.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The consumer's side, after it made room.
    fn feed(&self) {
        fence(Ordering::SeqCst);
        if self.starved.load(Ordering::Relaxed) && self.starved.swap(false, Ordering::Relaxed) {
            // Without an engine there is nothing to wake.
            let _ = self.commands.send(Command::Wake);
        }
    }
}

impl Generation {
    /// Ends a choice here, as on a stop string. Events of it that were under way may still come; no `Finished` does.
    pub fn finish(&mut self, choice: u32) {
        self.open.retain(|open| *open != choice);
        let _ = self.link.commands.send(Command::Finish { request: self.request, choice });
    }
}

impl Stream for Generation {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let Some(event) = ready!(self.events.poll_recv(context)) else {
            // The engine drops its end early only if it is gone.
            let lost = !std::mem::take(&mut self.open).is_empty();
            return Poll::Ready(lost.then_some(Event::Failed(Failure::Stopped)));
        };
        self.link.feed();
        match &event {
            Event::Finished { choice, .. } => self.open.retain(|open| open != choice),
            Event::Failed(_) => self.open.clear(),
            Event::Prompt { .. } | Event::Token { .. } => {}
        }
        Poll::Ready(Some(event))
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.events.close();
        let _ = self.link.commands.send(Command::Wake);
    }
}
